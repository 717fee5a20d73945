"""How strongly a hyper cell changes its main cell's weights (paper, Fig. 4)."""

import jax.numpy as jnp
from jax import Array

from hyperjax.nn.cells.hyper_cell import HyperCell
from hyperjax.nn.generators import RowScaling
from hyperjax.types import Carry


def generated(cell: HyperCell, hyper_carry: Carry) -> list[Array]:
  """What makes W_h of each gate, G times [B, ...], in a state.

  The row scales d (Eq. 8), or the embeddings z of whole matrices (Eq. 5).
  """
  h_hyper = cell.hyper.output(hyper_carry)
  weights = cell.weights_h
  if isinstance(weights, RowScaling):
    return weights.vectors(h_hyper)
  return jnp.split(weights.embedding(h_hyper), weights.num_gates, axis=-1)


def change(cell: HyperCell, before: Carry, after: Carry) -> Array:
  """How much a step changed W_h of each gate, [B, G].

  The root mean square of the change of its row scales, or of its embedding.

  Args:
    cell: a hyper cell.
    before: its carry, of the main cell and of the hyper cell.
    after: its carry a step later.
  """
  pairs = zip(
    generated(cell, before[1]), generated(cell, after[1]), strict=True
  )
  return jnp.stack(
    [jnp.sqrt(jnp.mean(jnp.square(b - a), axis=-1)) for a, b in pairs], axis=-1
  )
