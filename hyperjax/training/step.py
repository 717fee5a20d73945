"""The train step: one jitted function of plain pytrees."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from hyperjax.ops.random import stream
from hyperjax.training import seed_axis
from hyperjax.training.metrics import mean_of, merge
from hyperjax.types import (
  Carry,
  Metrics,
  PyTree,
  Source,
  Task,
  TrainState,
  Variables,
)

Advance = Callable[[TrainState, PyTree, int], tuple[TrainState, Metrics]]
# Where a state has its axis of seeds.
AXES = TrainState(None, 0, 0, 0, 0, 0)


def init_state(
  task: Task,
  optimizer: optax.GradientTransformation,
  batch_size: int,
  seeds: np.ndarray,
) -> TrainState:
  """The state before the first step.

  Args:
    task: gives the parameters.
    optimizer: gives its own state.
    batch_size: streams of the carry.
    seeds: of `training.seed_axis`.
  """

  def one(seed):
    variables: Variables = task.init(stream(seed, 'init'))
    return TrainState(
      step=jnp.int32(0),
      params=variables.params,
      state=variables.state,
      carry=task.carry(batch_size),
      opt_state=optimizer.init(variables.params),
      broken=jnp.int32(-1),
    )

  return seed_axis.init(seeds, one)._replace(step=jnp.int32(0))


def reset(carry: Carry, start: Carry, fresh: Array) -> Carry:
  """Puts `start` where a stream begins anew; leaves are [B, ...]."""
  return jax.tree.map(
    lambda new, old: jnp.where(
      fresh.reshape(fresh.shape + (1,) * (old.ndim - 1)), new, old
    ),
    start,
    carry,
  )


def train_step(
  task: Task,
  optimizer: optax.GradientTransformation,
  state: TrainState,
  batch: PyTree,
  key: Array,
) -> tuple[TrainState, Metrics]:
  """One update: gradient of the loss, clipped and applied.

  To the loss's metrics it adds the norms of the gradient, before clipping, and
  of the updated parameters.
  """
  carry = state.carry
  if 'fresh' in batch:
    fresh = batch['fresh']
    carry = reset(carry, task.carry(fresh.shape[0]), fresh)
  grads, aux = jax.grad(task.loss, has_aux=True)(
    state.params, state.state, carry, batch, key
  )
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics = {
    **aux.metrics,
    'grad_norm': mean_of(optax.tree.norm(grads)),
    'param_norm': mean_of(optax.tree.norm(params)),
  }
  totals = jnp.array([mean.total for mean in metrics.values()])
  broken = jnp.where(jnp.all(jnp.isfinite(totals)), -1, state.step)
  state = TrainState(
    step=state.step + 1,
    params=params,
    state=aux.state,
    carry=aux.carry,
    opt_state=opt_state,
    broken=jnp.where(state.broken < 0, broken, state.broken),
  )
  return state, metrics


def make_advance(
  task: Task,
  source: Source,
  optimizer: optax.GradientTransformation,
  seeds: np.ndarray,
) -> Advance:
  """Builds `advance(state, arrays, num_steps)`: several steps a dispatch.

  The batches are made on the device from `arrays`, and every random number
  from (seed, step), so it does not matter how the steps are dealt out to
  dispatches. The number of steps is an argument, so one compilation does for
  all, and the state is donated. Several seeds take their steps side by side.

  Returns:
    A jitted function that returns the new state and the metrics merged over
    the steps. It stops where every seed's state is broken.
  """

  def one(state: TrainState, arrays: PyTree, seed: Array):
    batch = source.batch(arrays, seed, state.step)
    key = jax.random.fold_in(stream(seed, 'train'), state.step)
    return train_step(task, optimizer, state, batch, key)

  every = seed_axis.over(seeds, one, (AXES, None, 0), (AXES, 0))

  @functools.partial(jax.jit, donate_argnums=0)
  def advance(state, arrays, num_steps):
    last = state.step + num_steps
    shapes = jax.eval_shape(every, state, arrays, seeds)[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def go_on(loop):
      state, _ = loop
      return (state.step < last) & jnp.any(state.broken < 0)

    def body(loop):
      state, total = loop
      state, metrics = every(state, arrays, seeds)
      return state, merge(total, metrics)

    return jax.lax.while_loop(go_on, body, (state, zeros))

  return advance
