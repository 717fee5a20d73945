"""A recurrent cell whose weights another one generates (paper, Sec. 3.2)."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax.errors import UserError, did_you_mean
from hyperjax.nn.cells.lstm import LSTM
from hyperjax.nn.cells.rnn import RNN
from hyperjax.nn.generators import GateVectors, RowScaling, WeightSum
from hyperjax.nn.initializers import orthogonal_gates
from hyperjax.nn.linear import Linear, Product

HYPER_CELLS = {'rnn': RNN, 'lstm': LSTM}
GENERATIONS = ('row_scaling', 'full')


class HyperCell(nnx.Module):
  """A main cell whose weights a smaller hyper cell generates at every step.

      h'_t = HyperCell([h_{t-1}; x_t])
      y_t = W_h(h'_t) h_{t-1} + W_x(h'_t) x_t + b(h'_t)

  and the main cell goes on from the pre-activations y_t. W(h') is made by
  `RowScaling` or, in full, by `WeightSum`; b by `GateVectors`.

  Args:
    main: a cell without bias, with `num_gates`, `output` and `update`.
    input_size: width of the input.
    hyper_cell: 'rnn' or 'lstm'.
    hyper_size: units of the hyper cell, S.
    z_size: size of each embedding, N_z.
    generation: 'row_scaling' (Eq. 8), or 'full' (Eq. 5), which has N_z times
      the weights.
    layer_norm: whether the hyper cell normalizes.
    hyper_recurrent_keep_prob: keep probability of the hyper cell's own
      recurrent dropout, which an LSTM alone has.
    kernels: of an LSTM hyper cell, see `LSTM`.
    dtype: precision of the products, see `ops.product`.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self,
    main: RNN | LSTM,
    input_size: int,
    *,
    hyper_cell: str,
    hyper_size: int,
    z_size: int,
    generation: str,
    layer_norm: bool,
    hyper_recurrent_keep_prob: float,
    kernels: str,
    dtype: DTypeLike,
    key: Array,
  ):
    _check_name('hyper_cell', hyper_cell, HYPER_CELLS)
    _check_name('generation', generation, GENERATIONS)
    hyper_key, shift_key, *weight_keys = jax.random.split(key, 4)
    hidden_size, num_gates = main.hidden_size, main.num_gates

    options = {}
    if hyper_cell == 'lstm':
      options['recurrent_keep_prob'] = hyper_recurrent_keep_prob
      options['kernels'] = kernels
    elif hyper_recurrent_keep_prob != 1.0:
      raise UserError(
        f'config.model.hyper_recurrent_keep_prob is '
        f"{hyper_recurrent_keep_prob}, but the hyper cell '{hyper_cell}' has "
        f'no recurrent dropout; set it to 1'
      )
    self.main = main
    self.hyper = HYPER_CELLS[hyper_cell](
      hidden_size + input_size,
      hyper_size,
      layer_norm=layer_norm,
      dtype=dtype,
      key=hyper_key,
      **options,
    )
    # The hyper cell reads [h; x]: the rows of h multiply at every step, those
    # of x once for all steps.
    kernel = self.hyper.input.kernel[...]
    self.feedback = Product(kernel[:hidden_size], dtype=dtype)
    self.hyper.input = Linear(kernel[hidden_size:], dtype=dtype)

    z_shape = (hyper_size, num_gates * z_size)
    d_shape = (num_gates, z_size, hidden_size)

    def embedding():
      return Linear(jnp.zeros(z_shape), jnp.ones(z_shape[1]), dtype=dtype)

    if generation == 'row_scaling':
      # So that each d starts at 0.1; weakly typed, it would compile steps
      # twice.
      tenth = jnp.full(d_shape, 0.1 / z_size, jnp.float32)
      self.weights_h, self.weights_x = (
        RowScaling(GateVectors(embedding(), tenth, dtype=dtype))
        for _ in range(2)
      )
    else:
      # Each z starts at one, so the weights start as a sum of N_z orthogonal
      # matrices: so scaled, it is about as large as one of them.
      kernels = (
        orthogonal_gates(key, rows, hidden_size, z_size * num_gates)
        / math.sqrt(z_size)
        for key, rows in zip(
          weight_keys, (hidden_size, input_size), strict=True
        )
      )
      main.recurrent = Product(next(kernels), dtype=dtype)
      main.input = Linear(next(kernels), dtype=dtype)
      self.weights_h, self.weights_x = (
        WeightSum(embedding(), num_gates) for _ in range(2)
      )
    self.shift = GateVectors(
      Linear(0.01 * jax.random.normal(shift_key, z_shape), dtype=dtype),
      jnp.zeros(d_shape),
      jnp.zeros((num_gates, hidden_size)),
      dtype=dtype,
    )

  def initial_carry(self, batch_size: int):
    """Zero (carry of the main cell, carry of the hyper cell)."""
    return (
      self.main.initial_carry(batch_size),
      self.hyper.initial_carry(batch_size),
    )

  def project(self, xs: Array) -> tuple[Array, Array]:
    """[T, B, input_size] -> the input products of the main and hyper cell."""
    return self.main.project(xs), self.hyper.project(xs)

  def noise(self, key: Array | tuple | None, batch_size: int) -> tuple:
    """The masks of a step of the main and hyper cell; `step` takes them."""
    if isinstance(key, tuple):
      return key
    keys = (None,) * 2 if key is None else jax.random.split(key)
    return (
      self.main.noise(keys[0], batch_size),
      self.hyper.noise(keys[1], batch_size),
    )

  def step(self, carry, x: tuple[Array, Array], key: Array | None = None):
    """One step: (main carry, hyper carry), slices of `project` -> both, h."""
    main_carry, _ = carry
    batch_size = len(self.main.output(main_carry))
    main_noise, hyper_noise = self.noise(key, batch_size)
    hyper_carry, gates = self.gates(carry, x, hyper_noise)
    main_carry, h = self.main.update(gates, main_carry, main_noise)
    return (main_carry, hyper_carry), h

  def gates(self, carry, x: tuple[Array, Array], hyper_noise=None):
    """The hyper cell's new carry, and what `main.update` takes."""
    main_carry, hyper_carry = carry
    h = self.main.output(main_carry)
    x, x_hyper = x
    hyper_carry, h_hyper = self.hyper.step(
      hyper_carry, x_hyper + self.feedback(h), hyper_noise
    )
    return hyper_carry, [
      from_h + from_x + shift
      for from_h, from_x, shift in zip(
        self.weights_h(h_hyper, self.main.recurrent(h)),
        self.weights_x(h_hyper, x),
        self.shift(h_hyper),
        strict=True,
      )
    ]


def _check_name(option, name, known):
  if name not in known:
    raise UserError(
      f"config.model.{option}: no '{name}'{did_you_mean(name, list(known))}"
    )
