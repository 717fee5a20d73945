"""A recurrent network that predicts the pen (paper, Sec. 4.5 and A.3.5)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax import by_name
from hyperjax.errors import UserError
from hyperjax.models.recurrent import build_cells
from hyperjax.nn import weight_changes
from hyperjax.nn.cells.hyper_cell import HyperCell
from hyperjax.nn.initializers import orthogonal
from hyperjax.nn.linear import Linear
from hyperjax.nn.stack import Stack
from hyperjax.nn.window import WindowCell
from hyperjax.ops.dropout import dropout
from hyperjax.ops.mdn import num_outputs
from hyperjax.types import Carry, Cell


class PenModel(nnx.Module):
  """Moves of a pen, a stack of cells, and a mixture over the next move.

  Args:
    cells: the layers from the bottom up; the lowest may be a `WindowCell`,
      which reads the text to write.
    size: width of the top layer's output.
    num_mixtures: Gaussians in the mixture, K.
    output_keep_prob: keep probability of dropout on each layer's output.
    unroll: options of `nn.unroll`.
    dtype: precision of the output layer's product, see `ops.product`.
    key: PRNG key of the output layer's weights.
  """

  def __init__(
    self,
    cells: list[Cell],
    size: int,
    num_mixtures: int,
    *,
    output_keep_prob: float = 1.0,
    unroll: Mapping[str, Any] | None = None,
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    self.unroll = dict(unroll or {})
    self.output_keep_prob = output_keep_prob
    self.stack = Stack(cells, output_keep_prob)
    outputs = num_outputs(num_mixtures)
    self.head = Linear(
      orthogonal(key, size, outputs), jnp.zeros(outputs), dtype=dtype
    )

  @property
  def reads(self) -> bool:
    """Whether it is told what to write."""
    return isinstance(self.stack.cells[0], WindowCell)

  def initial_carry(self, batch_size: int, text: Array | None = None) -> Carry:
    """The carry of lines not yet begun.

    Args:
      batch_size: lines side by side, B.
      text: int [B, U], symbols from 1, then 0; of a model that reads.
    """
    carry = self.stack.initial_carry(batch_size)
    if text is None:
      return carry
    return self.stack.cells[0].read(carry[0], text), *carry[1:]

  def has_written(self, carry: Carry) -> Array:
    """Whether the window is behind the end of its text, bool [B]."""
    return carry[0][1].beyond

  def weight_changes(self, before: Carry, after: Carry) -> Array | None:
    """How much a step changed the lowest layer's weights, [B, G] by gate.

    None if no hyper cell makes them.
    """
    cell, before, after = self.stack.cells[0], before[0], after[0]
    if self.reads:
      cell, before, after = cell.cell, before[0], after[0]
    if not isinstance(cell, HyperCell):
      return None
    return weight_changes.change(cell, before, after)

  def inputs(self, moves: Array) -> Array:
    """Moves [B, T, 3] as the stack takes them, [T, B, 3]."""
    return moves.swapaxes(0, 1)

  def __call__(
    self, carry: Carry, moves: Array, key: Array | None = None, **options
  ) -> tuple[Carry, Array]:
    """Goes on: the carry, moves [B, T, 3] -> the carry, [B, T, 6 K + 1].

    Args:
      carry: from `initial_carry`, or of the moves before.
      moves: normalized, and whether the pen was lifted after each.
      key: PRNG key of all dropout; None means no dropout.
      **options: of `nn.unroll`, before those that the model has.
    """
    stack_key, output_key = (
      (None,) * 2 if key is None else jax.random.split(key)
    )
    carry, hs = self.stack(
      carry, self.inputs(moves), stack_key, **{**self.unroll, **options}
    )
    outputs = self.head(dropout(hs, output_key, self.output_keep_prob))
    return carry, outputs.swapaxes(0, 1)


def build(
  *,
  num_symbols: int = 0,
  hidden_size: int,
  num_layers: int = 1,
  num_mixtures: int = 20,
  num_windows: int = 0,
  output_keep_prob: float = 1.0,
  unroll: Mapping[str, Any] | None = None,
  dtype: DTypeLike = jnp.float32,
  key: Array,
  **options: Any,
) -> PenModel:
  """The model of `config.model`.

  Args:
    num_symbols: that it may be told to write, by `config.data.alphabet`.
    hidden_size: units of each layer.
    num_layers: how many layers.
    num_mixtures: Gaussians in the mixture.
    num_windows: Gaussians in the window over the text; 0 for no text.
    output_keep_prob: of dropout on each layer's output.
    unroll: see `build_cells`; from `config.unroll`.
    dtype: precision of all products; from `config.dtype`.
    key: PRNG key of the initial weights.
    **options: of `build_cells`, and any others that the cell takes.
  """
  if (num_symbols > 0) != (num_windows > 0):
    raise UserError(
      f'config.model.num_windows is {num_windows}, but config.data.alphabet '
      f'{"has characters" if num_symbols else "is empty"}; give both to write '
      f'given texts, or neither'
    )
  head_key, *keys = jax.random.split(key, num_layers + 1)
  # What is read goes into the lowest layer, and out of it beside its own.
  sizes = [hidden_size + num_symbols] + [hidden_size] * (num_layers - 1)
  given = {
    'input_sizes': [3 + num_symbols, *sizes[:-1]],
    'hidden_size': hidden_size,
    'unroll': unroll,
    'dtype': dtype,
    'keys': keys,
  }
  by_name.check(
    build_cells, options, given, field='config.model', what="'handwriting'"
  )
  cells, unroll = build_cells(**options, **given)
  if num_windows:
    cells[0] = WindowCell(
      cells[0],
      hidden_size,
      num_symbols,
      num_windows,
      dtype=dtype,
      key=jax.random.fold_in(head_key, 0),
    )
  return PenModel(
    cells,
    sizes[-1],
    num_mixtures,
    output_keep_prob=output_keep_prob,
    unroll=unroll,
    dtype=dtype,
    key=head_key,
  )
