"""Recurrent layers on top of each other."""

from collections.abc import Sequence

import jax
from flax import nnx
from jax import Array

from hyperjax.nn.unroll import unroll
from hyperjax.ops.dropout import dropout
from hyperjax.types import Carry, Cell, PyTree


class Stack(nnx.Module):
  """Cells unrolled layer by layer, so that each layer projects only once.

  Args:
    cells: the layers from the bottom up.
    keep_prob: keep probability of the dropout between layers.
  """

  def __init__(self, cells: Sequence[Cell], keep_prob: float = 1.0):
    self.cells = nnx.List(cells)
    self.keep_prob = keep_prob

  def initial_carry(self, batch_size: int) -> tuple[Carry, ...]:
    """One carry a layer."""
    return tuple(cell.initial_carry(batch_size) for cell in self.cells)

  def __call__(
    self,
    carry: tuple[Carry, ...],
    xs: PyTree,
    key: Array | None = None,
    **options,
  ) -> tuple[tuple[Carry, ...], Array]:
    """Carries and inputs [T, B, ...] -> carries and outputs [T, B, H].

    Args:
      carry: one carry a layer.
      xs: the bottom layer's inputs.
      key: PRNG key of all dropout here; None means no dropout.
      **options: of `unroll`.
    """
    carries = []
    for depth, (cell, cell_carry) in enumerate(
      zip(self.cells, carry, strict=True)
    ):
      key, cell_key, dropout_key = (
        (None,) * 3 if key is None else jax.random.split(key, 3)
      )
      if depth > 0:
        xs = dropout(xs, dropout_key, self.keep_prob)
      cell_carry, xs = unroll(cell, cell_carry, xs, cell_key, **options)
      carries.append(cell_carry)
    return tuple(carries), xs
