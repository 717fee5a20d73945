"""Random streams that do not meet."""

import zlib

import jax
import jax.numpy as jnp
from jax import Array


def stream(seed: int | Array, name: str) -> Array:
  """The PRNG key of one use of a run's seed, such as 'init' or 'data'.

  Keys are split and folded with small numbers everywhere, and in threefry both
  are the same: without a name of its own, the data's key of an epoch would be
  that of some initial weight.
  """
  return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def mask(
  key: Array | None, probability: float, shape: tuple[int, ...]
) -> Array | None:
  """The mask of dropout or zoneout: bool, true with a probability.

  Args:
    key: PRNG key; None means evaluation. A mask stays as it is.
    probability: of true; with 0 or 1 nothing is drawn.
    shape: of the mask.

  Returns:
    The mask, or None where there is none to draw.
  """
  if key is None or probability in (0.0, 1.0):
    return None
  if key.dtype == jnp.bool_:
    return key
  return jax.random.bernoulli(key, probability, shape)
