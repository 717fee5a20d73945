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
  assert 'train/learning_rate' in train[0]


def test_a_finished_run_is_left_alone(whole, capsys):
  config, workdir, result = whole
  before = (workdir / 'metrics.jsonl').read_bytes()
  assert run.train(config, workdir) == result
  assert 'finished' in capsys.readouterr().err
  assert (workdir / 'metrics.jsonl').read_bytes() == before


def test_the_same_seed_gives_the_same_run(whole, tmp_path):
  config, workdir, _ = whole
  run.train(config, tmp_path)
  assert same(last_params(config, workdir)[1], last_params(config, tmp_path)[1])


def test_the_number_of_steps_a_dispatch_changes_nothing(whole, tmp_path):
  config, workdir, _ = whole
  other = config.copy_and_resolve_references()
  other.train.steps_per_dispatch = 1
  run.train(other, tmp_path)
  assert same(last_params(config, workdir)[1], last_params(other, tmp_path)[1])
  alike(lines(tmp_path), lines(workdir))


@pytest.mark.parametrize('step', [3, 20])
def test_a_signal_saves_and_the_run_goes_on_exactly(
  whole, tmp_path, monkeypatch, step
):
  config, workdir, result = whole
  stop_after(monkeypatch, step)
  with pytest.raises(SignalledError) as error:
    run.train(config, tmp_path)
  assert error.value.signum == signal.SIGTERM
  monkeypatch.undo()
  again = run.train(config, tmp_path)
  assert again == result
  assert same(last_params(config, workdir)[1], last_params(config, tmp_path)[1])


def stop_after(monkeypatch, step):
  """Sends this process SIGTERM once the loop has read a step's metrics."""
  from hyperjax.training.log import TrainLog

  add = TrainLog.add

  def add_and_stop(self, at, metrics):
    add(self, at, metrics)
    if at >= step:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(TrainLog, 'add', add_and_stop)


def test_another_config_is_refused_by_the_fields_name(whole):
  config, workdir, _ = whole
  other = config.copy_and_resolve_references()
  other.model.hidden_size = 13
  other.data.batch_size = 5
  with pytest.raises(UserError) as error:
    run.train(other, workdir)
  assert 'model.hidden_size' in str(error.value)
  assert 'data.batch_size' in str(error.value)


def test_a_model_is_read_whatever_it_was_trained_with(whole):
  config, workdir, result = whole
  other = config.copy_and_resolve_references()
  other.optimizer.learning_rate = 1.0
  other.train.num_steps = 7
  other.data.batch_size = 3
  found = run.evaluate(other, workdir)
  assert found['test/bits_per_char'] == result['test/bits_per_char']
  other.model.hidden_size = 13
  with pytest.raises(UserError, match=r'model\.hidden_size'):
    run.evaluate(other, workdir)
  with pytest.raises(UserError, match=r'model\.hidden_size'):
    run.sample(other, workdir)


def test_more_steps_go_on_from_the_last(whole, tmp_path):
  config, _, _ = whole
  config = config.copy_and_resolve_references()
  config.optimizer.schedule = 'constant'
  config.model.cell = 'lstm'
  short = config.copy_and_resolve_references()
  short.train.num_steps = 40
  run.train(short, tmp_path / 'a')
  longer = run.train(config, tmp_path / 'a')
  assert longer['step'] == 60
  run.train(config, tmp_path / 'b')
  assert same(
    last_params(config, tmp_path / 'a')[1],
    last_params(config, tmp_path / 'b')[1],
  )
  with pytest.raises(UserError, match='num_steps'):
    run.train(short, tmp_path / 'a')


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


def test_evaluate_of_a_step_that_is_not_there(whole):
  config, workdir, _ = whole
  config = config.copy_and_resolve_references()
  config.eval.step = 33
  with pytest.raises(UserError, match=r'config\.eval\.step.*33'):
    run.evaluate(config, workdir)
  config.eval.step, config.eval.split = 0, 'tset'
  with pytest.raises(UserError, match=r'config\.eval\.split.*tset'):
    run.evaluate(config, workdir)


def test_an_implausible_result_is_refused(whole):
  config, workdir, _ = whole
  config = config.copy_and_resolve_references()
  config.eval.implausible_below = 50.0
  with pytest.raises(UserError, match='refused'):
    run.evaluate(config, workdir)


def test_sampling_is_repeatable_and_needs_no_data(whole, tmp_path):
  config, workdir, _ = whole
  config = config.copy_and_resolve_references()
  config.sample.prompt = 'the '
  first = run.sample(config, workdir)
  assert first == run.sample(config, workdir)
  assert first.startswith('the ')
  assert len(first) == len('the ') + config.sample.length
  config.sample.seed = 1
  assert run.sample(config, workdir) != first
  config.sample.temperature = 0.0
  greedy = run.sample(config, workdir)
  config.sample.temperature, config.sample.top_k = 1.0, 1
  assert run.sample(config, workdir) == greedy


def test_a_prompt_the_model_can_not_read(whole):
  config, workdir, _ = whole
  config = config.copy_and_resolve_references()
  config.sample.prompt = ''
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


