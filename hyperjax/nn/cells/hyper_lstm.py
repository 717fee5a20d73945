"""The HyperLSTM (paper, Eq. 10-13): an LSTM rescales another's weights."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from hyperjax.nn.cells.lstm import LSTM
from hyperjax.nn.initializers import orthogonal_gates
from hyperjax.nn.linear import LayerNorm, Linear, Product
from hyperjax.ops.lstm import lstm_update


class GateVectors(nnx.Module):
  """One generated vector a gate (Eq. 11-12): d^y = W_z^y z^y + b_0^y.

  The embedding z^y = W_e^y h_hyper + b^y has `z_size` elements, so W_z^y W_e^y
  is a low-rank map from the hyper cell to the main cell's units.

  Args:
    embedding: [S, 4 N_z] initial W_e.
    embedding_bias: [4 N_z] initial b, or None for none.
    kernel: [4, N_z, H] initial W_z.
    bias: [4, H] initial b_0, or None for none.
  """

  def __init__(
    self,
    embedding: Array,
    embedding_bias: Array | None,
    kernel: Array,
    bias: Array | None = None,
  ):
    self.embedding = Linear(embedding, embedding_bias)
    self.kernel = nnx.Param(kernel)
    self.bias = None if bias is None else nnx.Param(bias)

  def __call__(self, h_hyper: Array) -> Array:
    """[B, S] -> [B, 4, H]."""
    kernel = self.kernel[...]
    z = self.embedding(h_hyper)
    # Four products: XLA on CPU is slow at the batched einsum of them.
    gates = zip(jnp.split(z, 4, axis=-1), kernel, strict=True)
    d = jnp.stack([z_y @ w_y for z_y, w_y in gates], axis=-2)
    return d if self.bias is None else d + self.bias[...]


class HyperLSTM(nnx.Module):
  """An LSTM whose weight rows a smaller LSTM rescales at every time step.

      h'_t = HyperCell([h_{t-1}; x_t])                       (an LSTM)
      y_t = d_h^y * (W_h^y h_{t-1}) + d_x^y * (W_x^y x_t) + b^y
      c_t = sigmoid(f_t + 1) c_{t-1} + sigmoid(i_t) dropout(tanh(g_t))
      h_t = sigmoid(o_t) tanh(c_t)

  where d_h, d_x and b are `GateVectors` of h'_t, for y in i, g, f, o. With
  layer norm, both cells normalize each y_t and, inside the tanh, c_t.

  Args:
    input_size: width of the input.
    hidden_size: units of the main cell, H.
    hyper_size: units of the hyper cell, S.
    z_size: size of each of the twelve embeddings, N_z.
    layer_norm: whether both cells normalize.
    recurrent_keep_prob: keep probability of the main candidate's dropout.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self,
    input_size: int,
    hidden_size: int,
    *,
    hyper_size: int,
    z_size: int,
    layer_norm: bool = False,
    recurrent_keep_prob: float = 1.0,
    key: Array,
  ):
    keys = jax.random.split(key, 5)
    self.hidden_size = hidden_size
    self.keep_prob = recurrent_keep_prob
    self.input = Linear(orthogonal_gates(keys[0], input_size, hidden_size))
    self.recurrent = Product(
      orthogonal_gates(keys[1], hidden_size, hidden_size)
    )

    # The hyper cell reads [h; x]; its kernel is drawn whole, then parted into
    # the rows of the past and the rows of the input.
    kernel = orthogonal_gates(keys[2], hidden_size + input_size, hyper_size)
    self.feedback = Product(kernel[:hidden_size])
    self.hyper = LSTM(
      input_size,
      hyper_size,
      layer_norm=layer_norm,
      input_kernel=kernel[hidden_size:],
      key=keys[3],
    )

    z_shape, d_shape = (hyper_size, 4 * z_size), (4, z_size, hidden_size)
    zeros, ones = jnp.zeros(z_shape), jnp.ones(4 * z_size)
    # So that each d starts at 0.1; weakly typed, it would compile steps twice.
    tenth = jnp.full(d_shape, 0.1 / z_size, jnp.float32)
    self.scale_h = GateVectors(zeros, ones, tenth)
    self.scale_x = GateVectors(zeros, ones, tenth)
    self.shift = GateVectors(
      0.01 * jax.random.normal(keys[4], z_shape),
      None,
      jnp.zeros(d_shape),
      jnp.zeros((4, hidden_size)),
    )
    self.norm_gates = LayerNorm(4, hidden_size) if layer_norm else None
    self.norm_cell = LayerNorm(hidden_size) if layer_norm else None

  def initial_carry(self, batch_size: int):
    """Zero ((c, h), (c', h')): [B, H] twice, [B, S] twice."""
    zeros = jnp.zeros((batch_size, self.hidden_size))
    return (zeros, zeros), self.hyper.initial_carry(batch_size)

  def project(self, xs: Array) -> tuple[Array, Array]:
    """[T, B, input_size] -> [T, B, 4 H] and [T, B, 4 S]."""
    return self.input(xs), self.hyper.project(xs)

  def step(self, carry, x: tuple[Array, Array], key: Array | None = None):
    """One step: ((c, h), (c', h')), slices of `project` -> the same, h."""
    (c, h), hyper_carry = carry
    x, x_hyper = x
    hyper_carry, h_hyper = self.hyper.step(
      hyper_carry, x_hyper + self.feedback(h)
    )
    wx = x.reshape(-1, 4, self.hidden_size)
    wh = self.recurrent(h).reshape(wx.shape)
    y = (
      self.scale_h(h_hyper) * wh
      + self.scale_x(h_hyper) * wx
      + self.shift(h_hyper)
    )
    c, h = lstm_update(
      self.norm_gates(y) if self.norm_gates else y,
      c,
      norm_cell=self.norm_cell,
      keep_prob=self.keep_prob,
      key=key,
    )
    return ((c, h), hyper_carry), h


build = HyperLSTM
