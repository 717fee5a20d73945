"""Products whose weight gradient is formed outside the loop they stand in."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from hyperjax.ops.product import matmul


@jax.custom_vjp
def watch(y: Array, tap: Array) -> Array:
  """Returns `y`; the gradient of `y` is handed to `tap` as well.

  `tap` is never read. In a scan whose inputs include one tap a step, the
  gradient of the taps is thus the stacked gradient of every `y`.
  """
  del tap
  return y


def _watch_forward(y, tap):
  return watch(y, tap), None


def _watch_backward(_, cotangent):
  return cotangent, cotangent


watch.defvjp(_watch_forward, _watch_backward)


def weight_gradient(
  inputs: Array, cotangents: Array, dtype: DTypeLike = jnp.float32
) -> Array:
  """Gradient of a kernel from all its products at once.

  Args:
    inputs: [..., N], what the kernel multiplied, over time and batch.
    cotangents: [..., M], the gradients of the products.
    dtype: precision of the product, see `ops.product`.

  Returns:
    [N, M], the gradient of the kernel.
  """
  return matmul(
    inputs.reshape(-1, inputs.shape[-1]).T,
    cotangents.reshape(-1, cotangents.shape[-1]),
    dtype,
  )
