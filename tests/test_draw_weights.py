import functools
import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest
from absl import flags
from flax import nnx

from hyperjax import run, workdir
from hyperjax.config import load
from hyperjax.errors import UserError
from hyperjax.models import char_lm, handwriting
from hyperjax.nn.trace import trace
from tests.nn import small

REPOSITORY = pathlib.Path(__file__).parent.parent
TEXT = 'the cat sat.\non a mat'
HYPER = {'hyper_size': 3, 'z_size': 2}


def random(build, **options):
  """A model of random weights, made in no time."""
  options = {'hidden_size': 5, **options}
  model = nnx.eval_shape(lambda: build(**options, key=jax.random.key(0)))
  graph, params = nnx.split(model)
  return nnx.merge(graph, small.random_like(params, 0))


def language_model(cell, vocab_size, **options):
  return random(char_lm.build, cell=cell, vocab_size=vocab_size, **options)


@pytest.fixture(scope='module')
def runs(tmp_path_factory, make_tiny_config, text_file, lines_file):
  """Workdirs of runs, of a config alone, and what `run.load` makes of them."""
  root = tmp_path_factory.mktemp('runs')
  meta = {'alphabet': sorted(set(text_file.read_bytes()))}
  size = len(meta['alphabet'])
  config = load(f'{REPOSITORY}/configs/handwriting.py:lstm_900,strokes')
  config.data.update({'path': str(lines_file), 'min_points': 3})
  found = {
    'hyper': (language_model('hyper_lstm', size, num_layers=2, **HYPER), meta),
    'plain': (language_model('ln_lstm', size), meta),
    'basic': (language_model('rnn', size), meta),
    'pen': (
      random(handwriting.build, cell='lstm', num_mixtures=2),
      {'alphabet': ''},
    ),
    'other': (nnx.Module(), {}),
  }
  for name in found:
    (root / name).mkdir()
    chosen = config if name == 'pen' else make_tiny_config()
    of_run = json.dumps(workdir.config_json(chosen))
    (root / name / 'config.json').write_text(of_run)
  return {str(root / name): loaded for name, loaded in found.items()}


@pytest.fixture
def draw(runs, monkeypatch, capsys):
  """Calls the script; HYPER and so on in its flags are workdirs of `runs`."""
  # Flags of its own, for those of `main` have the same names.
  own = flags.FlagValues()
  for name in ('DEFINE_list', 'DEFINE_string', 'DEFINE_integer'):
    define = functools.partial(getattr(flags, name), flag_values=own)
    monkeypatch.setattr(flags, name, define)
  monkeypatch.setattr(run, 'load', runs.get)
  spec = importlib.util.spec_from_file_location(
    'draw_weights', REPOSITORY / 'scripts' / 'draw_weights.py'
  )
  script = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(script)

  def draw(*given):
    own(['script', *(with_paths(runs, flag) for flag in given)])
    script.main([])
    return capsys.readouterr().out

  draw.script = script
  return draw


def with_paths(runs, text):
  for path in runs:
    text = text.replace(path.split('/')[-1].upper(), path)
  return text


def test_changes_are_drawn_and_kept(draw, runs, tmp_path, monkeypatch):
  out = tmp_path / 'new'
  drawn = []
  monkeypatch.setattr(
    draw.script, 'text_strips', lambda *args: drawn.extend(args)
  )
  printed = draw(
    *('--workdir=HYPER', f'--text={TEXT}', f'--out={out}', '--layer=2')
  )

  assert printed == f'{out}/weight_changes.{{png,svg,npz}}\n'
  with np.load(out / 'weight_changes.npz') as arrays:
    assert ''.join(arrays['letters']) == TEXT
    assert arrays['symbols'].tobytes() == TEXT.encode()
    assert [*arrays['gates']] == ['i', 'g', 'f', 'o']
    changes = arrays['changes']
  model, meta = next(iter(runs.values()))
  symbols = np.array([[meta['alphabet'].index(x) for x in TEXT.encode()]])
  expected = [layer.changes[:, 0] for layer in trace(model, symbols)[1]]
  np.testing.assert_allclose(changes, expected, rtol=1e-5)
  assert changes.shape == (2, len(TEXT), 4) and (changes > 0).all()
  assert drawn[0] == [out / f'weight_changes.{x}' for x in ('png', 'svg')]
  assert ''.join(drawn[1]) == TEXT
  np.testing.assert_array_equal(drawn[2], changes[1])
  assert drawn[3] == ('i', 'g', 'f', 'o')


