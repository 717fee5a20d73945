"""Dropout as a function of a key."""

import jax.numpy as jnp
from jax import Array

from hyperjax.ops.random import mask


def dropout(x: Array, key: Array | None, keep_prob: float) -> Array:
  """Keeps each element of `x` with `keep_prob`, scaled by its inverse.

  Args:
    x: any shape.
    key: PRNG key, or what `ops.random.mask` made of one; None means no dropout
      (evaluation).
    keep_prob: probability in (0, 1] that an element is kept.

  Returns:
    An array like `x`, with the same mean over masks.
  """
  keep = mask(key, keep_prob, x.shape)
  if keep is None:
    return x
  return jnp.where(keep, x / keep_prob, jnp.zeros_like(x))
