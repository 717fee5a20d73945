"""Whole runs: train, stop, go on, evaluate, sample, load."""

import json
import os
import pathlib
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import parts, run
from hyperjax import workdir as files
from hyperjax.errors import UserError
from hyperjax.training.checkpoint import Checkpointer
from hyperjax.training.loop import SignalledError
from hyperjax.training.session import Session


def lines(workdir):
  """metrics.jsonl without what depends on the clock."""
  text = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if 'per_second' not in k}
    for line in text
  ]


def alike(first, second):
  """Lines that differ in float32's rounding of sums at the most."""
  assert [sorted(line) for line in first] == [sorted(line) for line in second]
  for a, b in zip(first, second, strict=True):
    assert a['step'] == b['step']
    assert a == pytest.approx(b, rel=1e-5)


def last_params(config, workdir):
  """The parameters of the newest checkpoint."""
  task = parts.build_task(config)
  like = jax.eval_shape(task.init, jax.random.key(0))
  checkpointer = Checkpointer(workdir, read_only=True)
  step = checkpointer.steps()[-1]
  variables = checkpointer.restore_model(step, like)
  return step, jax.tree.leaves(variables.params)


def same(first, second):
  return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope='module')
def whole(tmp_path_factory, make_tiny_config):
  """A run that was never interrupted: its config, workdir and result."""
  config = make_tiny_config()
  workdir = tmp_path_factory.mktemp('whole')
  return config, workdir, run.train(config, workdir)


@pytest.fixture(scope='module')
def plain(tmp_path_factory, make_tiny_config, text_file):
  """The same of a plain LSTM, on a text of its own, with a tuple in it."""
  root = tmp_path_factory.mktemp('plain')
  config = make_tiny_config()
  config.data.path = str(shutil.copy(text_file, root / 'text.txt'))
  config.model.cell = 'lstm'
  config.optimizer.schedule = 'constant'
  config.train.update({'num_steps': 20, 'eval_every': 10})
  config.note = (1, 2)
  return config, root / 'run', run.train(config, root / 'run')


def changed(config, **fields):
  """A copy of a config with other fields; `__` stands for a dot."""
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(
    {name.replace('__', '.'): value for name, value in fields.items()}
  )
  return config


def test_it_learns_and_says_so(whole):
  config, workdir, result = whole
  assert result['step'] == config.train.num_steps
  assert (
    result['test/bits_per_char']
    < result['reference/unigram_entropy_bits_per_char']
  )
  first = lines(workdir)[0]['train/bits_per_char']
  assert result['valid/bits_per_char'] < first - 1
  assert files.read_json(workdir / 'result.json') == result
  assert result['parameters'] == parts.count(last_params(config, workdir)[1])


def test_a_workdir_holds_what_the_readme_says(whole):
  _, workdir, _ = whole
  names = {path.name for path in workdir.iterdir()}
  assert names >= {
    'config.json',
    'environment.json',
    'data.json',
    'metrics.jsonl',
    'checkpoints',
    'result.json',
    'sample.txt',
    'learning_curve.png',
  }
  assert any(name.startswith('events.out.tfevents') for name in names)


def test_metrics_carry_their_unit_and_every_step_is_due(whole):
  _, workdir, _ = whole
  train = [line for line in lines(workdir) if 'train/loss_nats' in line]
  assert [line['step'] for line in train] == list(range(5, 61, 5))
  assert all(line['train/grad_norm'] > 0 for line in train)
  valid = [x for x in lines(workdir) if 'valid_quick/bits_per_char' in x]
  assert [line['step'] for line in valid] == [20, 40, 60]
  # In the fifth step the warm-up ends, and the rate is at its highest.
  assert train[0]['train/learning_rate'] == pytest.approx(3e-2)


def test_a_finished_run_is_left_alone(whole, capsys):
  config, workdir, result = whole
  before = (workdir / 'metrics.jsonl').read_bytes()
  assert run.train(config, workdir) == result
  assert 'finished' in capsys.readouterr().err
  assert (workdir / 'metrics.jsonl').read_bytes() == before


def test_the_number_of_steps_a_dispatch_changes_nothing(plain, tmp_path):
  config, workdir, _ = plain
  other = changed(config, train__steps_per_dispatch=1)
  run.train(other, tmp_path)
  assert same(last_params(config, workdir)[1], last_params(other, tmp_path)[1])
  alike(lines(tmp_path), lines(workdir))


@pytest.mark.parametrize(
  ('kind', 'step'),
  [
    ('plain', 13),
    pytest.param('plain', 3, marks=pytest.mark.slow),
    pytest.param('whole', 20, marks=pytest.mark.slow),
  ],
)
def test_a_signal_saves_and_the_run_goes_on_exactly(
  request, tmp_path, monkeypatch, kind, step
):
  config, workdir, result = request.getfixturevalue(kind)
  stop_after(monkeypatch, step)
  with pytest.raises(SignalledError) as error:
    run.train(config, tmp_path)
  assert error.value.signum == signal.SIGTERM
  monkeypatch.undo()
  again = run.train(config, tmp_path)
  assert again == result
  assert same(last_params(config, workdir)[1], last_params(config, tmp_path)[1])


