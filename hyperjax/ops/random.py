"""Random streams that do not meet."""

import zlib

import jax
from jax import Array


def stream(seed: int | Array, name: str) -> Array:
  """The PRNG key of one use of a run's seed, such as 'init' or 'data'.

  Keys are split and folded with small numbers everywhere, and in threefry both
  are the same: without a name of its own, the data's key of an epoch would be
  that of some initial weight.
  """
  return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
