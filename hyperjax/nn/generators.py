"""Generators of recurrent weights, from a hyper cell's output (Sec. 3.2)."""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax.nn.linear import Linear
from hyperjax.ops.product import matmul


class GateVectors(nnx.Module):
  """One generated vector a gate (Eq. 8 and 12): d^y = W_z^y z^y + b_0^y.

  The embedding z^y = W_e^y h_hyper + b^y has `z_size` elements, so W_z^y W_e^y
  is a low-rank map from the hyper cell to the main cell's units.

  Args:
    embedding: makes z of the hyper cell's output, [B, S] -> [B, G N_z].
    kernel: [G, N_z, H] initial W_z, for G gates.
    bias: [G, H] initial b_0, or None for none.
    dtype: precision of the products, see `ops.product`.
  """

  def __init__(
    self,
    embedding: Linear,
    kernel: Array,
    bias: Array | None = None,
    *,
    dtype: DTypeLike = jnp.float32,
  ):
    self.embedding = embedding
    self.kernel = nnx.Param(kernel)
    self.bias = None if bias is None else nnx.Param(bias)
    self.dtype = dtype

  def __call__(self, h_hyper: Array) -> list[Array]:
    """[B, S] -> d of each gate, G times [B, H]."""
    kernels = jnp.unstack(self.kernel[...])
    zs = jnp.split(self.embedding(h_hyper), len(kernels), axis=-1)
    # A product a gate: XLA on CPU is slow at the batched einsum of them.
    ds = [
      matmul(z, kernel, self.dtype)
      for z, kernel in zip(zs, kernels, strict=True)
    ]
    if self.bias is None:
      return ds
    biases = jnp.unstack(self.bias[...])
    return [d + bias for d, bias in zip(ds, biases, strict=True)]


class RowScaling(nnx.Module):
  """Generated weights by scaled rows (Eq. 7-8): W(z) v = d(z) * (W v).

  Args:
    vectors: make d of the hyper cell's output.
  """

  def __init__(self, vectors: GateVectors):
    self.vectors = vectors

  def __call__(self, h_hyper: Array, product: Array) -> list[Array]:
    """[B, S] and W v [B, G H] -> W(z) v of each gate, G times [B, H]."""
    ds = self.vectors(h_hyper)
    products = jnp.split(product, len(ds), axis=-1)
    return [d * y for d, y in zip(ds, products, strict=True)]


class WeightSum(nnx.Module):
  """Generated weights in full (Eq. 5): W(z) v = sum_k z_k (W_k v).

  The matrix W(z) itself is never formed: a batch would need one a row. The
  sum over k is float32 whatever the precision of the products.

  Args:
    embedding: makes z of the hyper cell's output, [B, S] -> [B, G N_z].
    num_gates: G.
  """

  def __init__(self, embedding: Linear, num_gates: int):
    self.embedding = embedding
    self.num_gates = num_gates

  def __call__(self, h_hyper: Array, product: Array) -> list[Array]:
    """[B, S] and all W_k v [B, N_z G H] -> W(z) v, G times [B, H]."""
    z = self.embedding(h_hyper).reshape(len(h_hyper), self.num_gates, -1)
    parts = product.reshape(len(h_hyper), z.shape[-1], self.num_gates, -1)
    return list(jnp.unstack(jnp.einsum('bgz,bzgh->bgh', z, parts), axis=-2))
