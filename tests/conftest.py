import functools
import inspect
import os
import pathlib
import random
import re
import runpy

from tests import environment  # noqa: F401  # before anything imports jax

# isort: split
import jax
import numpy as np
import pytest
from absl import flags
from PIL import Image

from hyperjax import (
  command_line,
  main,  # noqa: F401  # defines its flags
)
from hyperjax.config import load
from hyperjax.data import pen_lines, stroke_files
from tests.costs import Costs

REPOSITORY = pathlib.Path(__file__).parent.parent
REAL_FILES = pathlib.Path(os.environ.get('HYPERJAX_DATA_DIR') or '/nowhere')
SIZES = {'train': 8, 'valid': 3, 'test': 2}  # of `lines_file`


def pytest_addoption(parser):
  parser.addoption('--costs', metavar='FILE', help='write costs by file (JSON)')
  parser.addoption(
    '--quick', action='store_true', help='only files of small parts'
  )


def pytest_configure(config):
  if config.option.costs:
    config.pluginmanager.register(Costs(config))


# Files that train whole runs, start processes or compile much. The others take
# about a minute, on two cores and from a warm cache.
LARGE = (
  'tests/test_*.py',
  'tests/experiments/*.py',
  'tests/faults/*.py',
  'tests/fuzz/*.py',
  'tests/models/*.py',
  'tests/sweeps/engines/*.py',
  *('tests/sweeps/test_command.py', 'tests/sweeps/test_report.py'),
  *('tests/tasks/test_handwriting.py', 'tests/tasks/test_translation.py'),
  'tests/training/test_accumulate.py',
  *('tests/training/test_checkpoint.py', 'tests/training/test_session.py'),
  *('tests/nn/test_hypernetwork.py', 'tests/nn/test_unroll.py'),
  *('tests/nn/test_window.py', 'tests/nn/test_supercell.py'),
  *('tests/nn/test_kernels.py', 'tests/nn/test_precision.py'),
  *('tests/ops/test_fused_lstm.py', 'tests/ops/test_shuffle.py'),
  *('tests/evaluation/test_beam_search.py', 'tests/evaluation/test_dynamic.py'),
  *('tests/nn/test_trace.py', 'tests/tasks/test_language_model.py'),
  'tests/sweeps/test_check.py',
  'tests/pictures/test_curves.py',
  *('tests/data/test_builders.py', 'tests/data/test_text.py'),
  *('tests/data/test_strokes.py', 'tests/data/test_pen_font.py'),
  'tests/data/test_enwik8.py',
)
SMALL = ('test_by_name', 'test_errors', 'test_workdir')


def is_large(path: pathlib.Path) -> bool:
  return path.stem not in SMALL and any(map(path.match, LARGE))


def pytest_ignore_collect(collection_path, config):
  left_out = config.option.quick and is_large(collection_path)
  return True if left_out else None  # None: as usual


def pytest_collection_modifyitems(items):
  # The small files come last, so that no worker ends long before the others.
  items.sort(key=lambda item: not is_large(item.path))


def pytest_runtest_setup(item):
  if item.get_closest_marker('gpu') and jax.default_backend() != 'gpu':
    pytest.skip('needs an NVIDIA GPU')
  for marker in item.iter_markers('data'):
    for name in marker.args:
      if not (REAL_FILES / name).exists():
        pytest.skip(f'needs {name} under $HYPERJAX_DATA_DIR')


@pytest.fixture
def repository() -> pathlib.Path:
  return REPOSITORY


@pytest.fixture
def forget():
  """Forgets the flags that were parsed, and those of a config."""
  known = set(flags.FLAGS)

  def forget():
    for name in set(flags.FLAGS) - known:
      delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()

  return forget


@pytest.fixture
def parse(forget):
  """The flags of `main`, parsed as if in a process of its own."""
  yield lambda *words: command_line.parse_with_config(['main', *words])
  forget()


@pytest.fixture
def script(monkeypatch):
  """Runs a script of `scripts/` in this process, as its name and flags say."""

  def run(name, *words):
    # Flags of its own, for those of others have the same names.
    own = flags.FlagValues()
    with monkeypatch.context() as patch:
      for kind in filter(re.compile('DEFINE_').match, dir(flags)):
        define = getattr(flags, kind)
        if 'flag_values' in inspect.signature(define).parameters:
          define = functools.partial(define, flag_values=own)
          patch.setattr(flags, kind, define)
      patch.syspath_prepend(REPOSITORY / 'scripts')
      loaded = runpy.run_path(f'{REPOSITORY}/scripts/{name}.py')
    loaded['main'](own([name, *words]))

  return run


def write_text(path: pathlib.Path) -> None:
  """A text with something to learn: words of a small, skewed vocabulary."""
  rng = random.Random(0)
  words = ['the', 'cat', 'sat', 'on', 'a', 'mat', 'and', 'purred', '.\n']
  text = ' '.join(rng.choices(words, weights=range(9, 0, -1), k=6000))
  path.write_text(text)


