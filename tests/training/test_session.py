"""What a session keeps, and what it knows of those before it."""

import json
import time
import types

import pytest

from hyperjax import run
from hyperjax.training import session


@pytest.fixture
def config(tiny_config):
  """A run that is good at step 6, where no checkpoint is due, and then bad."""
  tiny_config.model.cell = 'lstm'
  tiny_config.optimizer.update(
    {
      'name': 'sgd',
      'learning_rate': 0.1,
      'warmup_steps': 0,
      'clip_norm': 1.0,
      'schedule': 'steps',
      'boundaries': (6,),
      'rates': (30.0,),
    }
  )
  tiny_config.train.update(
    {'num_steps': 12, 'eval_every': 6, 'checkpoint_every': 8, 'log_every': 2}
  )
  return tiny_config


def test_the_best_evaluation_is_saved_and_is_the_result(config, tmp_path):
  result = run.train(config, tmp_path)
  lines = map(json.loads, (tmp_path / 'metrics.jsonl').read_text().splitlines())
  name = 'valid_quick/bits_per_char'
  good, bad = (line[name] for line in lines if name in line)
  assert good + 0.5 < bad
  assert result['best_step'] == 6
  assert result['valid/bits_per_char'] == pytest.approx(good, abs=0.1)


def test_the_time_of_the_sessions_before_counts(config, tmp_path, monkeypatch):
  config.optimizer.rates = (0.1,)
  with monkeypatch.context() as patch:
    hurried = types.SimpleNamespace(monotonic=lambda: 1e6 * time.monotonic())
    patch.setattr(session, 'time', hurried)
    run.train(config, tmp_path)
  config.train.num_steps = 14
  run.train(config, tmp_path)
  environment = json.loads((tmp_path / 'environment.json').read_text())
  assert environment['seconds'] > 1e5
