"""Matrix products in a chosen precision."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


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
  flat = cotangent.reshape(-1, cotangent.shape[-1])
  kernel_gradient = _rounded(x.reshape(-1, x.shape[-1]).T, flat, dtype)
  x_gradient = _rounded(cotangent, kernel.T, dtype)
  return x_gradient.astype(like.dtype), kernel_gradient.astype(kernel.dtype)


_rounded.defvjp(_rounded_forward, _rounded_backward)
