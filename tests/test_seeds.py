"""Whole runs of several seeds."""

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax import run
from hyperjax import workdir as files
from hyperjax.errors import UserError
from hyperjax.training.loop import SignalledError
from hyperjax.training.step import make_advance
from tests.test_run import stop_after

SEEDS = (3, 4, 5)


@pytest.fixture(scope='module')
def several(tmp_path_factory, make_tiny_config):
  """A run of three seeds: its config, workdir and result."""
  config = make_tiny_config()
  config.seed, config.num_seeds = SEEDS[0], len(SEEDS)
  workdir = tmp_path_factory.mktemp('several')
  return config, workdir, run.train(config, workdir)


@pytest.fixture(scope='module')
def single(tmp_path_factory, make_tiny_config):
  """The middle seed alone."""
  config = make_tiny_config()
  config.seed = SEEDS[1]
  workdir = tmp_path_factory.mktemp('single')
  return config, workdir, run.train(config, workdir)


def test_each_seed_gets_the_numbers_of_a_run_of_its_own(several, single):
  _, workdir, result = several
  _, alone, expected = single
  # Sums in another order; 60 steps of a small model let that grow to 1e-5.
  for name in ('valid/bits_per_char', 'test/bits_per_char'):
    assert result[f'seed_4/{name}'] == pytest.approx(expected[name], rel=1e-4)
  assert result['seed_4/best_step'] == expected['best_step']
  assert result['parameters'] == expected['parameters']
  model, _ = run.load(workdir, seed=4)
  one, _ = run.load(alone)
  for a, b in zip(
    jax.tree.leaves(nnx.state(model)),
    jax.tree.leaves(nnx.state(one)),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_the_result_has_mean_deviation_and_each_seed(several):
  _, workdir, result = several
  each = [result[f'seed_{seed}/test/bits_per_char'] for seed in SEEDS]
  assert len(set(each)) == 3
  assert result['test/bits_per_char'] == pytest.approx(np.mean(each))
  assert result['test/bits_per_char_std'] == pytest.approx(np.std(each, ddof=1))
  assert result['num_seeds'] == 3
  assert files.read_json(workdir / 'result.json') == result
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  assert 'seed_5/train/bits_per_char' in json.loads(lines[0])


def test_evaluating_again_gives_the_result_whatever_the_command_says(several):
  config, workdir, result = several
  config = config.copy_and_resolve_references()
  config.seed, config.num_seeds = 0, 1  # as by default on the command line
  again = run.evaluate(config, workdir)
  for name in ('test/bits_per_char', 'seed_5/test/bits_per_char'):
    assert again[name] == result[name]


def test_sampling_takes_the_first_seed(several):
  config, workdir, _ = several
  assert run.sample(config, workdir) == (workdir / 'sample.txt').read_text()


def test_a_seed_that_is_not_there(several):
  _, workdir, _ = several
  with pytest.raises(UserError, match='no seed 9; there: 3, 4, 5'):
    run.load(workdir, seed=9)


def test_another_number_of_seeds_is_refused(several):
  config, workdir, _ = several
  config = config.copy_and_resolve_references()
  config.num_seeds = 2
  with pytest.raises(UserError, match=r'num_seeds \(was 3, is 2\)'):
    run.train(config, workdir)


def test_a_stopped_run_goes_on_exactly(several, tmp_path, monkeypatch):
  config, _, result = several
  stop_after(monkeypatch, 23)
  with pytest.raises(SignalledError) as error:
    run.train(config, tmp_path)
  assert error.value.signum == signal.SIGTERM
  monkeypatch.undo()
  assert run.train(config, tmp_path) == result


def break_seeds(monkeypatch, broken):
  """From its step on, a seed's loss is not finite: {seed: step}."""

  def make_and_break(task, source, optimizer, seeds, **options):
    class Broken:
      def batch(self, arrays, seed, step):
        batch = source.batch(arrays, seed, step)
        bad = np.zeros((), bool)
        for which, first in broken.items():
          bad = bad | ((seed == which) & (step >= first))
        return batch | {'bad': bad}

    class BrokenTask:
      def __getattr__(self, name):
        return getattr(task, name)

      def loss(self, params, state, carry, batch, key):
        loss, aux = task.loss(params, state, carry, batch, key)
        factor = jnp.where(batch['bad'], np.nan, 1.0)
        total = {
          name: type(mean)(mean.total * factor, mean.weight)
          for name, mean in aux.metrics.items()
        }
        return loss * factor, aux._replace(metrics=total)

    return make_advance(BrokenTask(), Broken(), optimizer, seeds, **options)

  monkeypatch.setattr('hyperjax.training.session.make_advance', make_and_break)


def test_a_diverged_seed_is_told_and_left_out(
  several, tmp_path, monkeypatch, capsys
):
  config, _, sound = several
  break_seeds(monkeypatch, {4: 30})
  result = run.train(config, tmp_path)
  assert 'seed 4: a metric is not finite at step 30' in capsys.readouterr().err
  assert result['seed_4/diverged_at'] == 30
  assert 'seed_4/test/bits_per_char' not in result
  assert result['seeds'] == [3, 5]
  assert 'mean of 2 of 3 seeds; seed 4 diverged at step 30' in run.summary(
    tmp_path
  )
  for seed in (3, 5):
    name = f'seed_{seed}/test/bits_per_char'
    assert result[name] == pytest.approx(sound[name], rel=1e-4)
  each = [result[f'seed_{seed}/test/bits_per_char'] for seed in (3, 5)]
  assert result['test/bits_per_char'] == pytest.approx(np.mean(each))
  again = run.evaluate(config, tmp_path)
  assert again['test/bits_per_char'] == result['test/bits_per_char']
  with pytest.raises(UserError, match='no seed 4; there: 3, 5'):
    run.load(tmp_path, seed=4)


def test_it_is_still_diverged_after_a_restart(several, tmp_path, monkeypatch):
  config, _, _ = several
  break_seeds(monkeypatch, {3: 5, 4: 30})
  whole = run.train(config, tmp_path / 'whole')
  stop_after(monkeypatch, 41)
  with pytest.raises(SignalledError):
    run.train(config, tmp_path / 'stopped')
  monkeypatch.undo()
  break_seeds(monkeypatch, {3: 5, 4: 30})
  assert run.train(config, tmp_path / 'stopped') == whole
  # One is left: a mean of one, and no deviation.
  assert whole['test/bits_per_char'] == whole['seed_5/test/bits_per_char']
  assert 'test/bits_per_char_std' not in whole


def test_when_all_diverge_the_run_ends(several, tmp_path, monkeypatch):
  config, _, _ = several
  break_seeds(monkeypatch, {3: 5, 4: 30, 5: 45})
  with pytest.raises(UserError, match='of the last seed is not finite at step'):
    run.train(config, tmp_path)
  assert not (tmp_path / 'result.json').exists()
