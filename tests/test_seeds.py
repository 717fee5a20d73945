"""Whole runs of several seeds."""

import contextlib
import io
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
  config.model.cell = 'lstm'
  config.train.update({'num_steps': 20, 'eval_every': 10})
  config.seed, config.num_seeds = SEEDS[0], len(SEEDS)
  workdir = tmp_path_factory.mktemp('several')
  return config, workdir, run.train(config, workdir)


@pytest.fixture(scope='module')
def single(tmp_path_factory, several):
  """The middle seed alone."""
  config = several[0].copy_and_resolve_references()
  config.seed, config.num_seeds = SEEDS[1], 1
  workdir = tmp_path_factory.mktemp('single')
  return config, workdir, run.train(config, workdir)


def test_each_seed_gets_the_numbers_of_a_run_of_its_own(several, single):
  _, workdir, result = several
  _, alone, expected = single
  # Sums in another order.
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


@pytest.fixture(scope='module')
def one_breaks(tmp_path_factory, several):
  """The run of three seeds if the middle one diverges: and what it said."""
  workdir, said = tmp_path_factory.mktemp('one_breaks'), io.StringIO()
  with pytest.MonkeyPatch.context() as patch:
    break_seeds(patch, {4: 12})
    with contextlib.redirect_stderr(said):
      result = run.train(several[0], workdir)
  return workdir, result, said.getvalue()


def test_a_diverged_seed_is_told_and_left_out(several, one_breaks):
  config, _, sound = several
  workdir, result, said = one_breaks
  assert 'seed 4: a metric is not finite at step 12' in said
  assert result['seed_4/diverged_at'] == 12
  assert 'seed_4/test/bits_per_char' not in result
  assert result['seeds'] == [3, 5]
  assert 'mean of 2 of 3 seeds; seed 4 diverged at step 12' in run.summary(
    workdir
  )
  for seed in (3, 5):
    name = f'seed_{seed}/test/bits_per_char'
    assert result[name] == pytest.approx(sound[name], rel=1e-4)
  each = [result[f'seed_{seed}/test/bits_per_char'] for seed in (3, 5)]
  assert result['test/bits_per_char'] == pytest.approx(np.mean(each))
  again = run.evaluate(config, workdir)
  assert again['test/bits_per_char'] == result['test/bits_per_char']
  with pytest.raises(UserError, match='no seed 4; there: 3, 5'):
    run.load(workdir, seed=4)


@pytest.mark.parametrize(
  'broken', [{4: 12}, pytest.param({}, marks=pytest.mark.slow)]
)
def test_a_stopped_run_goes_on_exactly(
  several, one_breaks, tmp_path, monkeypatch, broken
):
  break_seeds(monkeypatch, broken)
  with monkeypatch.context() as patch:
    stop_after(patch, 13)
    with pytest.raises(SignalledError) as error:
      run.train(several[0], tmp_path)
  assert error.value.signum == signal.SIGTERM
  expected = one_breaks[1] if broken else several[2]
  assert run.train(several[0], tmp_path) == expected


def test_the_mean_of_one_that_is_left(several, tmp_path, monkeypatch):
  config = several[0].copy_and_resolve_references()
  config.train.update({'num_steps': 8, 'eval_every': 4})
  break_seeds(monkeypatch, {3: 2, 4: 5})
  result = run.train(config, tmp_path)
  assert result['test/bits_per_char'] == result['seed_5/test/bits_per_char']
  assert 'test/bits_per_char_std' not in result


def test_when_all_diverge_the_run_ends(several, tmp_path, monkeypatch):
  break_seeds(monkeypatch, {3: 2, 4: 12, 5: 14})
  with pytest.raises(UserError, match='of the last seed is not finite at step'):
    run.train(several[0], tmp_path)
  assert not (tmp_path / 'result.json').exists()
