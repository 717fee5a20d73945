"""Attention: a cell that reads a memory while it writes (Bahdanau 2015)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax.nn.initializers import orthogonal
from hyperjax.nn.linear import Linear, Product
from hyperjax.types import Carry, Cell

NOWHERE = -1e9  # added to the score of a place that is only padding


class Memory(NamedTuple):
  """What an `AttentionCell` reads.

  Attributes:
    values: [B, S, M], of the places.
    keys: [B, S, A], by which they are found.
    penalty: [B, S], added to the scores: 0, or `NOWHERE` where nothing is.
  """

  values: Array
  keys: Array
  penalty: Array


class AttentionCell(nnx.Module):
  """Any cell, which reads a memory at each step.

      e_s = v . tanh(W_q h_{t-1} + W_k m_s)
      a_t = softmax(e),  w_t = sum_s a_ts m_s
      h_t = cell([x_t; w_t])

  and what it gives is [h_t; w_t; a_t], so that what comes above reads the same
  (GNMT, Wu et al. 2016, Sec. 3). The memory is no part of the carry, which a
  scan would keep for every step: see `reading`.

  Args:
    cell: of inputs [x; w].
    hidden_size: width of its output, H.
    memory_size: width of a place of the memory, M.
    attention_size: width of the keys, A.
    dtype: precision of the products, see `ops.product`.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self,
    cell: Cell,
    hidden_size: int,
    memory_size: int,
    attention_size: int,
    *,
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    _defer_input(cell)
    self.cell = cell
    self.hidden_size, self.memory_size = hidden_size, memory_size
    query_key, memory_key, score_key = jax.random.split(key, 3)
    self.query = Product(
      orthogonal(query_key, hidden_size, attention_size), dtype=dtype
    )
    self.memory_keys = Linear(
      orthogonal(memory_key, memory_size, attention_size),
      jnp.zeros(attention_size),
      dtype=dtype,
    )
    self.score = nnx.Param(
      jax.random.normal(score_key, (attention_size,)) / attention_size**0.5
    )
    self.memory = nnx.data(None)

  def remember(self, values: Array, mask: Array) -> Memory:
    """The memory of values [B, S, M], where the mask [B, S] is true."""
    penalty = jnp.where(mask, 0.0, NOWHERE)
    return Memory(values, self.memory_keys(values), penalty)

  def reading(self, memory: Memory) -> 'AttentionCell':
    """This cell with a memory, to be unrolled; shares its parameters."""
    graph, variables = nnx.split(self)
    cell = nnx.merge(graph, variables)
    cell.memory = memory
    return cell

  def initial_carry(self, batch_size: int) -> tuple[Carry, Array]:
    """The cell's, and an output [B, H] of zeros."""
    zeros = jnp.zeros((batch_size, self.hidden_size))
    return self.cell.initial_carry(batch_size), zeros

  def project(self, xs: Array) -> Array:
    """Nothing: what is read feeds back."""
    return xs

  def noise(self, key: Array | tuple | None, batch_size: int):
    """That of the cell."""
    if not hasattr(self.cell, 'noise'):
      return key
    return self.cell.noise(key, batch_size)

  def step(
    self, carry: tuple[Carry, Array], x: Array, key: Array | None = None
  ) -> tuple[tuple[Carry, Array], Array]:
    """The carry, [B, input_size] -> the carry, [B, H + M + S]."""
    carry, h = carry
    values, keys, penalty = self.memory
    mixed = jnp.tanh(keys + self.query(h)[:, None])
    attention = jax.nn.softmax(jnp.sum(mixed * self.score, -1) + penalty)
    # A sum and no batched product, which XLA is slow at on CPUs.
    read = jnp.sum(attention[..., None] * values, axis=1)
    x = jnp.concatenate([x, read], axis=-1)
    carry, h = self.cell.step(carry, self.cell.project(x), key)
    return (carry, h), jnp.concatenate([h, read, attention], axis=-1)

  def parts(self, outputs: Array) -> tuple[Array, Array, Array]:
    """What `step` gives, [..., H + M + S], as h, w and a."""
    sizes = self.hidden_size, self.hidden_size + self.memory_size
    return tuple(jnp.split(outputs, sizes, axis=-1))


def _defer_input(cell):
  """Makes products of the past of a cell's input products.

  `unroll` then takes their weight gradients out of the loop, too. A cell that
  has none by this name is as good, and slower.
  """
  for _, module in list(nnx.iter_modules(cell)):
    linear = getattr(module, 'input', None)
    if isinstance(linear, Linear) and linear.bias is None:
      module.input = Product(linear.kernel[...], dtype=linear.dtype)