def as_if_killed(workdir, folder, step):
  """A copy of a finished run's workdir as it was after the save at a step."""
  shutil.copytree(workdir, folder)
  (folder / 'result.json').unlink()
  saves = {int(path.name): path for path in (folder / 'checkpoints').iterdir()}
  assert step in saves
  for at, path in saves.items():
    if at > step:
      shutil.rmtree(path)
  return folder


def stop_after(monkeypatch, step):
  """Sends this process SIGTERM once the loop has read a step's metrics."""
  from hyperjax.training.log import TrainLog

  add = TrainLog.add

  def add_and_stop(self, at, metrics):
    add(self, at, metrics)
    if at >= step:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(TrainLog, 'add', add_and_stop)


def test_another_config_is_refused_by_the_fields_name(plain):
  config, workdir, _ = plain
  other = changed(config, model__hidden_size=13, data__batch_size=5)
  with pytest.raises(UserError) as error:
    run.train(other, workdir)
  assert 'model.hidden_size' in str(error.value)
  assert 'data.batch_size' in str(error.value)


def test_a_model_is_read_whatever_it_was_trained_with(plain):
  config, workdir, result = plain
  other = changed(
    config,
    optimizer__learning_rate=1.0,
    train__num_steps=7,
    data__batch_size=3,
  )
  found = run.evaluate(other, workdir)
  assert found['test/bits_per_char'] == result['test/bits_per_char']
  other.model.hidden_size = 13
  with pytest.raises(UserError, match=r'model\.hidden_size'):
    run.evaluate(other, workdir)
  with pytest.raises(UserError, match=r'model\.hidden_size'):
    run.sample(other, workdir)


def test_more_steps_go_on_from_the_last(plain, tmp_path):
  config, workdir, _ = plain
  short = changed(config, train__num_steps=10)
  run.train(short, tmp_path)
  assert run.train(config, tmp_path)['step'] == 20
  assert same(last_params(config, tmp_path)[1], last_params(config, workdir)[1])
  with pytest.raises(UserError, match='num_steps'):
    run.train(short, tmp_path)


def test_evaluate_agrees_with_the_result(whole):
  config, workdir, result = whole
  config = config.copy_and_resolve_references()
  found = run.evaluate(config, workdir)
  assert found['test/bits_per_char'] == result['test/bits_per_char']
  assert found['step'] == result['best_step']
  config.eval.split = 'valid'
  config.eval.num_streams = 1
  found = run.evaluate(config, workdir)
  assert found['evaluation'] == 'one contiguous pass'
  np.testing.assert_allclose(
    found['valid/bits_per_char'], result['valid/bits_per_char'], rtol=1e-3
  )


def test_evaluate_of_a_step_that_is_not_there(plain):
  config, workdir, _ = plain
  config = config.copy_and_resolve_references()
  config.eval.step = 33
  with pytest.raises(UserError, match=r'config\.eval\.step.*33'):
    run.evaluate(config, workdir)
  config.eval.step, config.eval.split = 0, 'tset'
  with pytest.raises(UserError, match=r'config\.eval\.split.*tset'):
    run.evaluate(config, workdir)


def test_an_implausible_result_is_refused(plain):
  config, workdir, _ = plain
  config = config.copy_and_resolve_references()
  config.eval.implausible_below = 50.0
  with pytest.raises(UserError, match='refused'):
    run.evaluate(config, workdir)


def test_sampling_is_repeatable_and_needs_no_data(plain, tmp_path):
  config, workdir, _ = plain
  config = config.copy_and_resolve_references()
  first = run.sample(config, workdir)
  assert first == (workdir / 'sample.txt').read_text()
  assert first.startswith('the ')
  assert len(first) == len('the ') + config.sample.length
  config.sample.seed = 1
  assert run.sample(config, workdir) != first
  config.sample.temperature = 0.0
  greedy = run.sample(config, workdir)
  config.sample.temperature, config.sample.top_k = 1.0, 1
  assert run.sample(config, workdir) == greedy


@pytest.mark.parametrize('prompt', ['', 1.5])
def test_a_prompt_the_model_can_not_read(plain, prompt):
  config, workdir, _ = plain
  config = config.copy_and_resolve_references()
  with config.sample.ignore_type():
    config.sample.prompt = prompt
  with pytest.raises(UserError, match=r'config\.sample\.prompt'):
    run.sample(config, workdir)


