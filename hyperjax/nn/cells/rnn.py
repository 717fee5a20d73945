"""The basic recurrent network (paper, Eq. 4)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax.nn.initializers import orthogonal
from hyperjax.nn.linear import Bias, GateNorm, Linear, Product
from hyperjax.ops.random import mask
from hyperjax.ops.zoneout import zoneout


class RNN(nnx.Module):
  """The basic recurrent network.

      h_t = tanh(W_x x_t + W_h h_{t-1} + b)

  With layer norm the pre-activation passes through one, which takes the place
  of b.

  Args:
    input_size: width of the input.
    hidden_size: units, H.
    layer_norm: whether to normalize.
    bias: False leaves b out.
    zoneout_h: probability that a unit of h keeps its value for a step.
    dtype: precision of the products, see `ops.product`.
    key: PRNG key of the initial weights.
  """

  num_gates = 1

  def __init__(
    self,
    input_size: int,
    hidden_size: int,
    *,
    layer_norm: bool = False,
    bias: bool = True,
    zoneout_h: float = 0.0,
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    input_key, recurrent_key = jax.random.split(key)
    self.hidden_size = hidden_size
    self.zoneout_h = zoneout_h
    self.input = Linear(
      orthogonal(input_key, input_size, hidden_size), dtype=dtype
    )
    self.recurrent = Product(
      orthogonal(recurrent_key, hidden_size, hidden_size), dtype=dtype
    )
    self.norm_gates = GateNorm(1, hidden_size) if layer_norm else None
    self.bias = Bias(1, hidden_size) if bias and not layer_norm else None

  def initial_carry(self, batch_size: int) -> Array:
    """Zero h, [B, H]."""
    return jnp.zeros((batch_size, self.hidden_size))

  def project(self, xs: Array) -> Array:
    """[T, B, input_size] -> [T, B, H]."""
    return self.input(xs)

  def noise(self, key: Array | None, batch_size: int) -> Array | None:
    """The mask of zoneout of a step, bool [B, H]; `step` takes it as key."""
    return mask(key, self.zoneout_h, (batch_size, self.hidden_size))

  def step(
    self, carry: Array, x: Array, key: Array | None = None
  ) -> tuple[Array, Array]:
    """h, [B, H] -> h, h."""
    return self.update(self.gates(carry, x), carry, key)

  def gates(self, carry: Array, x: Array) -> list[Array]:
    """What `update` takes: W_x x + W_h h, once [B, H]."""
    return [x + self.recurrent(self.output(carry))]

  def activations(self, gates: Sequence[Array]) -> list[Array]:
    """What `gates` become: tanh(y), once [B, H]."""
    gates = self.bias(gates) if self.bias else gates
    (y,) = self.norm_gates(gates) if self.norm_gates else gates
    return [jnp.tanh(y)]

  def output(self, carry: Array) -> Array:
    """The h of a carry."""
    return carry

  def update(
    self, gates: Sequence[Array], carry: Array, key: Array | None = None
  ) -> tuple[Array, Array]:
    """Pre-activations, once [B, H], and h -> h, h."""
    (y,) = self.activations(gates)
    h = zoneout(carry, y, key, self.zoneout_h)
    return h, h


build = RNN
