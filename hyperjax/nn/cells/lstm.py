"""The LSTM (paper, Eq. 9), with layer norm where asked for (Eq. 10)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from hyperjax.nn.initializers import orthogonal_gates
from hyperjax.nn.linear import Bias, LayerNorm, Linear, Product
from hyperjax.ops.lstm import lstm_update


class LSTM(nnx.Module):
  """Long short-term memory without peepholes.

      y_t = W_x^y x_t + W_h^y h_{t-1} + b^y        for y in i, g, f, o
      c_t = sigmoid(f_t + 1) c_{t-1} + sigmoid(i_t) dropout(tanh(g_t))
      h_t = sigmoid(o_t) tanh(c_t)

  With layer norm each y_t passes through one of its own, which takes the
  place of b^y, and so does c_t inside the tanh (Ba et al. 2016).

  Args:
    input_size: width of the input.
    hidden_size: units, H.
    layer_norm: whether to normalize.
    recurrent_keep_prob: keep probability of the candidate's dropout.
    input_kernel: [input_size, 4 H] initial W_x, or None to draw it here.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self,
    input_size: int,
    hidden_size: int,
    *,
    layer_norm: bool = False,
    recurrent_keep_prob: float = 1.0,
    input_kernel: Array | None = None,
    key: Array,
  ):
    input_key, recurrent_key = jax.random.split(key)
    if input_kernel is None:
      input_kernel = orthogonal_gates(input_key, input_size, hidden_size)
    self.hidden_size = hidden_size
    self.keep_prob = recurrent_keep_prob
    self.input = Linear(input_kernel)
    self.recurrent = Product(
      orthogonal_gates(recurrent_key, hidden_size, hidden_size)
    )
    self.gates = (LayerNorm if layer_norm else Bias)(4, hidden_size)
    self.norm_cell = LayerNorm(hidden_size) if layer_norm else None

  def initial_carry(self, batch_size: int) -> tuple[Array, Array]:
    """Zero (c, h), each [B, H]."""
    zeros = jnp.zeros((batch_size, self.hidden_size))
    return zeros, zeros

  def project(self, xs: Array) -> Array:
    """[T, B, input_size] -> [T, B, 4 H]."""
    return self.input(xs)

  def step(
    self, carry: tuple[Array, Array], x: Array, key: Array | None = None
  ) -> tuple[tuple[Array, Array], Array]:
    """(c, h), [B, 4 H] -> (c, h), h."""
    c, h = carry
    y = x + self.recurrent(h)
    c, h = lstm_update(
      self.gates(y.reshape(-1, 4, self.hidden_size)),
      c,
      norm_cell=self.norm_cell,
      keep_prob=self.keep_prob,
      key=key,
    )
    return (c, h), h


build = LSTM
