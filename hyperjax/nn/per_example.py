"""A module whose weights differ from example to example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from hyperjax.errors import UserError
from hyperjax.types import PyTree


def call(
  fill: Callable[[Array], nnx.Module],
  owner: nnx.Module,
  conditions: Array,
  args: tuple,
  kwargs: dict[str, Any],
) -> PyTree:
  """`fill(condition)(*args, **kwargs)` for each example, by `vmap`.

  Each example is a batch of one. Arrays are mapped over their leading axis;
  scalars and what is no array are the same for all, but a typed PRNG key is
  split, and so are the random streams of the module.

  Args:
    fill: makes the module of a condition.
    owner: holds the module's variables; its random streams move on.
    conditions: [B, ...].
    args: of the module; arrays are [B, ...].
    kwargs: the same by name.

  Returns:
    What the modules return, whose arrays are [1, ...], as [B, ...].

  Raises:
    UserError: an argument or result does not fit, or the call changes a
      variable, which each example would in its own way.
  """
  batch_size = len(conditions)
  leaves, tree = jax.tree.flatten((args, kwargs), is_leaf=_is_stateful)
  mapped = {
    place: _per_example(x, batch_size)
    for place, x in enumerate(leaves)
    if _is_mapped(x)
  }
  streams = _streams(owner)
  keys = [
    jax.random.split(
      jax.random.fold_in(stream.key[...], stream.count[...]), batch_size
    )
    for stream in streams
  ]
  changed = {}  # in the order of the module, not of hashes

  def one(condition, mapped, keys):
    module = nnx.clone(fill(condition))
    for stream, key in zip(_streams(module), keys, strict=True):
      stream.key[...] = key
    before = [
      (path, variable, variable.get_raw_value())
      for path, variable in nnx.iter_graph(module)
      if isinstance(variable, nnx.Variable)
    ]
    args, kwargs = tree.unflatten(
      mapped.get(place, x) for place, x in enumerate(leaves)
    )
    out = module(*args, **kwargs)
    changed.update(
      (path, variable)
      for path, variable, value in before
      if variable.get_raw_value() is not value
    )
    return jax.tree.map(_only, out)

  out = jax.vmap(one)(conditions, mapped, keys)
  for path, variable in changed.items():
    if not isinstance(variable, nnx.RngState):
      raise UserError(
        f"target: this call changes '{'/'.join(map(str, path))}', and each "
        f'example with weights of its own would in its own way; call `eval()` '
        f'first, or give one condition for the batch'
      )
  if changed:
    # The keys above were those of this count.
    for stream in streams:
      stream.count[...] += 1
  return out


def _is_stateful(x):
  return isinstance(x, nnx.Pytree | nnx.Variable)


def _is_key(x):
  return isinstance(x, jax.Array) and jnp.issubdtype(
    x.dtype, jax.dtypes.prng_key
  )


def _is_mapped(x):
  if _is_stateful(x):
    raise UserError(
      f'arguments: a {type(x).__name__} cannot be shared by examples that have '
      f'weights of their own; let the target hold it'
    )
  return _is_key(x) or (isinstance(x, jax.Array | np.ndarray) and x.ndim > 0)


def _per_example(x, batch_size):
  """[B, ...] -> [B, 1, ...]; keys [] or [B] -> [B]."""
  if _is_key(x) and x.ndim == 0:
    return jax.random.split(x, batch_size)
  if len(x) != batch_size:
    raise UserError(
      f'arguments: there is one of shape {x.shape} for {batch_size} '
      f'conditions; each array needs the same leading axis'
    )
  return x if _is_key(x) else x[:, None]


def _only(x):
  """What a batch of one holds."""
  if jnp.ndim(x) == 0 or len(x) != 1:
    raise UserError(
      f'target: it returned an array of shape {jnp.shape(x)} for a batch of '
      f'one; with weights for each example, results need a leading batch axis'
    )
  return x[0]


def _streams(module):
  return [
    node
    for _, node in nnx.iter_graph(module)
    if isinstance(node, nnx.RngStream)
  ]
