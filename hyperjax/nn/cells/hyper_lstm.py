"""The HyperLSTM (paper, Eq. 10-13): a small cell rescales an LSTM."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from hyperjax.nn.cells.hyper_cell import HyperCell
from hyperjax.nn.cells.lstm import LSTM


class HyperLSTM(HyperCell):
  """An LSTM whose weight rows a smaller cell rescales at every time step.

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
    hyper_cell: 'lstm' or 'rnn'.
    generation: 'row_scaling' as above, or 'full' weight matrices.
    layer_norm: whether both cells normalize.
    recurrent_keep_prob: keep probability of the main candidate's dropout.
    hyper_recurrent_keep_prob: the same of the hyper cell's.
    zoneout_c: probability that a unit of the main c keeps its value.
    zoneout_h: the same of the main h.
    kernels: of both cells, see `LSTM`.
    dtype: precision of the products, see `ops.product`.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self,
    input_size: int,
    hidden_size: int,
    *,
    hyper_size: int,
    z_size: int,
    hyper_cell: str = 'lstm',
    generation: str = 'row_scaling',
    layer_norm: bool = False,
    recurrent_keep_prob: float = 1.0,
    hyper_recurrent_keep_prob: float = 1.0,
    zoneout_c: float = 0.0,
    zoneout_h: float = 0.0,
    kernels: str = 'xla',
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    main_key, key = jax.random.split(key)
    main = LSTM(
      input_size,
      hidden_size,
      layer_norm=layer_norm,
      bias=False,
      recurrent_keep_prob=recurrent_keep_prob,
      zoneout_c=zoneout_c,
      zoneout_h=zoneout_h,
      kernels=kernels,
      dtype=dtype,
      key=main_key,
    )
    super().__init__(
      main,
      input_size,
      hyper_cell=hyper_cell,
      hyper_size=hyper_size,
      z_size=z_size,
      generation=generation,
      layer_norm=layer_norm,
      hyper_recurrent_keep_prob=hyper_recurrent_keep_prob,
      kernels=kernels,
      dtype=dtype,
      key=key,
    )


build = HyperLSTM
