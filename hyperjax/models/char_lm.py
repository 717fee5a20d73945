"""A recurrent language model over symbols (paper, Sec. 4.3-4.4 and A.3.3)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax import by_name
from hyperjax.models.recurrent import build_cells
from hyperjax.nn.initializers import orthogonal
from hyperjax.nn.linear import Linear
from hyperjax.nn.stack import Stack
from hyperjax.ops.dropout import dropout
from hyperjax.ops.onehot import OneHot, one_hot, one_hot_dropout
from hyperjax.types import Carry, Cell


class CharLM(nnx.Module):
  """One-hot symbols, a stack of cells, and logits of the next symbol.

  Args:
    cells: the layers from the bottom up.
    hidden_size: width of the top layer's output.
    vocab_size: number of symbols, V.
    input_keep_prob: keep probability of input dropout.
    output_keep_prob: of dropout on each layer's output.
    unroll: options of `nn.unroll`.
    dtype: precision of the output layer's product, see `ops.product`.
    key: PRNG key of the output layer's weights.
  """

  def __init__(
    self,
    cells: list[Cell],
    hidden_size: int,
    vocab_size: int,
    *,
    input_keep_prob: float = 1.0,
    output_keep_prob: float = 1.0,
    unroll: Mapping[str, Any] | None = None,
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    self.unroll = dict(unroll or {})
    self.input_keep_prob = input_keep_prob
    self.output_keep_prob = output_keep_prob
    self.stack = Stack(cells, output_keep_prob)
    self.head = Linear(
      orthogonal(key, hidden_size, vocab_size),
      jnp.zeros(vocab_size),
      dtype=dtype,
    )

  def initial_carry(self, batch_size: int) -> Carry:
    """The carry of streams that have read nothing."""
    return self.stack.initial_carry(batch_size)

  def inputs(self, symbols: Array) -> OneHot:
    """Symbols [B, T] as the stack takes them, [T, B]."""
    return one_hot(symbols.T)

  def __call__(
    self, carry: Carry, symbols: Array, key: Array | None = None, **options
  ) -> tuple[Carry, Array]:
    """Reads on: the carry, symbols [B, T] -> the carry, logits [B, T, V].

    Args:
      carry: from `initial_carry`, or of the window before.
      symbols: integers below V.
      key: PRNG key of all dropout; None means no dropout.
      **options: of `nn.unroll`, before those that the model has.
    """
    input_key, stack_key, output_key = (
      (None,) * 3 if key is None else jax.random.split(key, 3)
    )
    xs = one_hot_dropout(self.inputs(symbols), input_key, self.input_keep_prob)
    carry, hs = self.stack(carry, xs, stack_key, **{**self.unroll, **options})
    logits = self.head(dropout(hs, output_key, self.output_keep_prob))
    return carry, logits.swapaxes(0, 1)


def build(
  *,
  vocab_size: int,
  hidden_size: int,
  num_layers: int = 1,
  input_keep_prob: float = 1.0,
  output_keep_prob: float = 1.0,
  unroll: Mapping[str, Any] | None = None,
  dtype: DTypeLike = jnp.float32,
  key: Array,
  **options: Any,
) -> CharLM:
  """The model of `config.model`.

  Args:
    vocab_size: number of symbols; from `config.data`.
    hidden_size: units of each layer.
    num_layers: how many layers.
    input_keep_prob: of input dropout.
    output_keep_prob: of dropout on each layer's output.
    unroll: see `build_cells`; from `config.unroll`.
    dtype: precision of all products; from `config.dtype`.
    key: PRNG key of the initial weights.
    **options: of `build_cells`, and any others that the cell takes.
  """
  head_key, *keys = jax.random.split(key, num_layers + 1)
  given = {
    'input_sizes': [vocab_size] + [hidden_size] * (num_layers - 1),
    'hidden_size': hidden_size,
    'unroll': unroll,
    'dtype': dtype,
    'keys': keys,
  }
  by_name.check(
    build_cells, options, given, field='config.model', what="'char_lm'"
  )
  cells, unroll = build_cells(**options, **given)
  return CharLM(
    cells,
    hidden_size,
    vocab_size,
    input_keep_prob=input_keep_prob,
    output_keep_prob=output_keep_prob,
    unroll=unroll,
    dtype=dtype,
    key=head_key,
  )
