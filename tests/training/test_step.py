import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperjax import parts
from hyperjax.training import seed_axis
from hyperjax.training.metrics import mean_of
from hyperjax.training.optimizer import build as build_optimizer
from hyperjax.training.step import init_state, make_advance, reset, train_step
from hyperjax.types import Aux, Variables

SEED = seed_axis.of(0, 1)


class Drift:
  """A task whose every number can be told in the head.

  The loss is w * x; the carry counts the steps since its stream was fresh; the
  model state counts all steps.
  """

  objective = 'loss'

  def init(self, key):
    return Variables({'w': jnp.float32(10.0)}, {'seen': jnp.int32(0)})

  def carry(self, batch_size):
    return jnp.zeros((batch_size, 1))

  def loss(self, params, state, carry, batch, key):
    loss = params['w'] * batch['x']
    noise = jax.random.uniform(key)
    metrics = {'loss': mean_of(loss), 'noise': mean_of(noise)}
    return loss, Aux({'seen': state['seen'] + 1}, carry + 1, metrics)


class Ones:
  """Batches of x = 1, NaN at step `broken`; fresh at every third step."""

  def __init__(self, broken=-1):
    self.broken = broken

  def arrays(self):
    return jnp.float32(1.0)

  def batch(self, arrays, seed, step):
    x = jnp.where(step == self.broken, jnp.nan, arrays)
    return {'x': x, 'fresh': jnp.array([step % 3 == 0, False])}


def start(source, rate=0.5):
  task, optimizer = Drift(), optax.sgd(rate)
  state = jax.jit(lambda: init_state(task, optimizer, 2, SEED))()
  return make_advance(task, source, optimizer, SEED), state, source.arrays()


def test_several_steps_in_one_dispatch():
  advance, state, arrays = start(Ones())
  state, metrics = advance(state, arrays, 5)
  assert int(state.step) == 5
  assert float(state.params['w']) == 10 - 5 * 0.5
  assert int(state.state['seen']) == 5
  assert int(state.broken) == -1
  # Losses 10, 9.5, 9, 8.5, 8.
  assert metrics['loss'].read() == 9.0
  assert float(metrics['loss'].weight) == 5
  assert metrics['grad_norm'].read() == 1.0


def test_how_steps_are_dealt_out_changes_nothing():
  runs = []
  for counts in ([7], [1] * 7, [2, 5], [4, 3]):
    advance, state, arrays = start(Ones(), rate=0.3)
    noise = 0.0
    for count in counts:
      state, metrics = advance(state, arrays, count)
      noise += float(metrics['noise'].total)
    runs.append((jax.device_get(state), noise))
  for state, noise in runs[1:]:
    jax.tree.map(np.testing.assert_array_equal, state, runs[0][0])
    assert noise == pytest.approx(runs[0][1], rel=1e-6)


def test_fresh_streams_start_with_the_tasks_carry():
  advance, state, arrays = start(Ones())
  carries = []
  for _ in range(5):
    state, _ = advance(state, arrays, 1)
    carries.append(state.carry[:, 0].tolist())
  assert carries == [[1, 1], [2, 2], [3, 3], [1, 4], [2, 5]]


def test_it_stops_at_the_first_step_that_is_not_finite():
  advance, state, arrays = start(Ones(broken=3))
  state, _ = advance(state, arrays, 10)
  assert int(state.broken) == 3
  assert int(state.step) == 4


def test_the_first_broken_step_is_kept():
  optimizer = optax.sgd(0.5)
  state = init_state(Drift(), optimizer, 2, SEED)
  state = state._replace(step=jnp.int32(3), broken=jnp.int32(1))
  batch = Ones(broken=3).batch(jnp.float32(1.0), SEED, 3)
  state, _ = train_step(Drift(), optimizer, state, batch, jax.random.key(0))
  assert int(state.broken) == 1


def test_every_step_draws_its_own_noise():
  advance, state, arrays = start(Ones())
  noise = []
  for _ in range(4):
    state, metrics = advance(state, arrays, 1)
    noise.append(metrics['noise'].read())
  assert len(set(noise)) == 4


def test_reset_takes_whole_rows():
  carry = (jnp.ones((3, 2)), jnp.ones(3))
  zeros = jax.tree.map(jnp.zeros_like, carry)
  rows, flat = reset(carry, zeros, jnp.array([True, False, True]))
  np.testing.assert_array_equal(rows, [[0, 0], [1, 1], [0, 0]])
  np.testing.assert_array_equal(flat, [0, 1, 0])


def test_gradients_are_clipped_but_logged_as_they_were():
  task = Drift()
  optimizer, _ = build_optimizer(
    name='sgd', learning_rate=1.0, num_steps=10, clip_norm=0.25
  )
  state = init_state(task, optimizer, 2, SEED)
  batch = {'x': jnp.float32(4.0)}
  state, metrics = train_step(task, optimizer, state, batch, jax.random.key(0))
  assert float(state.params['w']) == 9.75
  assert metrics['grad_norm'].read() == 4.0


def test_golden_steps(tiny_config):
  """Three steps of the layer-norm HyperLSTM, as they came out once.

  Edit the numbers only when initial weights, data order, dropout or the
  arithmetic were meant to change, and say so in the changelog.
  """
  tiny_config.model.recurrent_keep_prob = 0.9
  tiny_config.model.input_keep_prob = 0.9
  tiny_config.model.output_keep_prob = 0.9
  task, source = parts.build_task(tiny_config), parts.build_source(tiny_config)
  optimizer, _ = build_optimizer(
    num_steps=60, **tiny_config.optimizer.to_dict()
  )
  state = jax.jit(lambda: init_state(task, optimizer, 4, SEED))()
  advance = make_advance(task, source, optimizer, SEED)
  losses = []
  for _ in range(3):
    state, metrics = advance(state, source.arrays(), 1)
    losses.append(metrics['loss_nats'].read())
  np.testing.assert_allclose(losses, GOLDEN_LOSSES, rtol=1e-5)
  norm = float(optax.tree.norm(state.params))
  np.testing.assert_allclose(norm, GOLDEN_NORM, rtol=1e-5)


GOLDEN_LOSSES = [2.8098836, 2.7863567, 2.6652770]
GOLDEN_NORM = 16.056339
