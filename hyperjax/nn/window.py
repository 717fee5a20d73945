"""A window that reads a text while a cell writes (Graves 2013, Sec. 5.1)."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax.nn.initializers import orthogonal
from hyperjax.nn.linear import Linear
from hyperjax.types import Carry, Cell

# A pen takes about 25 points a character (Graves); the window starts so fast.
POINTS_PER_SYMBOL = 25
LARGEST = 10.0  # exponent; above it a window is no more use


class Window(NamedTuple):
  """Where the window stands.

  Attributes:
    position: [B, K], kappa of each Gaussian, in symbols from the first, at 1.
    reading: [B, V], the symbols under the window, w.
    text: int32 [B, U], symbols from 1 to V; 0 is nothing.
    beyond: bool [B], whether most of the window is behind the text's end.
  """

  position: Array
  reading: Array
  text: Array
  beyond: Array


class WindowCell(nnx.Module):
  """Any cell, which reads a text through a window that only moves on.

      h_t = cell([x_t; w_{t-1}])
      (alpha, beta, kappa') = exp(min(W h_t + b, 10))
      kappa_t = kappa_{t-1} + kappa'
      phi(u) = sum_k alpha_k exp(-beta_k (kappa_k - u)^2)
      w_t = sum_u phi(u) onehot(text_u)

  and what it gives is [h_t; w_t], so that what comes above sees both.

  Args:
    cell: of inputs [x; w].
    hidden_size: width of its output, H.
    num_symbols: V.
    num_windows: Gaussians in the window, K.
    dtype: precision of the products, see `ops.product`.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self,
    cell: Cell,
    hidden_size: int,
    num_symbols: int,
    num_windows: int,
    *,
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    self.cell = cell
    self.num_symbols = num_symbols
    bias = jnp.zeros((3, num_windows)).at[2].set(-math.log(POINTS_PER_SYMBOL))
    self.head = Linear(
      0.1 * orthogonal(key, hidden_size, 3 * num_windows),
      bias.ravel(),
      dtype=dtype,
    )

  def initial_carry(self, batch_size: int) -> tuple[Carry, Window]:
    """The carry before an empty text; see `read`."""
    num_windows = self.head.bias.shape[0] // 3
    window = Window(
      jnp.zeros((batch_size, num_windows)),
      jnp.zeros((batch_size, self.num_symbols)),
      jnp.zeros((batch_size, 0), jnp.int32),
      jnp.zeros(batch_size, bool),
    )
    return self.cell.initial_carry(batch_size), window

  def read(self, carry: tuple[Carry, Window], text: Array):
    """The carry with a text, int [B, U], that is to be read from now on."""
    return carry[0], carry[1]._replace(text=text.astype(jnp.int32))

  def project(self, xs: Array) -> Array:
    """Nothing: what the window reads feeds back."""
    return xs

  def noise(self, key: Array | tuple | None, batch_size: int):
    """That of the cell."""
    if not hasattr(self.cell, 'noise'):
      return key
    return self.cell.noise(key, batch_size)

  def within(self, carry: tuple[Carry, Window], x: Array) -> tuple:
    """What the cell inside takes at a step: its carry and its input."""
    cell_carry, window = carry
    x = jnp.concatenate([x, window.reading], axis=-1)
    return cell_carry, self.cell.project(x)

  def step(
    self, carry: tuple[Carry, Window], x: Array, key: Array | None = None
  ) -> tuple[tuple[Carry, Window], Array]:
    """The carry, [B, input_size] -> the carry, [B, H + V]."""
    window = carry[1]
    cell_carry, h = self.cell.step(*self.within(carry, x), key)
    # float32 whatever the products are: positions are sums of many steps.
    raw = jnp.minimum(self.head(h).astype(jnp.float32), LARGEST)
    alpha, beta, moved = jnp.split(jnp.exp(raw)[..., None], 3, axis=1)
    position = window.position + moved[..., 0]
    text = window.text
    # One place more than there are symbols, for the end.
    places = jnp.arange(1, text.shape[1] + 2)
    phi = jnp.sum(
      alpha * jnp.exp(-beta * (position[..., None] - places) ** 2), axis=1
    )
    is_symbol = text > 0
    length = is_symbol.sum(axis=1, keepdims=True)
    at_end = jnp.take_along_axis(phi, length, axis=1)
    phi = jnp.where(is_symbol, phi[:, :-1], 0)
    rows = jnp.arange(len(text))[:, None]
    reading = (
      jnp.zeros((len(text), 1 + self.num_symbols))
      .at[rows, text]
      .add(phi)[:, 1:]
    )
    # Far behind the end all phi may be too small for a number.
    beyond = (at_end[:, 0] > phi.max(axis=1, initial=0)) | (
      position.min(axis=1) > length[:, 0] + 1
    )
    window = Window(position, reading, text, beyond)
    return (cell_carry, window), jnp.concatenate([h, reading], axis=-1)
