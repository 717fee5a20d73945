"""The HyperRNN (paper, Eq. 4-8): a small cell makes an RNN's weights."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from hyperjax.nn.cells.hyper_cell import HyperCell
from hyperjax.nn.cells.rnn import RNN


class HyperRNN(HyperCell):
  """A basic recurrent cell whose weights a smaller one makes at every step.

      h'_t = HyperCell([h_{t-1}; x_t])                       (a basic cell)
      h_t = tanh(d_h * (W_h h_{t-1}) + d_x * (W_x x_t) + b)

  where d_h, d_x and b are `GateVectors` of h'_t. With `generation='full'` the
  matrices themselves are made of embeddings z_h and z_x of h'_t (Eq. 5):

      h_t = tanh(sum_k z_h^k W_h^k h_{t-1} + sum_k z_x^k W_x^k x_t + b)

  Args:
    input_size: width of the input.
    hidden_size: units of the main cell, H.
    hyper_size: units of the hyper cell, S.
    z_size: size of each of the three embeddings, N_z.
    hyper_cell: 'rnn' or 'lstm'.
    generation: 'row_scaling' or 'full'.
    layer_norm: whether both cells normalize.
    hyper_recurrent_keep_prob: keep probability of an LSTM hyper cell's
      recurrent dropout.
    zoneout_h: probability that a unit of the main h keeps its value.
    kernels: of an LSTM hyper cell, see `LSTM`.
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
    hyper_cell: str = 'rnn',
    generation: str = 'row_scaling',
    layer_norm: bool = False,
    hyper_recurrent_keep_prob: float = 1.0,
    zoneout_h: float = 0.0,
    kernels: str = 'xla',
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    main_key, key = jax.random.split(key)
    main = RNN(
      input_size,
      hidden_size,
      layer_norm=layer_norm,
      bias=False,
      zoneout_h=zoneout_h,
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


build = HyperRNN
