"""Zoneout (Krueger et al. 2016): units that keep their value for a step."""

import jax
import jax.numpy as jnp
from jax import Array


def zoneout(old: Array, new: Array, key: Array | None, rate: float) -> Array:
  """Each unit keeps its old value with probability `rate`.

  Args:
    old: state before the step, any shape.
    new: state after it, of the same shape.
    key: PRNG key, or the mask that `draw` made of one; None (evaluation) takes
      the mean over masks instead.
    rate: probability in [0, 1) that a unit stays as it was.

  Returns:
    An array like `new`.
  """
  if rate == 0.0:
    return new
  if key is None:
    return rate * old + (1 - rate) * new
  return jnp.where(draw(key, rate, new.shape), old, new)


def draw(
  key: Array | None, rate: float, shape: tuple[int, ...]
) -> Array | None:
  """The mask of `zoneout`: bool, true where a unit stays as it was.

  Args:
    key: PRNG key; None means evaluation. A mask stays as it is.
    rate: probability that a unit stays; with 0 there is no mask.
    shape: of the mask.
  """
  if key is None or rate == 0.0:
    return None
  if key.dtype == jnp.bool_:
    return key
  return jax.random.bernoulli(key, rate, shape)
