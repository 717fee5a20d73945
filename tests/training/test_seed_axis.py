import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperjax.training import seed_axis
from hyperjax.training.metrics import mean_of
from hyperjax.training.step import init_state, make_advance
from hyperjax.types import Aux, Variables


class Draws:
  """A task whose parameter and loss depend on the seed's keys."""

  objective = 'loss'

  def init(self, key):
    matrix = jax.nn.initializers.orthogonal()(key, (3, 3))
    return Variables({'w': matrix}, {})

  def carry(self, batch_size):
    return jnp.zeros((batch_size, 2))

  def loss(self, params, state, carry, batch, key):
    noise = jax.random.normal(key, (3, 3))
    loss = jnp.sum(params['w'] * noise) + jnp.mean(carry) + batch['x']
    return loss, Aux(state, carry + 1, {'loss': mean_of(loss)})


class Numbers:
  """Batches of the seed times `scale`; NaN for one seed from one step on."""

  def __init__(self, broken_seed=None, step=0):
    self.broken = broken_seed, step

  def batch(self, arrays, seed, step):
    x = arrays * seed.astype(jnp.float32)
    if self.broken[0] is not None:
      bad = (seed == self.broken[0]) & (step >= self.broken[1])
      x = jnp.where(bad, jnp.nan, x)
    return {'x': x}


def play(source, seed, num_seeds, num_steps=4):
  task, optimizer = Draws(), optax.sgd(0.1)
  seeds = seed_axis.of(seed, num_seeds)
  state = jax.jit(lambda: init_state(task, optimizer, 2, seeds))()
  advance = make_advance(task, source, optimizer, seeds)
  state, metrics = advance(state, jnp.float32(0.5), num_steps)
  return jax.device_get(state), metrics['loss'].read()


def test_one_seed_has_no_axis():
  state, loss = play(Numbers(), 3, 1)
  assert state.params['w'].shape == (3, 3)
  assert state.broken.shape == loss.shape == ()


def test_seeds_side_by_side_are_those_of_single_runs():
  states, losses = play(Numbers(), 3, 4)
  assert states.step == 4
  assert states.carry.shape == (4, 2, 2)
  for place, seed in enumerate((3, 4, 5, 6)):
    alone, loss = play(Numbers(), seed, 1)
    np.testing.assert_allclose(
      states.params['w'][place], alone.params['w'], rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(losses[place], loss, rtol=1e-6)
  assert len(set(losses)) == 4


def test_the_largest_seed_there_is():
  states, _ = play(Numbers(), 2**32 - 2, 2)
  alone, _ = play(Numbers(), 2**32 - 1, 1)
  np.testing.assert_allclose(
    states.params['w'][1], alone.params['w'], rtol=1e-6, atol=1e-7
  )


def test_a_broken_seed_does_not_stop_the_others():
  states, losses = play(Numbers(broken_seed=4, step=1), 3, 3)
  assert states.broken.tolist() == [-1, 1, -1]
  assert states.step == 4
  sound, expected = play(Numbers(), 3, 3)
  for place in (0, 2):
    np.testing.assert_array_equal(
      states.params['w'][place], sound.params['w'][place]
    )
    assert losses[place] == expected[place]
  assert np.isnan(losses[1])


def test_when_all_are_broken_it_stops():
  task, optimizer = Draws(), optax.sgd(0.1)
  seeds = seed_axis.of(0, 2)

  class Broken:
    def batch(self, arrays, seed, step):
      return {'x': jnp.where(step >= seed.astype(jnp.int32), jnp.nan, 0.0)}

  state = jax.jit(lambda: init_state(task, optimizer, 2, seeds))()
  advance = make_advance(task, Broken(), optimizer, seeds)
  state, _ = advance(state, None, 10)
  assert state.broken.tolist() == [0, 1]
  assert int(state.step) == 2


def test_the_first_broken_step_is_kept():
  states, _ = play(Numbers(broken_seed=4, step=1), 4, 2, num_steps=6)
  assert states.broken.tolist() == [1, -1]


def test_metrics_of_seeds_are_spread_into_names():
  named = seed_axis.spread(
    {'a/x': np.array([1.0, 3.0, 5.0]), 'a/y': 2.0}, [7, 8, 9]
  )
  assert named == {
    'a/x': 3.0,
    'a/x_std': 2.0,
    'seed_7/a/x': 1.0,
    'seed_8/a/x': 3.0,
    'seed_9/a/x': 5.0,
    'a/y': 2.0,
  }


def test_a_seed_that_is_not_finite_is_not_in_the_mean():
  named = seed_axis.spread({'x': np.array([1.0, np.nan, 2.0])}, [0, 1, 2])
  assert named['x'] == 1.5
  assert named['x_std'] == pytest.approx(np.sqrt(0.5))
  assert np.isnan(named['seed_1/x'])


def test_one_finite_seed_has_no_deviation():
  named = seed_axis.spread({'x': np.array([np.inf, 2.0])}, [0, 1])
  assert named['x'] == 2.0
  assert 'x_std' not in named
  nothing = seed_axis.spread({'x': np.array([np.nan, np.nan])}, [0, 1])
  assert np.isnan(nothing['x'])


def test_taking_and_stacking_undo_each_other():
  seeds = seed_axis.of(5, 2)
  trees = [{'a': jnp.arange(3.0) + k} for k in range(2)]
  both = seed_axis.stack(trees)
  for place, tree in enumerate(trees):
    np.testing.assert_array_equal(
      seed_axis.take(both, place, seeds)['a'], tree['a']
    )
  assert seed_axis.take(both, 0, seed_axis.of(5, 1)) is both
