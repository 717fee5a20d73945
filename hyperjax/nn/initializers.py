"""Initial weights as arrays (paper, A.2.3)."""

import jax
import jax.numpy as jnp
from jax import Array


def orthogonal(key: Array, rows: int, columns: int) -> Array:
  """A [rows, columns] matrix with orthonormal rows or columns."""
  return jax.nn.initializers.orthogonal()(key, (rows, columns))


def orthogonal_gates(
  key: Array, rows: int, columns: int, num_gates: int = 4
) -> Array:
  """One orthogonal matrix a gate, side by side: [rows, num_gates * columns].

  The paper's W^y are matrices of one gate each; see docs/deviations.md.
  """
  keys = jax.random.split(key, num_gates)
  return jnp.concatenate([orthogonal(k, rows, columns) for k in keys], axis=1)
