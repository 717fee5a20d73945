"""Zoneout (Krueger et al. 2016): units that keep their value for a step."""

import jax.numpy as jnp
from jax import Array

from hyperjax.ops.random import mask


def zoneout(old: Array, new: Array, key: Array | None, rate: float) -> Array:
  """Each unit keeps its old value with probability `rate`.

  Args:
    old: state before the step, any shape.
    new: state after it, of the same shape.
    key: PRNG key, or what `ops.random.mask` made of one; None (evaluation)
      takes the mean over masks instead.
    rate: probability in [0, 1) that a unit stays as it was.

  Returns:
    An array like `new`.
  """
  if rate == 0.0:
    return new
  if key is None:
    return rate * old + (1 - rate) * new
  return jnp.where(mask(key, rate, new.shape), old, new)
