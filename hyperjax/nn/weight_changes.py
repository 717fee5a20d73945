"""How strongly a hyper cell changes its main cell's weights (paper, Fig. 4)."""

import jax.numpy as jnp
from jax import Array

from hyperjax.nn.cells.hyper_cell import HyperCell
from hyperjax.nn.generators import RowScaling
from hyperjax.types import Carry

# Names of the gates, by the number that a cell has.
GATES = {1: ('h',), 4: ('i', 'g', 'f', 'o')}


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

  The Frobenius norm |W_h(t) - W_h(t-1)| of the generated matrices; they
  themselves are never formed.

  Args:
    cell: a hyper cell.
    before: its carry, of the main cell and of the hyper cell.
    after: its carry a step later.
  """
  pairs = zip(
    generated(cell, before[1]), generated(cell, after[1]), strict=True
  )
  moved = jnp.stack([b - a for a, b in pairs], axis=1)
  kernel = cell.main.recurrent.kernel[...]
  if isinstance(cell.weights_h, RowScaling):
    # Each row of W moves along itself, so the rows' squared lengths are enough.
    rows = jnp.square(kernel).sum(axis=0).reshape(moved.shape[1:])
    return jnp.sqrt(jnp.sum(jnp.square(moved) * rows, axis=-1))
  # |sum_k z_k W_k|^2 = sum_kl z_k z_l <W_k, W_l>
  num_gates, z_size = moved.shape[1:]
  parts = kernel.reshape(len(kernel), z_size, num_gates, -1)
  inner = jnp.einsum('nkgm,nlgm->gkl', parts, parts)
  squares = jnp.einsum('bgk,gkl,bgl->bg', moved, inner, moved)
  return jnp.sqrt(jnp.maximum(squares, 0))  # rounding may go below
