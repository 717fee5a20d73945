"""Learned vectors of symbols."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax.ops.product import round_to


class Embedding(nnx.Module):
  """A table with a row for each symbol of a large vocabulary.

  A gather in both passes: for a few symbols the products of `ops.onehot` are
  faster, but their cost grows with the vocabulary.

  Args:
    num_symbols: V.
    size: E.
    dtype: what the rows are rounded to, see `ops.product`.
    key: PRNG key of the initial rows, from N(0, 0.1^2).
  """

  def __init__(
    self,
    num_symbols: int,
    size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    self.kernel = nnx.Param(0.1 * jax.random.normal(key, (num_symbols, size)))
    self.dtype = dtype

  def __call__(self, symbols: Array) -> Array:
    """Int [...] -> float32 [..., E]."""
    kernel = self.kernel[...]
    return round_to(kernel[symbols], self.dtype).astype(kernel.dtype)
