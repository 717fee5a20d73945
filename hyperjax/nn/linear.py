"""Affine maps, the products that multiply the past, and layer norm."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from hyperjax.ops import deferred, norm, onehot
from hyperjax.ops.product import matmul, round_to, weight_first

PRODUCT = 'recurrent_product'


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
  loop: it gives each a tap, reads back what the product saw (and hands in the
  transposed kernel where `ops.product.weight_first` is faster), and the step
  still reads like its equation. Each is called once a step. Results have the
  name `PRODUCT`, by which policies of `jax.checkpoint` know them.

  Args:
    kernel: [N, M] initial kernel.
    dtype: precision of the product, see `ops.product`.
  """

  def __init__(self, kernel: Array, *, dtype: DTypeLike = jnp.float32):
    self.kernel = nnx.Param(kernel)
    self.dtype = dtype
    self.tap = nnx.data(None)
    self.seen = nnx.data(None)
    self.transposed = nnx.data(None)

  def __call__(self, x: Array) -> Array:
    """[B, N] -> [B, M]."""
    if self.transposed is not None:
      y = weight_first(x, self.kernel[...], self.transposed)
    elif self.tap is not None:
      y = matmul(x, lax.stop_gradient(self.kernel[...]), self.dtype)
    else:
      y = matmul(x, self.kernel[...], self.dtype)
    y = checkpoint_name(y, PRODUCT)
    if self.tap is None:
      return y
    if self.seen is not None:
      raise ValueError('a Product is called once a step; this one was twice')
    self.seen = round_to(x, self.dtype)
    return deferred.watch(y, self.tap)


class Bias(nnx.Module):
  """Adds a bias of its own, starting at zero, to each gate.

  Args:
    num_gates: G.
    size: H.
  """

  def __init__(self, num_gates: int, size: int):
    self.bias = nnx.Param(jnp.zeros((num_gates, size)))

  def __call__(self, gates: Sequence[Array]) -> list[Array]:
    """G times [B, H] -> the same."""
    biases = jnp.unstack(self.bias[...])
    return [y + bias for y, bias in zip(gates, biases, strict=True)]


class LayerNorm(nnx.Module):
  """Layer norm over the last axis, with a gain and bias. Epsilon is 1e-3.

  Args:
    size: H.
  """

  def __init__(self, size: int):
    self.scale = nnx.Param(jnp.ones(size))
    self.bias = nnx.Param(jnp.zeros(size))

  def __call__(self, x: Array) -> Array:
    """[..., H] -> the same."""
    return norm.layer_norm(x, self.scale[...], self.bias[...])


class GateNorm(nnx.Module):
  """A layer norm of its own for each gate.

  Args:
    num_gates: G.
    size: H.
  """

  def __init__(self, num_gates: int, size: int):
    self.scale = nnx.Param(jnp.ones((num_gates, size)))
    self.bias = nnx.Param(jnp.zeros((num_gates, size)))

  def __call__(self, gates: Sequence[Array]) -> list[Array]:
    """G times [B, H] -> the same."""
    scales, biases = jnp.unstack(self.scale[...]), jnp.unstack(self.bias[...])
    return [
      norm.layer_norm(y, scale, bias)
      for y, scale, bias in zip(gates, scales, biases, strict=True)
    ]