def test_a_diverged_run_names_the_step_and_the_checkpoint(whole, tmp_path):
  config, _, _ = whole
  config = config.copy_and_resolve_references()
  config.model.cell = 'lstm'
  config.optimizer.update(
    {
      'name': 'sgd',
      'learning_rate': 1e30,
      'clip_norm': 0.0,
      'warmup_steps': 0,
      'schedule': 'constant',
    }
  )
  with pytest.raises(UserError, match=r'not finite at step \d+.*checkpoint'):
    run.train(config, tmp_path)


def test_a_broken_update_is_not_called_a_result(whole, tmp_path):
  config, _, _ = whole
  config = config.copy_and_resolve_references()
  config.model.cell = 'lstm'
  config.optimizer.update(
    {
      'name': 'sgd',
      'learning_rate': 3e38,
      'clip_norm': 0.0,
      'warmup_steps': 0,
      'schedule': 'constant',
    }
  )
  config.train.num_steps = 1
  with pytest.raises(UserError, match='not finite at step 0'):
    run.train(config, tmp_path)
  # Nothing was saved, so the mended command may take the same workdir.
  config.optimizer.learning_rate = 0.1
  assert run.train(config, tmp_path)['step'] == 1


def test_a_signal_during_the_last_evaluation_is_heard(
  whole, tmp_path, monkeypatch
):
  config, _, result = whole
  evaluate = Session._evaluate

  def evaluate_and_stop(self, step, state):
    evaluate(self, step, state)
    if step == config.train.num_steps:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(Session, '_evaluate', evaluate_and_stop)
  with pytest.raises(SignalledError):
    run.train(config, tmp_path)
  monkeypatch.undo()
  assert not (tmp_path / 'result.json').exists()
  assert run.train(config, tmp_path) == result


def test_a_signal_during_the_report_is_heard(whole, tmp_path, monkeypatch):
  config, _, result = whole
  monkeypatch.setattr(
    run, 'measure', lambda *_: os.kill(os.getpid(), signal.SIGINT)
  )
  with pytest.raises(SignalledError) as error:
    run.train(config, tmp_path)
  assert error.value.signum == signal.SIGINT
  monkeypatch.undo()
  assert run.train(config, tmp_path) == result


def test_a_refused_command_leaves_the_run_as_it_was(whole, tmp_path):
  config, _, _ = whole
  config = config.copy_and_resolve_references()
  config.model.cell = 'lstm'
  text = tmp_path / 'text.txt'
  text.write_bytes(pathlib.Path(config.data.path).read_bytes())
  config.data.path = str(text)
  result = run.train(config, tmp_path / 'run')
  longer = config.copy_and_resolve_references()
  longer.train.num_steps += 10
  text.write_bytes(text.read_bytes() + b'the cat')
  with pytest.raises(UserError, match='data has changed'):
    run.train(longer, tmp_path / 'run')
  assert run.train(config, tmp_path / 'run') == result


def test_a_run_of_an_older_version_goes_on(whole, tmp_path):
  config, workdir, _ = whole
  folder = tmp_path / 'old'
  shutil.copytree(workdir, folder)
  (folder / 'result.json').unlink()
  old = json.loads((folder / 'config.json').read_text())
  del old['mesh'], old['train']['accumulate_steps']
  (folder / 'config.json').write_text(json.dumps(old))
  assert run.evaluate(config, folder)
  model, _ = run.load(folder)
  assert model.stack
  longer = config.copy_and_resolve_references()
  longer.train.num_steps += 10
  assert run.train(longer, folder)['step'] == longer.train.num_steps
  assert 'mesh' in json.loads((folder / 'config.json').read_text())


def test_a_tuple_in_a_config_comes_back(whole, tmp_path):
  config, _, _ = whole
  config = config.copy_and_resolve_references()
  config.note = (1, 2)
  config.model.cell = 'lstm'
  config.train.num_steps = 10
  result = run.train(config, tmp_path)
  assert run.train(config, tmp_path) == result
  config.other = {1, 2}
  with pytest.raises(UserError, match=r'config\.other'):
    run.train(config, tmp_path)


@pytest.mark.parametrize(
  'content', ['{}', '[]', '3', 'null', '{"model": 3', '']
)
def test_a_broken_config_file_in_a_workdir_is_named(whole, tmp_path, content):
  config, workdir, _ = whole
  broken = tmp_path / 'run'
  shutil.copytree(workdir, broken)
  (broken / 'config.json').write_text(content)
  for action in (run.train, run.evaluate, run.sample):
    with pytest.raises(UserError, match=r'config\.json'):
      action(config, broken)
  with pytest.raises(UserError, match=r'config\.json'):
    run.load(broken)


def test_changed_data_is_refused(whole, tmp_path, text_file):
  config, _, _ = whole
  config = config.copy_and_resolve_references()
  config.model.cell = 'lstm'
  text = tmp_path / 'text.txt'
  text.write_text(text_file.read_text())
  config.data.path = str(text)
  workdir = tmp_path / 'run'
  run.train(config, workdir)
  text.write_text(text_file.read_text() + 'more')
  with pytest.raises(UserError, match='data'):
    run.evaluate(config, workdir)
  config.train.num_steps = 70
  with pytest.raises(UserError, match='data has changed'):
    run.train(config, workdir)


def test_no_run_in_the_workdir(whole, tmp_path):
  config, _, _ = whole
  with pytest.raises(UserError, match=r'config\.json'):
    run.evaluate(config, tmp_path)
  with pytest.raises(UserError, match=r'config\.json'):
    run.load(tmp_path)
