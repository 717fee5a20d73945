"""Affine maps, the products that multiply the past, and layer norm."""

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from hyperjax.ops import deferred, norm, onehot
from hyperjax.ops.product import matmul, round_to


class Linear(nnx.Module):
  """`x @ kernel + bias`, for written-out and one-hot inputs.

  Args:
    kernel: [N, M] initial kernel.
    bias: [M] initial bias, or None for none.
    dtype: precision of the product, see `ops.product`.
  """

  def __init__(
    self,
    kernel: Array,
    bias: Array | None = None,
    *,
    dtype: DTypeLike = jnp.float32,
  ):
    self.kernel = nnx.Param(kernel)
    self.bias = None if bias is None else nnx.Param(bias)
    self.dtype = dtype

  def __call__(self, x: Array | onehot.OneHot) -> Array:
    """[..., N] -> [..., M]."""
    y = onehot.matmul(x, self.kernel[...], self.dtype)
    return y if self.bias is None else y + self.bias[...]


class Product(nnx.Module):
  """`x @ kernel` where `x` comes from the step before, so inside the scan.

  `unroll` finds products by type and takes their weight gradients out of the
  loop: it gives each a tap, reads back what the product saw, and the step
  still reads like its equation. Each is called once a step.

  Args:
    kernel: [N, M] initial kernel.
    dtype: precision of the product, see `ops.product`.
  """

  def __init__(self, kernel: Array, *, dtype: DTypeLike = jnp.float32):
    self.kernel = nnx.Param(kernel)
    self.dtype = dtype
    self.tap = nnx.data(None)
    self.seen = nnx.data(None)

  def __call__(self, x: Array) -> Array:
    """[B, N] -> [B, M]."""
    if self.tap is None:
      return matmul(x, self.kernel[...], self.dtype)
    if self.seen is not None:
      raise ValueError('a Product is called once a step; this one was twice')
    self.seen = round_to(x, self.dtype)
    kernel = lax.stop_gradient(self.kernel[...])
    return deferred.watch(matmul(x, kernel, self.dtype), self.tap)


class Bias(nnx.Module):
  """Adds a bias that starts at zero."""

  def __init__(self, *shape: int):
    self.bias = nnx.Param(jnp.zeros(shape))

  def __call__(self, x: Array) -> Array:
    """Adds the bias to the last axes."""
    return x + self.bias[...]


class LayerNorm(nnx.Module):
  """Layer norm over the last axis; leading axes have gains of their own.

  `LayerNorm(4, H)` is four layer norms, one a gate. Epsilon is 1e-3.
  """

  def __init__(self, *shape: int):
    self.scale = nnx.Param(jnp.ones(shape))
    self.bias = nnx.Param(jnp.zeros(shape))

  def __call__(self, x: Array) -> Array:
    """Normalizes the last axis."""
    return norm.layer_norm(x, self.scale[...], self.bias[...])
