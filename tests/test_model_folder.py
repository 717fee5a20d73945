"""Exported models: the folder is the model, and is checked when it is read."""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from hyperjax import config as configs
from hyperjax import model_card, model_folder, parts, run
from hyperjax import workdir as files
from hyperjax.errors import UserError
from hyperjax.model_folder import ARRAYS, CARD, CONFIG, DATA, RESULT
from hyperjax.training import seed_axis
from hyperjax.training.checkpoint import Checkpointer
from hyperjax.types import TrainState
from tests.conftest import REPOSITORY
from tests.test_handwriting_runs import config_of as handwriting_config

RESULT_OF_SEEDS = {
  'step': 4,
  'best_step': 3,
  'num_seeds': 2,
  'seeds': [7, 8],
  'evaluation': 'in one pass',
  'seed_7/best_step': 3,
  'seed_8/best_step': 3,
  'test/bits_per_char': 1.5,
  'test/bits_per_char_std': 0.7,
  'seed_7/test/bits_per_char': 1.0,
  'seed_8/test/bits_per_char': 2.0,
  'reference/unigram': 4.5,
}


def language_config(text_file):
  config = configs.load(f'{REPOSITORY}/configs/text.py:lstm')
  config.data.update(
    {
      'path': str(text_file),
      'batch_size': 4,
      'sequence_length': 8,
      'vocab_size': len(set(text_file.read_bytes())),
    }
  )
  config.model.update({'hidden_size': 6, 'hyper_size': 3, 'z_size': 2})
  config.optimizer.warmup_steps = 0
  config.train.update({'num_steps': 4, 'eval_every': 4, 'checkpoint_every': 4})
  config.eval.num_streams = config.eval.quick_streams = 16
  config.sample.update({'prompt': 'the ', 'length': 20})
  return config


def image_config(small_images):
  config = configs.load(
    f'{REPOSITORY}/configs/cifar10.py:hyper_wrn_40_1,images'
  )
  config.data.update(
    {
      'path': str(small_images),
      'image_shape': (8, 8, 3),
      'num_classes': 2,
      'num_valid': 16,
      'batch_size': 16,
    }
  )
  config.model.update({'depth': 10, 'z_size': 4})
  return config


def pretend_to_run(config, workdir, step=3, best=3):
  """What a run leaves, with random numbers for all that it would learn."""
  task = parts.build_task(config)
  seeds = seed_axis.of(config.seed, config.num_seeds)
  shapes = jax.eval_shape(
    lambda: seed_axis.init(seeds, lambda _: task.init(jax.random.key(0)))
  )
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes
  )
  meta = parts.build_source(config).meta
  files.make_folder(workdir)
  files.write_json(workdir / 'config.json', files.config_json(config))
  files.write_json(workdir / 'environment.json', files.environment())
  lines = [{'step': s, 'valid_quick/loss': s / 8} for s in range(1, step + 1)]
  (workdir / 'metrics.jsonl').write_text(
    ''.join(f'{json.dumps(line)}\n' for line in lines)
  )
  checkpointer = Checkpointer(workdir)
  checkpointer.save(
    TrainState(
      jnp.int32(step), *variables, (), (), jnp.full(seeds.shape, -1, jnp.int32)
    ),
    metrics_length=0,
    best=[{'step': best, 'value': 1.0}] * config.num_seeds,
    seconds=1.0,
    data=meta,
  )
  checkpointer.close()


def the_same(first, second):
  (a, a_meta), (b, b_meta) = first, second
  assert a_meta == b_meta
  a, b = nnx.state(a), nnx.state(b)
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype and np.array_equal(x, y)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, text_file):
  """A run whose data and workdir are gone: its folder, and what it was."""
  root = tmp_path_factory.mktemp('trained')
  shutil.copy(text_file, root / 'text.txt')
  config, workdir = language_config(root / 'text.txt'), root / 'run'
  result = run.train(config, workdir)
  known = run.load(workdir), run.sample(config, workdir), result
  paths = model_folder.save(workdir, root / 'folder')
  shutil.rmtree(workdir)
  (root / 'text.txt').unlink()
  assert {path.name for path in root.iterdir()} == {'folder'}
  return root / 'folder', paths, *known