def write_images(root: pathlib.Path) -> None:
  """Two classes of small images."""
  rng = np.random.default_rng(0)
  for split, count in (('train', 40), ('test', 8)):
    for label, name in enumerate(('dark', 'light')):
      (root / split / name).mkdir(parents=True)
      for k in range(count):
        image = rng.integers(120, size=(8, 8, 3)) + 100 * label
        Image.fromarray(image.astype(np.uint8)).save(
          root / split / name / f'{k}.png'
        )


@pytest.fixture(scope='session')
def text_file(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp('text') / 'text.txt'
  write_text(path)
  return path


@pytest.fixture(scope='session')
def small_images(tmp_path_factory):
  root = tmp_path_factory.mktemp('images')
  write_images(root)
  return root


@pytest.fixture(scope='session')
def lines_file(tmp_path_factory):
  """Waves of 12 to 24 points, a stroke or two each, and what they say."""
  rng = np.random.default_rng(0)
  splits = {}
  for split, count in SIZES.items():
    splits[split] = []
    for k in range(count):
      x = np.arange(12 + rng.integers(13))
      wave = np.stack([3 * x, 4 * np.sin(x)], axis=1)
      wave += rng.normal(0, 0.3, wave.shape)
      strokes = [wave[:7], wave[7:]]
      splits[split].append(
        pen_lines.from_strokes(f'{split}-{k}', 'no so on'[k:], strokes)
      )
  path = tmp_path_factory.mktemp('lines') / 'lines.json'
  stroke_files.write(path, splits)
  return path


@pytest.fixture(scope='session')
def pairs_file(tmp_path_factory):
  """Sentences of a small language, and the same in capitals, turned around."""
  rng = random.Random(0)
  words = [
    'the',
    'cat',
    'sat',
    'on',
    'a',
    'mat',
    'and',
    'purred',
    'while',
    'it',
    'ate',
    'red',
    'fish',
  ]
  sentences = {
    ' '.join(rng.choices(words, k=rng.randint(2, 9))) for _ in range(500)
  }
  pairs = [
    f'{line}\t{" ".join(line.upper().split()[::-1])}\n'
    for line in sorted(sentences)
  ]
  path = tmp_path_factory.mktemp('pairs') / 'pairs.tsv'
  path.write_text(''.join(pairs))
  return path


@pytest.fixture(scope='session')
def make_translation_config(pairs_file):
  """Makes configs of a translation run of seconds."""

  def make(row='lstm'):
    config = load(f'{REPOSITORY}/configs/multi30k.py:{row},smoke')
    del config.data.dir
    config.data.update(
      {
        'name': 'translation',
        'path': str(pairs_file),
        'vocab_size': 60,
        'tokens_per_batch': 128,
        'num_buckets': 2,
      }
    )
    config.model.update(
      {
        'hidden_size': 16,
        'embedding_size': 12,
        'attention_size': 8,
        'hyper_size': 5,
        'z_size': 3,
      }
    )
    config.optimizer.update({'learning_rate': 2e-2, 'warmup_steps': 5})
    config.train.update(
      {
        'num_steps': 24,
        'eval_every': 12,
        'checkpoint_every': 6,
        'log_every': 3,
        'steps_per_dispatch': 4,
      }
    )
    config.eval.update({'num_streams': 32, 'quick_streams': 32})
    config.eval.split = 'test'
    config.sample.update(
      {'text': 'the cat sat\n\nthe fish', 'beam_size': 2, 'batch_size': 32}
    )
    return config

  return make


@pytest.fixture(scope='session', autouse=True)
def cache(tmp_path_factory):
  """A cache of encoded texts of the tests' own."""
  os.environ['HYPERJAX_CACHE_DIR'] = str(tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='session')
def make_tiny_config(text_file):
  """Makes configs of a second's run: a small cell on a small text."""

  def make():
    config = load(f'{REPOSITORY}/configs/text.py')
    config.data.update(
      {
        'path': str(text_file),
        'batch_size': 4,
        'sequence_length': 16,
        'vocab_size': len(set(text_file.read_bytes())),
      }
    )
    config.model.update({'hidden_size': 12, 'hyper_size': 5, 'z_size': 3})
    config.optimizer.update({'learning_rate': 3e-2, 'warmup_steps': 5})
    config.train.update(
      {
        'num_steps': 60,
        'eval_every': 20,
        'checkpoint_every': 10,
        'log_every': 5,
        'steps_per_dispatch': 4,
      }
    )
    config.eval.num_streams = config.eval.quick_streams = 16
    config.sample.update({'prompt': 'the ', 'length': 20})
    return config

  return make


@pytest.fixture
def tiny_config(make_tiny_config):
  return make_tiny_config()
