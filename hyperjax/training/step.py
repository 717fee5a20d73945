"""The train step: one jitted function of plain pytrees."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from hyperjax.errors import UserError
from hyperjax.ops import target
from hyperjax.ops.random import stream
from hyperjax.training import seed_axis, sharding
from hyperjax.training.metrics import mean_of, merge
from hyperjax.training.sharding import Layout
from hyperjax.types import (
  Aux,
  Batch,
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
  batch: Batch,
  key: Array,
  *,
  accumulate_steps: int = 1,
) -> tuple[TrainState, Metrics]:
  """One update: gradient of the loss, clipped and applied.

  To the loss's metrics it adds the norms of the gradient, before clipping, and
  of the updated parameters.

  Args:
    task: what to train.
    optimizer: makes the update.
    state: before the step.
    batch: whose rows are the carry's.
    key: PRNG key of the loss.
    accumulate_steps: see `gradients`.
  """
  carry = state.carry
  if 'fresh' in batch:
    fresh = batch['fresh']
    carry = reset(carry, task.carry(fresh.shape[0]), fresh)
  grads, aux = gradients(
    task, state._replace(carry=carry), batch, key, accumulate_steps
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


def gradients(
  task: Task, state: TrainState, batch: Batch, key: Array, num_parts: int = 1
) -> tuple[PyTree, Aux]:
  """The gradient of the loss, in parts one after the other to save memory.

  It is that of the whole batch: the parts' gradients are averaged by
  `Aux.weight`. What normalizes by the batch (BatchNorm) sees a part at a time,
  and its running averages move with each; dropout draws other masks.

  Args:
    task: gives the loss.
    state: of the parameters, and of the carry before the batch.
    batch: of B rows, a multiple of `num_parts`.
    key: PRNG key of the loss.
    num_parts: how many; part k has the rows k, k + num_parts, ..., so that each
      device that holds some rows has its share of every part.
  """
  grad = jax.grad(task.loss, has_aux=True)
  if num_parts == 1:
    return grad(state.params, state.state, state.carry, batch, key)
  rows = sharding.num_rows(batch)
  if not rows or rows % num_parts:
    raise UserError(
      f'config.train.accumulate_steps: batches of {rows} rows can not be cut '
      f'in {num_parts} parts; set it to 1'
    )

  def cut(x):
    parts = x.reshape(rows // num_parts, num_parts, *x.shape[1:])
    return parts.swapaxes(0, 1)

  def mend(x):
    return x.swapaxes(0, 1).reshape(rows, *x.shape[2:])

  has_rows = {name: x.shape[:1] == (rows,) for name, x in batch.items()}
  whole = {name: x for name, x in batch.items() if not has_rows[name]}
  parts = {name: cut(x) for name, x in batch.items() if has_rows[name]}

  def one(model_state, part):
    k, carry, batch = part
    grads, aux = grad(
      state.params,
      model_state,
      carry,
      {**whole, **batch},
      jax.random.fold_in(key, k),
    )
    weight = jnp.asarray(aux.weight, jnp.float32)
    grads = jax.tree.map(lambda g: g * weight, grads)
    return aux.state, (aux.carry, (grads, aux.metrics, weight))

  def body(loop, part):
    model_state, total = loop
    model_state, (carry, new) = one(model_state, part)
    return (model_state, jax.tree.map(jnp.add, total, new)), carry

  xs = jnp.arange(num_parts), jax.tree.map(cut, state.carry), parts
  first = jax.tree.map(lambda x: x[0], xs)
  shapes = jax.eval_shape(one, state.state, first)[1][1]
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  (model_state, total), carry = jax.lax.scan(body, (state.state, zeros), xs)
  grads, metrics, weight = total
  return jax.tree.map(lambda g: (g / weight).astype(g.dtype), grads), Aux(
    model_state, jax.tree.map(mend, carry), metrics, weight
  )


def make_advance(
  task: Task,
  source: Source,
  optimizer: optax.GradientTransformation,
  seeds: np.ndarray,
  *,
  layout: Layout | None = None,
  accumulate_steps: int = 1,
) -> Advance:
  """Builds `advance(state, arrays, num_steps)`: several steps a dispatch.

  The batches are made on the device from `arrays`, and every random number
  from (seed, step), so it does not matter how the steps are dealt out to
  dispatches. The number of steps is an argument, so one compilation does for
  all, and the state is donated. Several seeds take their steps side by side.

  Args:
    task: what to train.
    source: gives the batches.
    optimizer: makes the updates.
    seeds: of `training.seed_axis`.
    layout: where the state lies; None is wherever it is put.
    accumulate_steps: see `gradients`.

  Returns:
    A jitted function that returns the new state and the metrics merged over
    the steps. It stops where every seed's state is broken.
  """

  @target.compiling_for(layout and layout.mesh)
  def one(state: TrainState, arrays: PyTree, seed: Array):
    batch = source.batch(arrays, seed, state.step)
    if layout:
      rows = layout.of_rows(batch, sharding.num_rows(batch))
      batch = layout.constrain(batch, rows)
    key = jax.random.fold_in(stream(seed, 'train'), state.step)
    return train_step(
      task, optimizer, state, batch, key, accumulate_steps=accumulate_steps
    )

  every = seed_axis.over(seeds, one, (AXES, None, 0), (AXES, 0))

  def place(state, metrics):
    if not layout:
      return state, metrics
    lies = layout.of_state(state, seeds.size), layout.whole
    return layout.constrain((state, metrics), lies)

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
      return place(state, merge(total, metrics))

    return place(*jax.lax.while_loop(go_on, body, (state, zeros)))

  return advance