def test_a_folder_needs_neither_run_nor_data(trained):
  folder, paths, loaded, sample, _ = trained
  assert {p.name for p in paths} == {ARRAYS, CONFIG, DATA, RESULT, CARD}
  assert len({p.stat().st_mode for p in paths}) == 1  # arrays are no secret
  the_same(model_folder.load(folder), loaded)
  assert model_folder.sample(str(folder)) == sample
  assert len(model_folder.sample(folder, length=3)) == len('the ') + 3
  with pytest.raises(UserError, match=r"config.sample.lenth.*'length'"):
    model_folder.sample(folder, lenth=3)


def test_the_parameters_have_the_names_of_describe(trained):
  folder = trained[0]
  config = configs.complete(
    configs.ConfigDict(files.read_json(folder / CONFIG))
  )
  names = [line.split()[0] for line in parts.describe(config).split('\n')[:-1]]
  assert safetensors.numpy.load_file(folder / ARRAYS).keys() == set(names)


def test_the_record_and_the_card_say_what_it_is(trained):
  folder, *_, result = trained
  record = files.read_json(folder / RESULT)
  assert record['result'] == result and record['finished']
  bits = result['test/bits_per_char']
  assert record['metrics']['test/bits_per_char'] == bits
  assert record['environment'].keys() >= {'git', 'versions', 'devices'}
  card = (folder / CARD).read_text()
  for words in (
    f'| test | bits per char | {bits:.4f} |',
    f'{result["parameters"]:,}',
    result['data'],
    result['evaluation'],
    record['environment']['command'],
    "model_folder.load('folder')",
    'Seed: 0',
  ):
    assert words in card
  assert 'not finished' not in card and 'allow_imports' not in card


@pytest.mark.parametrize('task', ['images', 'handwriting', 'translation'])
def test_each_task_comes_back_bit_for_bit(
  task, tmp_path, small_images, lines_file, make_translation_config
):
  config = {
    'images': lambda: image_config(small_images),
    'handwriting': lambda: handwriting_config(lines_file),
    'translation': make_translation_config,
  }[task]()
  workdir, folder = tmp_path / 'run', tmp_path / 'folder'
  pretend_to_run(config, workdir)
  model_folder.save(workdir, folder)
  the_same(model_folder.load(folder), run.load(workdir))
  names = safetensors.numpy.load_file(folder / ARRAYS)
  kept = [name for name in names if name.startswith('state:')]
  assert len(kept) == (task == 'images' and 2 * 8)  # moments of 8 norms


def test_the_seed_that_was_asked_for(tmp_path, text_file):
  config = language_config(text_file)
  config.seed, config.num_seeds = 7, 2
  workdir = tmp_path / 'run'
  pretend_to_run(config, workdir)
  files.write_json(workdir / 'result.json', RESULT_OF_SEEDS)
  for seed, chosen in ((7, None), (8, 8)):
    folder = tmp_path / f'seed{seed}'
    model_folder.save(workdir, folder, chosen)
    the_same(model_folder.load(folder), run.load(workdir, seed))
    record = files.read_json(folder / RESULT)
    assert record['seed'] == seed
    assert record['metrics'] == {
      'test/bits_per_char': seed - 6.0,
      'reference/unigram': 4.5,
    }
    assert f'of seed {seed} of a run of seeds 7, 8' in (
      (folder / CARD).read_text()
    )
  with pytest.raises(UserError, match='no seed 9; there: 7, 8'):
    model_folder.save(workdir, tmp_path / 'seed9', 9)
  assert not (tmp_path / 'seed9').exists()


@pytest.fixture(scope='module')
def pretended(tmp_path_factory, text_file):
  workdir = tmp_path_factory.mktemp('pretended') / 'run'
  pretend_to_run(language_config(text_file), workdir)
  return workdir


