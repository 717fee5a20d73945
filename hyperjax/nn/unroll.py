"""The one scan over time."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from hyperjax.nn.linear import PRODUCT, Product
from hyperjax.ops import deferred, target
from hyperjax.ops.norm import STATISTIC
from hyperjax.ops.onehot import OneHot
from hyperjax.ops.product import is_weight_first, kernel_gradient
from hyperjax.ops.target import Target
from hyperjax.types import Carry, Cell, PyTree

# Rows of batch and time whose weight gradients are formed by one matmul: enough
# for a fast one, few enough that what waits for it stays small.
CHUNK_ROWS = 4096
# The same where sequences end at different lengths: half as many, so that less
# is computed behind the end.
RAGGED_CHUNK_ROWS = 2048
KERNELS = ('auto', 'xla', 'fused', 'interpret')
# What the backward pass finds kept; None is everything.
REMAT = {
  'nothing': None,
  'elementwise': (PRODUCT, STATISTIC),
  'step': (),
}


def unroll(
  cell: Cell,
  carry: Carry,
  xs: PyTree,
  key: Array | None = None,
  *,
  mask: Array | None = None,
  length: Array | None = None,
  remat: str = 'elementwise',
  defer: bool = True,
  kernels: str = 'auto',
) -> tuple[Carry, Array]:
  """Runs a cell over a sequence.

  Args:
    cell: an `nnx.Module` with the interface of `types.Cell`.
    carry: the cell's state before the sequence; leaves are [B, ...].
    xs: inputs, time-major: leaves are [T, B, ...].
    key: PRNG key of recurrent dropout; None means no dropout.
    mask: [T, B] bool, or None for all true. Where it is false the carry stands
      still and the output is zero, so padding changes nothing, as long as
      it is finite.
    length: [] int, or None for T: how many steps matter. The others are not
      computed, but for those of a last chunk (`steps_run`): their outputs are
      zero, and the carry is that of before. Under `vmap` it must be the same
      for all, or everything is computed.
    remat: what the backward pass computes anew instead of keeping it:
      'nothing'; 'elementwise', which is all but the results of `Product`
      modules and the statistics of layer norms; or the whole 'step', for the
      least memory.
    defer: form the weight gradient of each `Product` as one matmul over all
      time steps, or over as many as make `CHUNK_ROWS` rows, outside the
      backward loop. Reverse mode only; False is the plain scan.
    kernels: 'auto' takes `nn.fused_loop`, which needs neither defer nor remat,
      where the target is one GPU and it covers the cell, and else the scan;
      'xla' is the scan; 'fused' is that loop, and 'interpret' runs it on any
      platform, slowly, to test it.

  Returns:
    The carry after the sequence and the outputs [T, B, H].
  """
  if remat not in REMAT:
    raise ValueError(f'remat is {remat!r}; it must be one of {[*REMAT]}')
  chosen = kernels_of(cell, kernels, defer)
  num_steps = jax.tree.leaves(xs)[0].shape[0]
  keys = None if key is None else jax.random.split(key, num_steps)
  graph, params = nnx.split(cell)
  scan = functools.partial(_scan, graph, remat)

  def plain(params, carry, xs, rest):
    if defer:
      return _deferred_scan(scan, params, carry, xs, rest)
    xs = nnx.merge(graph, params).project(xs)
    carry, (hs, _) = scan(params, carry, (xs, *rest), None)
    return carry, hs

  def in_kernels(params, carry, xs, rest):
    from hyperjax.nn import fused_loop

    cell = nnx.merge(graph, params)
    interpret = chosen == 'interpret'
    return fused_loop.run(cell, carry, xs, *rest, interpret=interpret)

  def run(carry, chunk):
    xs, *rest = chunk
    given = params, carry, xs, tuple(rest)
    if chosen == 'xla':
      return plain(*given)
    if kernels != 'auto':
      return in_kernels(*given)
    # A process with a GPU may compile for its CPU, too.
    return lax.platform_dependent(*given, cuda=in_kernels, default=plain)

  size = num_steps
  if defer or length is not None:
    batch_size = jax.tree.leaves(carry)[0].shape[0]
    size = _chunk_size(num_steps, batch_size, ragged=length is not None)
  return _in_chunks(run, carry, (xs, keys, mask), num_steps, size, length)


def kernels_of(cell: Cell, kernels: str = 'auto', defer: bool = True) -> str:
  """What `unroll` makes the loop of: 'xla', 'fused' or 'interpret'.

  Raises:
    ValueError: there is no fused loop for the cell, and it was asked for.
  """
  if kernels not in KERNELS:
    raise ValueError(f'kernels is {kernels!r}; it must be one of {KERNELS}')
  is_meant = kernels != 'auto' or target.current() == target.ONE_GPU
  if kernels == 'xla' or not is_meant:
    return 'xla'
  from hyperjax.nn import fused_loop  # here, for the scan needs no Pallas

  if defer and fused_loop.covers(cell):
    return 'fused' if kernels == 'auto' else kernels
  if kernels == 'auto':
    return 'xla'
  raise ValueError(
    f'kernels is {kernels!r}, but there are none for this cell'
    f"{'' if defer else ' without defer'}; take 'auto'"
  )


def loops_on(
  devices: Target, model: nnx.Module, options: Mapping[str, Any]
) -> list[tuple[str, str]]:
  """The path of each cell in a model, and what its loop is, in words.

  Args:
    devices: that it is to run on.
    model: has cells; those inside of cells are left out.
    options: `config.unroll`.
  """
  kernels = options.get('kernels', 'auto')
  kernels = 'xla' if kernels == 'pallas' else kernels  # of cells in a scan
  defer = options.get('defer', True)
  found = {}
  for path, cell in sorted(nnx.iter_modules(model), key=lambda item: item[0]):
    is_cell = hasattr(cell, 'step') and hasattr(cell, 'project')
    if not is_cell or any(path[: len(outer)] == outer for outer in found):
      continue
    with target.compiling_for(devices):
      fused = kernels_of(cell, kernels, defer) != 'xla'
    found[path] = 'a product and a kernel a time step' if fused else 'a scan'
  return [('/'.join(map(str, path)), loop) for path, loop in found.items()]


def steps_run(length: int, num_steps: int, batch_size: int) -> int:
  """How many steps `unroll` computes of a batch where `length` matter."""
  size = _chunk_size(num_steps, batch_size, ragged=True)
  return min(-(-length // size) * size, num_steps)


def _chunk_size(num_steps, batch_size, ragged):
  rows = RAGGED_CHUNK_ROWS if ragged else CHUNK_ROWS
  count = max(-(-num_steps * batch_size // rows), 1)
  return max(num_steps // count, 1)


def _in_chunks(run, carry, steps, num_steps, size, length):
  """`run(carry, chunk)` on chunk after chunk of `size` steps, and the rest.

  Chunks that begin at `length` or later are left out.
  """

  def run_if_needed(carry, start, chunk):
    if length is None:
      return run(carry, chunk)

    def leave_out(carry, chunk):
      shape = jax.eval_shape(run, carry, chunk)[1]
      return carry, jnp.zeros(shape.shape, shape.dtype)

    return lax.cond(start < length, run, leave_out, carry, chunk)

  count = num_steps // size
  if count < 2:
    return run_if_needed(carry, 0, steps)
  body = jax.tree.map(
    lambda x: x[: count * size].reshape(count, size, *x.shape[1:]), steps
  )
  carry, hs = lax.scan(
    lambda carry, x: run_if_needed(carry, *x),
    carry,
    (jnp.arange(count) * size, body),
  )
  hs = hs.reshape(count * size, *hs.shape[2:])
  if count * size == num_steps:
    return carry, hs
  carry, rest = run_if_needed(
    carry, count * size, jax.tree.map(lambda x: x[count * size :], steps)
  )
  return carry, jnp.concatenate([hs, rest])


class _Taps(NamedTuple):
  """Zeros [T, ...], whose gradients are those of what they watch."""

  products: list[Array]
  inputs: list[Array]  # the inexact leaves of `Cell.project`


def _products(cell: nnx.Module) -> list[Product]:
  modules = (module for _, module in nnx.iter_modules(cell))
  return [module for module in modules if isinstance(module, Product)]


def _scan(graph, remat, params, carry, xs, taps, transposed=None):
  """The scan: (carry, (outputs, what each product saw)).

  Symbols are projected here: to gather their rows within a step is cheaper
  than to write those of all steps to memory and to read them again.
  """
  inputs, keys, mask = xs
  cell = nnx.merge(graph, params)
  if keys is not None and hasattr(cell, 'noise'):
    # All steps' masks at once, and not again in the backward pass.
    batch_size = jax.tree.leaves(carry)[0].shape[0]
    keys = jax.vmap(lambda key: cell.noise(key, batch_size))(keys)

  def step(carry, x):
    (x, key, mask), taps = x
    cell = nnx.merge(graph, params)
    if isinstance(x, OneHot):
      x = cell.project(x)
    if taps:
      x = _watch(x, taps.inputs)
    for k, product in enumerate(_products(cell)):
      product.tap = taps.products[k] if taps else None
      product.transposed = transposed[k] if transposed else None
    new_carry, h = cell.step(carry, x, key)
    if mask is not None:
      new_carry = jax.tree.map(
        functools.partial(_where, mask), new_carry, carry
      )
      h = _where(mask, h, jnp.zeros_like(h))
    return new_carry, (h, [product.seen for product in _products(cell)])

  if REMAT[remat] is not None:
    policy = jax.checkpoint_policies.save_only_these_names(*REMAT[remat])
    step = jax.checkpoint(step, prevent_cse=False, policy=policy)
  return lax.scan(step, carry, ((inputs, keys, mask), taps))


def _where(mask, x, y):
  return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 1)), x, y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _deferred_scan(scan, params, carry, xs, rest):
  inputs = _inputs(scan, params, xs)
  transposed = _transposed(scan, params, carry)
  carry, (hs, _) = scan(params, carry, (inputs, *rest), None, transposed)
  return carry, hs


def _deferred_forward(scan, params, carry, xs, rest):
  inputs = _inputs(scan, params, xs)
  transposed = _transposed(scan, params, carry)

  def run(params, carry, taps):
    carry, (hs, seen) = scan(params, carry, (inputs, *rest), taps, transposed)
    return (carry, hs), seen

  projected = jax.eval_shape(functools.partial(_project, scan), params, xs)
  taps = _taps(scan, params, carry, inputs, rest, projected)
  out, pull_back, seen = jax.vjp(run, params, carry, taps, has_aux=True)
  return out, (pull_back, seen, params, xs)


def _deferred_backward(scan, residuals, cotangents):
  pull_back, seen, params, xs = residuals
  from_scan, carry, taps = pull_back(cotangents)
  projected, project_back = jax.vjp(
    functools.partial(_project, scan), params, xs
  )
  from_inputs, xs = project_back(_untapped(projected, taps.inputs))
  cell = nnx.merge(scan.args[0], jax.tree.map(jnp.add, from_scan, from_inputs))
  for product, x, tap in zip(_products(cell), seen, taps.products, strict=True):
    product.kernel[...] = kernel_gradient(x, tap, product.dtype)
  return nnx.state(cell), carry, xs, None


def _inputs(scan, params, xs):
  """What the scan runs over; it projects symbols itself."""
  return xs if isinstance(xs, OneHot) else _project(scan, params, xs)


def _project(scan, params, xs):
  return nnx.merge(scan.args[0], params).project(xs)


def _watch(tree, taps):
  """The tree, whose gradient goes to the taps and nowhere else."""
  taps = iter(taps)
  return jax.tree.map(
    lambda x: (
      deferred.watch(lax.stop_gradient(x), next(taps)) if _is_inexact(x) else x
    ),
    tree,
  )


def _untapped(tree, taps):
  """The gradients of a tree from those of its taps."""
  taps = iter(taps)
  return jax.tree.map(
    lambda x: (
      next(taps) if _is_inexact(x) else np.zeros(x.shape, jax.dtypes.float0)
    ),
    tree,
  )


def _is_inexact(x):
  return jnp.issubdtype(x.dtype, jnp.inexact)


def _transposed(scan, params, carry):
  """The transposed kernel of each product that is faster with it, or None."""
  batch_size = jax.tree.leaves(carry)[0].shape[0]
  return [
    lax.optimization_barrier(product.kernel[...].T)
    if is_weight_first(product.kernel[...], batch_size, product.dtype)
    else None
    for product in _products(nnx.merge(scan.args[0], params))
  ]


def _taps(scan, params, carry, inputs, rest, projected):
  """A zero tap for each product and input product of every time step."""
  products = _products(nnx.merge(scan.args[0], params))
  input_taps = [
    jnp.zeros(x.shape, x.dtype)
    for x in jax.tree.leaves(projected)
    if _is_inexact(x)
  ]
  length = jax.tree.leaves(inputs)[0].shape[0]
  dummy = _Taps([jnp.zeros(length) for _ in products], input_taps)
  _, (_, seen) = jax.eval_shape(scan, params, carry, (inputs, *rest), dummy)
  if any(x is None for x in seen):
    raise ValueError('a Product is called once a step; this one never was')
  product_taps = [
    jnp.zeros(
      (*x.shape[:-1], product.kernel.shape[-1]),
      jnp.result_type(x, product.kernel[...]),
    )
    for x, product in zip(seen, products, strict=True)
  ]
  return _Taps(product_taps, input_taps)


_deferred_scan.defvjp(_deferred_forward, _deferred_backward)
