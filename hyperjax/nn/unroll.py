"""The one scan over time."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from hyperjax.nn.linear import Product
from hyperjax.ops import deferred
from hyperjax.types import Carry, Cell, PyTree


def unroll(
  cell: Cell,
  carry: Carry,
  xs: PyTree,
  key: Array | None = None,
  *,
  mask: Array | None = None,
  remat: bool = False,
  defer: bool = True,
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
    remat: recompute each step in the backward pass instead of keeping its
      intermediates: less memory, more time.
    defer: form the weight gradient of each `Product` as one matmul over time
      and batch, outside the backward loop. Reverse mode only; False is the
      plain scan.

  Returns:
    The carry after the sequence and the outputs [T, B, H].
  """
  inputs = cell.project(xs)
  length = jax.tree.leaves(inputs)[0].shape[0]
  keys = None if key is None else jax.random.split(key, length)
  graph, params = nnx.split(cell)
  scan = functools.partial(_scan, graph, remat)
  if not defer:
    carry, (hs, _) = scan(params, carry, (inputs, keys, mask), None)
    return carry, hs
  return _deferred_scan(scan, params, carry, inputs, (keys, mask))


def _products(cell: nnx.Module) -> list[Product]:
  modules = (module for _, module in nnx.iter_modules(cell))
  return [module for module in modules if isinstance(module, Product)]


def _scan(graph, remat, params, carry, xs, taps):
  """The scan: (carry, (outputs, what each product saw))."""

  def step(carry, x):
    (x, key, mask), taps = x
    cell = nnx.merge(graph, params)
    if taps is not None:
      for product, tap in zip(_products(cell), taps, strict=True):
        product.tap = tap
    new_carry, h = cell.step(carry, x, key)
    if mask is not None:
      new_carry = jax.tree.map(
        functools.partial(_where, mask), new_carry, carry
      )
      h = _where(mask, h, jnp.zeros_like(h))
    return new_carry, (h, [product.seen for product in _products(cell)])

  if remat:
    step = jax.checkpoint(step, prevent_cse=False)
  return lax.scan(step, carry, (xs, taps))


def _where(mask, x, y):
  return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 1)), x, y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _deferred_scan(scan, params, carry, inputs, rest):
  carry, (hs, _) = scan(params, carry, (inputs, *rest), None)
  return carry, hs


def _deferred_forward(scan, params, carry, inputs, rest):
  taps = _taps(scan, params, carry, inputs, rest)

  def run(params, carry, inputs, taps):
    carry, (hs, seen) = scan(params, carry, (inputs, *rest), taps)
    return (carry, hs), seen

  out, pull_back, seen = jax.vjp(run, params, carry, inputs, taps, has_aux=True)
  return out, (pull_back, seen)


def _deferred_backward(scan, residuals, cotangents):
  pull_back, seen = residuals
  params, carry, inputs, taps = pull_back(cotangents)
  cell = nnx.merge(scan.args[0], params)
  for product, x, tap in zip(_products(cell), seen, taps, strict=True):
    product.kernel[...] = deferred.weight_gradient(x, tap, product.dtype)
  return nnx.state(cell), carry, inputs, None


def _taps(scan, params, carry, inputs, rest):
  """A zero tap for every product and time step, of the product's shape."""
  products = _products(nnx.merge(scan.args[0], params))
  length = jax.tree.leaves(inputs)[0].shape[0]
  dummy = [jnp.zeros(length) for _ in products]
  _, (_, seen) = jax.eval_shape(scan, params, carry, (inputs, *rest), dummy)
  if any(x is None for x in seen):
    raise ValueError('a Product is called once a step; this one never was')
  return [
    jnp.zeros(
      (*x.shape[:-1], product.kernel.shape[-1]),
      jnp.result_type(x, product.kernel[...]),
    )
    for x, product in zip(seen, products, strict=True)
  ]


_deferred_scan.defvjp(_deferred_forward, _deferred_backward)