@pytest.mark.parametrize('result', [None, {'step': 2, 'best_step': 2}])
def test_a_run_that_goes_on_says_so(tmp_path, pretended, result):
  workdir, folder = tmp_path / 'run', tmp_path / 'folder'
  shutil.copytree(pretended, workdir)
  if result:  # of fewer steps, and so of another best one
    files.write_json(workdir / 'result.json', result | {'test/loss': 9.0})
  folder.mkdir()  # an empty one may be there
  model_folder.save(workdir, folder)
  record, card = files.read_json(folder / RESULT), (folder / CARD).read_text()
  assert record['metrics'] == {'valid_quick/loss': 3 / 8}
  assert not record['finished'] and record['result'] is None
  assert 'not finished' in card and 'quick evaluations' in card


def test_a_folder_is_whole_or_not_there(tmp_path, pretended, monkeypatch):
  workdir = shutil.copytree(pretended, tmp_path / 'run')
  with monkeypatch.context() as patch:
    patch.setattr(model_card, 'write', lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      model_folder.save(workdir, tmp_path / 'folder')
  assert [path.name for path in tmp_path.iterdir()] == ['run']
  (tmp_path / 'file').write_text('mine')
  for taken in (workdir, tmp_path / 'file'):
    with pytest.raises(UserError, match=r'exists and is no empty folder'):
      model_folder.save(workdir, taken)
  with pytest.raises(UserError, match='file/folder can not be written'):
    model_folder.save(workdir, tmp_path / 'file' / 'folder')


@pytest.fixture
def copied(trained, tmp_path):
  shutil.copytree(trained[0], tmp_path / 'copy')
  return tmp_path / 'copy'


def reheaded(data, change):
  """A safetensors file with another header."""
  (length,) = struct.unpack('<Q', data[:8])
  header = json.loads(data[8 : 8 + length])
  change(header)
  text = json.dumps(header).encode()
  return struct.pack('<Q', len(text)) + text + data[8 + length :]


def shift_offsets(header):
  name = next(iter(header))
  header[name]['data_offsets'] = [n + 4 for n in header[name]['data_offsets']]


def foreign_type(header):  # one that NumPy does not have
  first = header[next(iter(header))]
  begin, end = first['data_offsets']
  first.update({'dtype': 'F8_E4M3', 'shape': [end - begin]})


@pytest.mark.parametrize(
  'damage',
  {
    'empty': lambda data: b'',
    'cut header': lambda data: data[:40],
    'cut arrays': lambda data: data[:-4],
    'longer': lambda data: data + b'0000',
    'header beyond the file': lambda d: struct.pack('<Q', len(d)) + d[8:],
    'endless header': lambda data: b'\xff' * 8 + data[8:],
    'offsets': lambda data: reheaded(data, shift_offsets),
    'type': lambda data: reheaded(data, foreign_type),
    'pickle': lambda data: pickle.dumps({'a': 1}),
    'a bit': lambda data: data[:-1] + bytes([data[-1] ^ 1]),
  }.items(),
  ids=lambda item: item[0],
)
def test_damaged_arrays_are_named(copied, damage):
  path = copied / ARRAYS
  path.write_bytes(damage[1](path.read_bytes()))
  with pytest.raises(UserError, match=f'{path} is ') as error:
    model_folder.load(copied)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'change, words',
  [
    (lambda a: a.pop('head/kernel'), "'head/kernel' is missing"),
    (lambda a: a.update(extra=np.ones(2)), "config.json has no 'extra'"),
    (
      lambda a: a.update({'head/bias': np.ones(2, np.float32)}),
      r"'head/bias' is float32 \[2\], but .* needs float32 \[\d+\]",
    ),
    (
      lambda a: a.update({'head/bias': a['head/bias'].astype(np.float16)}),
      r"'head/bias' is float16 .* needs float32",
    ),
  ],
)
def test_other_arrays_than_the_models_are_named(copied, change, words):
  arrays = safetensors.numpy.load_file(copied / ARRAYS)
  change(arrays)
  safetensors.numpy.save_file(arrays, copied / ARRAYS)
  with pytest.raises(UserError, match=words):
    model_folder.load(copied)


