"""Matrix products in a chosen precision."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from hyperjax.ops import target


def round_to(x: Array, dtype: DTypeLike) -> Array:
  """`x` as a factor of a product in `dtype`; float32 means as it is."""
  return x if jnp.dtype(dtype) == jnp.float32 else x.astype(dtype)


def matmul(x: Array, kernel: Array, dtype: DTypeLike = jnp.float32) -> Array:
  """`x @ kernel`: [..., N], [N, M] -> [..., M].

  Args:
    x: left factor.
    kernel: right factor.
    dtype: what both factors are rounded to, in the backward pass too. The sums
      and the result are float32 all the same. Anything but float32 is for
      reverse mode only.
  """
  if jnp.dtype(dtype) == jnp.float32:
    return x @ kernel
  return _rounded(x, kernel, dtype)


def kernel_gradient(
  x: Array, cotangent: Array, dtype: DTypeLike = jnp.float32
) -> Array:
  """Gradient of a kernel over all rows: [..., N], [..., M] -> [N, M].

  The rows' axes are contracted as they are. Were they made one, rows that are
  dealt out along the second axis (the batch, behind time) would have to be
  gathered on every device.

  Args:
    x: what the kernel multiplied.
    cotangent: the gradients of the products.
    dtype: what both are rounded to; the sums are float32.
  """
  rows = tuple(range(x.ndim - 1))
  return jnp.tensordot(
    round_to(x, dtype),
    round_to(cotangent, dtype),
    (rows, rows),
    preferred_element_type=jnp.float32,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rounded(x, kernel, dtype):
  # By hand, for the derivative of a mixed product is a product in float32.
  return jnp.matmul(
    x.astype(dtype), kernel.astype(dtype), preferred_element_type=jnp.float32
  )


def _rounded_forward(x, kernel, dtype):
  like = jnp.zeros(0, x.dtype)
  return _rounded(x, kernel, dtype), (x.astype(dtype), kernel, like)


def _rounded_backward(dtype, residuals, cotangent):
  x, kernel, like = residuals
  x_gradient = _rounded(cotangent, kernel.T, dtype)
  gradient = kernel_gradient(x, cotangent, dtype)
  return x_gradient.astype(like.dtype), gradient.astype(kernel.dtype)


_rounded.defvjp(_rounded_forward, _rounded_backward)


def is_weight_first(kernel: Array, batch_size: int, dtype: DTypeLike) -> bool:
  """Whether `weight_first` is the faster product here.

  On CPUs alone, where XLA packs the right factor anew at each call: for a few
  rows times a large matrix, packing takes longer than multiplying.
  """
  return (
    target.current().platform == 'cpu'
    and jnp.dtype(dtype) == jnp.float32
    and kernel.size >= 500_000
    and batch_size <= 64
  )


@jax.custom_vjp
def weight_first(x: Array, kernel: Array, transposed: Array) -> Array:
  """`x @ kernel` with the weights as the left factor: [B, N] -> [B, M].

  The kernel gets no gradient: for products whose weight gradient is deferred.

  Args:
    x: [B, N].
    kernel: [N, M].
    transposed: its transpose, made once for many products.
  """
  return _left(transposed, x)


def _left(matrix, x):
  # The barriers keep XLA from turning the product around again.
  columns = jax.lax.optimization_barrier(x.T)
  return jax.lax.optimization_barrier(matrix @ columns).T


weight_first.defvjp(
  lambda x, kernel, transposed: (_left(transposed, x), kernel),
  lambda kernel, cotangent: (_left(kernel, cotangent), None, None),
)
