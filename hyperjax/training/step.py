"""The train step: one jitted function of plain pytrees."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

from hyperjax.ops.random import stream
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

Advance = Callable[[TrainState, PyTree, int], tuple[TrainState, Metrics, Array]]


def init_state(
  task: Task,
  optimizer: optax.GradientTransformation,
  batch_size: int,
  seed: int,
) -> TrainState:
  """The state before the first step."""
  variables: Variables = task.init(stream(seed, 'init'))
  return TrainState(
    step=jnp.int32(0),
    params=variables.params,
    state=variables.state,
    carry=task.carry(batch_size),
    opt_state=optimizer.init(variables.params),
  )


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
  state = TrainState(state.step + 1, params, aux.state, aux.carry, opt_state)
  return state, metrics


def make_advance(
  task: Task,
  source: Source,
  optimizer: optax.GradientTransformation,
  seed: int,
) -> Advance:
  """Builds `advance(state, arrays, num_steps)`: several steps a dispatch.

  The batches are made on the device from `arrays`, and every random number
  from (seed, step), so it does not matter how the steps are dealt out to
  dispatches. The number of steps is an argument, so one compilation does for
  all, and the state is donated.

  Returns:
    A jitted function that returns the new state, the metrics merged over the
    steps, and the step that made a metric that is not finite, or -1. It stops
    there.
  """
  key = stream(seed, 'train')

  def one(state: TrainState, arrays: PyTree):
    batch = source.batch(arrays, seed, state.step)
    return train_step(
      task, optimizer, state, batch, jax.random.fold_in(key, state.step)
    )

  @functools.partial(jax.jit, donate_argnums=0)
  def advance(state, arrays, num_steps):
    last = state.step + num_steps
    shapes = jax.eval_shape(one, state, arrays)[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def go_on(loop):
      state, _, broken = loop
      return (state.step < last) & (broken < 0)

    def body(loop):
      state, total, _ = loop
      new_state, metrics = one(state, arrays)
      totals = jnp.array([mean.total for mean in metrics.values()])
      finite = jnp.all(jnp.isfinite(totals))
      broken = jnp.where(finite, -1, state.step)
      return new_state, merge(total, metrics), broken

    return jax.lax.while_loop(go_on, body, (state, zeros, jnp.int32(-1)))

  return advance