def test_missing_and_broken_files_are_named(copied, trained):
  (copied / CONFIG).write_text('{}')
  with pytest.raises(UserError, match='is damaged: it has no mode'):
    model_folder.load(copied)
  content = files.read_json(trained[0] / CONFIG)
  for change, words in (
    ({'unroll': [1]}, 'config.unroll is not a section'),
    ({'train': 5}, 'is damaged: no config'),
    ({'seed': {}}, r'config\.seed is a section'),
    ({'model': content['model'] | {'num_layers': 2**64}}, 'num_layers is'),
    ({'model': content['model'] | {'hidden_size': 2**64}}, 'hidden_size is'),
    ({'task': {'name': 5}}, r'config\.task\.name: 5 is not of type str'),
    ({'unroll': {'remat': ['x']}}, r'config\.unroll\.remat: no'),
  ):
    files.write_json(copied / CONFIG, content | change)
    with pytest.raises(UserError, match=words) as error:
      model_folder.load(copied)
    assert str(copied / CONFIG) in str(error.value)
  (copied / CONFIG).write_text('[' * 100_000)
  with pytest.raises(UserError, match='can not be read'):
    model_folder.load(copied)
  del content['sample']['seed']
  files.write_json(copied / CONFIG, content)
  with pytest.raises(UserError, match=r'as its config\.json .*KeyError'):
    model_folder.sample(copied)
  meta = files.read_json(copied / DATA)
  files.write_json(copied / DATA, meta | {'alphabet': [1]})
  with pytest.raises(UserError, match=r'data\.json is not what was exported'):
    model_folder.load(copied)
  (copied / DATA).unlink()
  with pytest.raises(UserError, match='exported model: it has no data'):
    model_folder.load(copied)


OWN_CELL = """
  import jax.numpy as jnp
  from flax import nnx
  from hyperjax.nn.cells.lstm import LSTM


  class Own(LSTM):
    def __init__(self, input_size: int, hidden_size: int, *, key):
      super().__init__(input_size, hidden_size, key=key)
      self.narrow = nnx.Param(jnp.ones(3, jnp.bfloat16))


  build = Own
"""


def test_modules_from_outside_are_imported_by_permission_alone(
  tmp_path, text_file, monkeypatch
):
  (tmp_path / 'cell_of_mine.py').write_text(textwrap.dedent(OWN_CELL))
  monkeypatch.syspath_prepend(tmp_path)
  config = language_config(text_file)
  config.model.cell = 'cell_of_mine'
  workdir, folder = tmp_path / 'run', tmp_path / 'folder'
  pretend_to_run(config, workdir)
  model_folder.save(workdir, folder)
  assert "load('folder', allow_imports=True)" in (folder / CARD).read_text()

  del sys.modules['cell_of_mine']
  with pytest.raises(
    UserError, match=r"config.model.cell: 'cell_of_mine' .*allow_imports=True"
  ):
    model_folder.load(folder)
  assert 'cell_of_mine' not in sys.modules
  the_same(model_folder.load(folder, allow_imports=True), run.load(workdir))
  arrays = safetensors.numpy.load_file(folder / ARRAYS)
  assert 'bfloat16' in {str(array.dtype) for array in arrays.values()}


@pytest.mark.parametrize('section', ['task', 'model'])
def test_every_name_is_guarded(copied, section):
  content = files.read_json(copied / CONFIG)
  content[section]['name'] = 'antigravity'
  files.write_json(copied / CONFIG, content)
  with pytest.raises(UserError, match=rf"config.{section}.name: 'antigravity'"):
    model_folder.load(copied)
  assert 'antigravity' not in sys.modules


def test_the_command(tmp_path, pretended, repository):
  done = subprocess.run(
    [
      sys.executable,
      'scripts/export.py',
      f'--workdir={pretended}',
      f'--out={tmp_path}/folder',
    ],
    cwd=repository,
    env={**os.environ, 'PYTHONPATH': str(repository)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  for name in (ARRAYS, CONFIG, DATA, RESULT, CARD):
    size = (tmp_path / 'folder' / name).stat().st_size
    assert f'{size:,}  {tmp_path}/folder/{name}' in done.stdout
