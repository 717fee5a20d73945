"""The gate arithmetic that all LSTM cells share."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from hyperjax.ops.dropout import dropout


def lstm_update(
  gates: Sequence[Array],
  c: Array,
  *,
  norm_cell: Callable[[Array], Array] | None = None,
  forget_bias: float = 1.0,
  keep_prob: float = 1.0,
  key: Array | None = None,
) -> tuple[Array, Array]:
  """One LSTM step from its pre-activations (paper, Eq. 9 and 13).

      c_t = sigmoid(f + forget_bias) c_{t-1} + sigmoid(i) dropout(tanh(g))
      h_t = sigmoid(o) tanh(norm_cell(c_t))

  Dropout falls on the candidate alone, so it never erases memory (Semeniuta
  et al. 2016). The cell state is carried without its norm.

  Args:
    gates: pre-activations in the order i, g, f, o, each [B, H].
    c: [B, H] cell state.
    norm_cell: layer norm of the cell state inside the tanh, or None.
    forget_bias: added to f after any layer norm, as the official cells do.
    keep_prob: recurrent dropout of the candidate.
    key: PRNG key of the mask, or the mask; None means no dropout.

  Returns:
    The new cell state and the output, both [B, H].
  """
  i, g, f, o = activate(gates, forget_bias)
  c = f * c + i * dropout(g, key, keep_prob)
  return c, o * jnp.tanh(norm_cell(c) if norm_cell else c)


def activate(gates: Sequence[Array], forget_bias: float = 1.0) -> list[Array]:
  """sigmoid(i), tanh(g), sigmoid(f + forget_bias) and sigmoid(o)."""
  i, g, f, o = gates
  return [
    jax.nn.sigmoid(i),
    jnp.tanh(g),
    jax.nn.sigmoid(f + forget_bias),
    jax.nn.sigmoid(o),
  ]
