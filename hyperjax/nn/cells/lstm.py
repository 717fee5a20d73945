"""The LSTM (paper, Eq. 9), with layer norm where asked for (Eq. 10)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax.errors import UserError, did_you_mean
from hyperjax.nn.initializers import orthogonal_gates
from hyperjax.nn.linear import Bias, GateNorm, LayerNorm, Linear, Product
from hyperjax.ops.lstm import activate, lstm_update
from hyperjax.ops.random import mask
from hyperjax.ops.zoneout import zoneout

KERNELS = ('xla', 'pallas')


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
    bias: False leaves b out.
    recurrent_keep_prob: keep probability of the candidate's dropout.
    zoneout_c: probability that a unit of c keeps its value for a step.
    zoneout_h: the same of h.
    kernels: what makes the update after the products: 'xla', or 'pallas',
      which has a kernel for layer norm alone and without it means 'xla'.
    dtype: precision of the products, see `ops.product`.
    key: PRNG key of the initial weights.
  """

  num_gates = 4

  def __init__(
    self,
    input_size: int,
    hidden_size: int,
    *,
    layer_norm: bool = False,
    bias: bool = True,
    recurrent_keep_prob: float = 1.0,
    zoneout_c: float = 0.0,
    zoneout_h: float = 0.0,
    kernels: str = 'xla',
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    if kernels not in KERNELS:
      raise UserError(
        f"config.unroll.kernels: no '{kernels}'{did_you_mean(kernels, KERNELS)}"
      )
    input_key, recurrent_key = jax.random.split(key)
    self.hidden_size = hidden_size
    self.keep_prob = recurrent_keep_prob
    self.zoneout_c, self.zoneout_h = zoneout_c, zoneout_h
    self.kernels = kernels
    self.input = Linear(
      orthogonal_gates(input_key, input_size, hidden_size), dtype=dtype
    )
    self.recurrent = Product(
      orthogonal_gates(recurrent_key, hidden_size, hidden_size), dtype=dtype
    )
    self.norm_gates = GateNorm(4, hidden_size) if layer_norm else None
    self.norm_cell = LayerNorm(hidden_size) if layer_norm else None
    self.bias = Bias(4, hidden_size) if bias and not layer_norm else None

  def initial_carry(self, batch_size: int) -> tuple[Array, Array]:
    """Zero (c, h), each [B, H]."""
    zeros = jnp.zeros((batch_size, self.hidden_size))
    return zeros, zeros

  def project(self, xs: Array) -> Array:
    """[T, B, input_size] -> [T, B, 4 H]."""
    return self.input(xs)

  def noise(
    self, key: Array | tuple | None, batch_size: int
  ) -> tuple[Array | None, ...]:
    """The masks of a step, bool [B, H] or None; `step` takes them as its key.

    They are those of dropout, of zoneout of c and of zoneout of h.
    """
    if isinstance(key, tuple):
      return key
    keys = (None,) * 3 if key is None else jax.random.split(key, 3)
    shape = batch_size, self.hidden_size
    return (
      mask(keys[0], self.keep_prob, shape),
      mask(keys[1], self.zoneout_c, shape),
      mask(keys[2], self.zoneout_h, shape),
    )

  def step(
    self, carry: tuple[Array, Array], x: Array, key: Array | None = None
  ) -> tuple[tuple[Array, Array], Array]:
    """(c, h), [B, 4 H] -> (c, h), h."""
    return self.update(self.gates(carry, x), carry, key)

  def gates(self, carry: tuple[Array, Array], x: Array) -> list[Array]:
    """What `update` takes: W_x x + W_h h of each gate, 4 times [B, H]."""
    y = x + self.recurrent(self.output(carry))
    return jnp.split(y, 4, axis=-1)

  def activations(self, gates: Sequence[Array]) -> list[Array]:
    """What `gates` become: sigmoid(i), tanh(g), sigmoid(f + 1), sigmoid(o)."""
    gates = self.bias(gates) if self.bias else gates
    return activate(self.norm_gates(gates) if self.norm_gates else gates)

  def memory(self, carry: tuple[Array, Array]) -> Array:
    """What the output gate lets through: tanh(c), of a normalized c if so."""
    c = carry[0]
    return jnp.tanh(self.norm_cell(c) if self.norm_cell else c)

  def output(self, carry: tuple[Array, Array]) -> Array:
    """The h of a carry."""
    return carry[1]

  def update(
    self,
    gates: Sequence[Array],
    carry: tuple[Array, Array],
    key: Array | None = None,
  ) -> tuple[tuple[Array, Array], Array]:
    """Pre-activations, 4 times [B, H], and (c, h) -> (c, h), h."""
    keep, stay_c, stay_h = self.noise(key, len(carry[0]))
    gates = self.bias(gates) if self.bias else gates
    if self.norm_gates and self.kernels == 'pallas':
      c, h = self._fused_update(gates, carry[0], keep)
    else:
      c, h = lstm_update(
        self.norm_gates(gates) if self.norm_gates else gates,
        carry[0],
        norm_cell=self.norm_cell,
        keep_prob=self.keep_prob,
        key=keep,
      )
    c = zoneout(carry[0], c, stay_c, self.zoneout_c)
    h = zoneout(carry[1], h, stay_h, self.zoneout_h)
    return (c, h), h

  def _fused_update(self, gates, c, keep):
    # Here, for Pallas still changes, and the other path does without it.
    from hyperjax.ops import fused_lstm

    return fused_lstm.norm_lstm_update(
      gates,
      c,
      self.norm_gates.scale[...],
      self.norm_gates.bias[...],
      self.norm_cell.scale[...],
      self.norm_cell.bias[...],
      keep=keep,
      keep_prob=self.keep_prob,
      # A CPU has no compiler of kernels; this is for tests.
      interpret=jax.default_backend() == 'cpu',
    )


build = LSTM
