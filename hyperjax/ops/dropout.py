"""Dropout as a function of a key."""

import jax
import jax.numpy as jnp
from jax import Array


def dropout(x: Array, key: Array | None, keep_prob: float) -> Array:
  """Keeps each element of `x` with `keep_prob`, scaled by its inverse.

  Args:
    x: any shape.
    key: PRNG key, or the mask that `draw` made of one; None means no dropout
      (evaluation).
    keep_prob: probability in (0, 1] that an element is kept.

  Returns:
    An array like `x`, with the same mean over masks.
  """
  keep = draw(key, keep_prob, x.shape)
  if keep is None:
    return x
  return jnp.where(keep, x / keep_prob, jnp.zeros_like(x))


def draw(
  key: Array | None, keep_prob: float, shape: tuple[int, ...]
) -> Array | None:
  """The mask of `dropout`: bool, true where it keeps; None where it keeps all.

  Args:
    key: PRNG key; None means no dropout (evaluation). A mask stays as it is.
    keep_prob: probability in (0, 1] that an element is kept.
    shape: of the mask.
  """
  if key is None or keep_prob == 1.0:
    return None
  if key.dtype == jnp.bool_:
    return key
  return jax.random.bernoulli(key, keep_prob, shape)