def test_without_a_text_it_is_that_of_validation(draw, text_file, tmp_path):
  draw('--workdir=HYPER', f'--out={tmp_path}', '--length=30')

  assert sorted(path.name for path in tmp_path.iterdir()) == [
    f'weight_changes.{ending}' for ending in ('npz', 'png', 'svg')
  ]
  text = text_file.read_bytes()
  with np.load(tmp_path / 'weight_changes.npz') as arrays:
    found = arrays['symbols'].tobytes()
  assert found == text[len(text) * 90 // 100 :][:30]


def test_without_data_it_is_a_sample(draw, runs, tmp_path, monkeypatch):
  path = pathlib.Path(next(iter(runs)))
  config = json.loads((path / 'config.json').read_text())
  config['data']['path'] = '/nowhere'
  (tmp_path / 'config.json').write_text(json.dumps(config))
  sample = 'é→a'.encode() + b'\xff\n'
  (tmp_path / 'sample.txt').write_bytes(sample)
  loaded = language_model('hyper_lstm', 256, **HYPER), {'alphabet': range(256)}
  monkeypatch.setitem(runs, str(tmp_path), loaded)

  draw(f'--workdir={tmp_path}')

  with np.load(tmp_path / 'pictures' / 'weight_changes.npz') as arrays:
    assert arrays['symbols'].tobytes() == sample
    # A letter stands at its first byte.
    assert [*arrays['letters']] == ['é', '', '→', '', '', 'a', '\ufffd', '\n']


def test_gates_of_several_runs_are_drawn_and_kept(draw, tmp_path):
  draw(
    *('--workdir=PLAIN,HYPER,PEN', '--labels=LN LSTM,Hyper,pen'),
    *('--length=50', f'--out={tmp_path}'),
  )

  assert sorted(path.name for path in tmp_path.iterdir()) == [
    *('gates.npz', 'gates.png', 'gates.svg'),
  ]
  with np.load(tmp_path / 'gates.npz') as arrays:
    assert [*arrays['labels']] == ['LN LSTM', 'Hyper', 'pen']
    assert [*arrays['gates']] == ['i', 'f', 'o', 'g', 'tanh(c)']
    shares = arrays['density'] * np.diff(arrays['edges'])
    low, high = arrays['low'], arrays['high']
  assert shares.shape == (3, 5, 40)
  np.testing.assert_allclose(shares.sum(-1), 1)
  np.testing.assert_allclose(shares[:, :3, :4].sum(-1), low[:, :3], atol=0.01)
  np.testing.assert_allclose(shares[:, 3:, -2:].sum(-1), high[:, 3:], atol=0.01)
  assert len(np.unique(low.sum(1))) == len(np.unique(high.sum(1))) == 3


@pytest.mark.parametrize(
  ('given', 'words'),
  [
    ([], '--workdir is missing'),
    (['--workdir=a', '--text=a', '--path=b'], 'give one of them'),
    (['--workdir=a,b', '--labels=c'], '--labels: c; give 2 different'),
    (['--workdir=a/x,b/x'], '--labels: x, x; give 2 different'),
    (['--workdir=HYPER', '--text=cat, $Q'], "--text: HYPER knows no '$,Q'"),
    (['--workdir=HYPER', '--path=/no'], '--path: /no: No such file'),
    (['--workdir=HYPER', '--text=cat', '--layer=3'], 'no layer 3; give 1 to 2'),
    (['--workdir=PLAIN', '--text=cat'], 'PLAIN: its cells have no hyper cell'),
    (['--workdir=PEN'], 'PEN: its model reads no text; --mode=sample'),
    (['--workdir=PLAIN,PEN', '--text=cat'], 'PEN: it reads no text'),
    (['--workdir=PLAIN,BASIC', '--text=cat'], 'BASIC: its cells are no LSTMs'),
    (['--workdir=OTHER,PLAIN'], 'OTHER: its model is not one of text'),
  ],
)
def test_what_is_wrong_is_named_in_a_line(draw, runs, tmp_path, given, words):
  with pytest.raises(UserError) as error:
    draw(*given, f'--out={tmp_path}')
  assert with_paths(runs, words) in str(error.value)
  assert '\n' not in str(error.value)
  assert not list(tmp_path.iterdir())