def test_a_finished_runs_model_loads_in_three_lines(whole):
  _, workdir, _ = whole
  # The README's three lines:
  model, meta = run.load(workdir)
  symbols = jnp.array([[meta['alphabet'].index(ord(c)) for c in 'the cat']])
  _, logits = model(model.initial_carry(1), symbols)
  assert logits.shape == (1, 7, len(meta['alphabet']))
  p = jax.nn.softmax(logits[0, 2])  # of what follows 'the'
  assert p[meta['alphabet'].index(ord(' '))] > 0.5


def blow_up(config, learning_rate):
  """A config whose first update breaks the model."""
  rate = {'learning_rate': learning_rate, 'schedule': 'constant'}
  plain = {'name': 'sgd', 'clip_norm': 0.0, 'warmup_steps': 0}
  return changed(
    config,
    **{f'optimizer__{name}': value for name, value in (rate | plain).items()},
  )


def test_a_diverged_run_names_the_step_and_the_checkpoint(plain, tmp_path):
  config = blow_up(plain[0], 1e30)
  with pytest.raises(UserError, match=r'not finite at step \d+.*checkpoint'):
    run.train(config, tmp_path)


def test_a_broken_update_is_not_called_a_result(plain, tmp_path):
  config = blow_up(plain[0], 3e38)
  config.train.num_steps = 1
  with pytest.raises(UserError, match='not finite at step 0'):
    run.train(config, tmp_path)
  # Nothing was saved, so the mended command may take the same workdir.
  config.optimizer.learning_rate = 0.1
  assert run.train(config, tmp_path)['step'] == 1


def test_a_signal_during_the_last_evaluation_or_the_report_is_heard(
  plain, tmp_path, monkeypatch
):
  config, _, result = plain
  evaluate = Session._evaluate

  def evaluate_and_stop(self, step, state):
    evaluate(self, step, state)
    if step == config.train.num_steps:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(Session, '_evaluate', evaluate_and_stop)
  monkeypatch.setattr(
    run, 'measure', lambda *_: os.kill(os.getpid(), signal.SIGINT)
  )
  for signum in (signal.SIGTERM, signal.SIGINT):
    with pytest.raises(SignalledError) as error:
      run.train(config, tmp_path)
    assert error.value.signum == signum
    assert not (tmp_path / 'result.json').exists()
  monkeypatch.undo()
  assert run.train(config, tmp_path) == result


def test_changed_data_is_refused_and_leaves_the_run_as_it_was(plain, tmp_path):
  config, workdir, result = plain
  shutil.copytree(workdir, tmp_path / 'run')
  text = pathlib.Path(config.data.path)
  before = text.read_bytes()
  text.write_bytes(before + b'the cat')
  try:
    with pytest.raises(UserError, match='data has changed'):
      run.train(changed(config, train__num_steps=30), tmp_path / 'run')
    with pytest.raises(UserError, match='data'):
      run.evaluate(config, tmp_path / 'run')
    assert run.train(config, tmp_path / 'run') == result
  finally:
    text.write_bytes(before)


def test_a_run_of_an_older_version_goes_on(plain, tmp_path):
  config, workdir, _ = plain
  folder = tmp_path / 'old'
  shutil.copytree(workdir, folder)
  (folder / 'result.json').unlink()
  old = json.loads((folder / 'config.json').read_text())
  del old['mesh'], old['train']['accumulate_steps']
  (folder / 'config.json').write_text(json.dumps(old))
  assert run.evaluate(config, folder)
  model, _ = run.load(folder)
  assert model.stack
  longer = changed(config, train__num_steps=25)
  assert run.train(longer, folder)['step'] == 25
  assert 'mesh' in json.loads((folder / 'config.json').read_text())


def test_a_tuple_in_a_config_comes_back(plain, tmp_path):
  config, workdir, result = plain
  assert config.note == (1, 2)
  assert run.train(config, workdir) == result
  config = config.copy_and_resolve_references()
  config.other = {1, 2}
  with pytest.raises(UserError, match=r'config\.other'):
    run.train(config, tmp_path)


@pytest.mark.parametrize(
  'content', ['{}', '[]', '3', 'null', '{"model": 3', '']
)
def test_a_broken_config_file_in_a_workdir_is_named(plain, tmp_path, content):
  config, workdir, _ = plain
  broken = tmp_path / 'run'
  shutil.copytree(workdir, broken)
  (broken / 'config.json').write_text(content)
  for action in (run.train, run.evaluate, run.sample):
    with pytest.raises(UserError, match=r'config\.json'):
      action(config, broken)
  with pytest.raises(UserError, match=r'config\.json'):
    run.load(broken)


def test_no_run_in_the_workdir(plain, tmp_path):
  config, _, _ = plain
  with pytest.raises(UserError, match=r'config\.json'):
    run.evaluate(config, tmp_path)
  with pytest.raises(UserError, match=r'config\.json'):
    run.load(tmp_path)
