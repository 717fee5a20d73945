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

  def __call__(self, h_hyper: Array) -> Array:
    """[B, S] -> [B, G, H]."""
    kernel = self.kernel[...]
    z = self.embedding(h_hyper)
    # A product a gate: XLA on CPU is slow at the batched einsum of them.
    gates = zip(jnp.split(z, len(kernel), axis=-1), kernel, strict=True)
    d = jnp.stack([matmul(z_y, w_y, self.dtype) for z_y, w_y in gates], axis=-2)
    return d if self.bias is None else d + self.bias[...]


class RowScaling(nnx.Module):
  """Generated weights by scaled rows (Eq. 7-8): W(z) v = d(z) * (W v).

  Args:
    vectors: make d of the hyper cell's output.
  """

  def __init__(self, vectors: GateVectors):
    self.vectors = vectors

  def __call__(self, h_hyper: Array, product: Array) -> Array:
    """[B, S] and W v [B, G H] -> W(z) v [B, G, H]."""
    d = self.vectors(h_hyper)
    return d * product.reshape(d.shape)


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

  def __call__(self, h_hyper: Array, product: Array) -> Array:
    """[B, S] and all W_k v [B, N_z G H] -> W(z) v [B, G, H]."""
    z = self.embedding(h_hyper).reshape(len(h_hyper), self.num_gates, -1)
    parts = product.reshape(len(h_hyper), z.shape[-1], self.num_gates, -1)
    return jnp.einsum('bgz,bzgh->bgh', z, parts)
