"""Shuffling without a table: a permutation computed place by place.

The images of one batch of one epoch cost what they are, O(B), however many
there are in all, and depend on nothing but the key, the epoch and the place.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

ROUNDS = 8


def epochs_and_places(
  step: int | Array, batch_size: int, size: int
) -> tuple[Array, Array]:
  """Where the elements of a batch lie: p // N and p % N, p = step * B + i.

  A long run has more than 2**32 positions p, so p itself is never computed:
  after `steps_to_start_anew` steps a batch begins with an epoch again, and only
  positions since then are, all of them below the least common multiple of B
  and N.

  Args:
    step: of training, from 0.
    batch_size: B.
    size: N.

  Returns:
    The epoch and the place in it, uint32 [B] both.
  """
  cycle = steps_to_start_anew(batch_size, size)
  cycles, rest = jnp.divmod(jnp.asarray(step).astype(jnp.uint32), cycle)
  positions = rest * batch_size + jnp.arange(batch_size, dtype=jnp.uint32)
  epochs, places = jnp.divmod(positions, size)
  return cycles * (cycle * batch_size // size) + epochs, places


def steps_to_start_anew(batch_size: int, size: int) -> int:
  """Steps of B elements after which a batch starts with an epoch again."""
  return size // math.gcd(batch_size, size)


def batch_indices(
  key: Array, step: int | Array, batch_size: int, size: int
) -> Array:
  """What stands in batch `step`, if each epoch has an order of its own.

  Nothing is dropped: a batch may begin in one epoch and end in the next, or
  hold several where N is small.

  Args:
    key: PRNG key of all epochs.
    step: of training, from 0.
    batch_size: B.
    size: N, at most 2**31; the least common multiple of B and N may be 2**32.

  Returns:
    Indices below N, uint32 [B].
  """
  epochs, places = epochs_and_places(step, batch_size, size)
  span = (batch_size + size - 2) // size + 1  # so many epochs at the most
  words = jax.vmap(
    lambda epoch: jax.random.bits(jax.random.fold_in(key, epoch), (ROUNDS,))
  )(epochs[0] + jnp.arange(span, dtype=jnp.uint32))
  return permute(places, words[epochs - epochs[0]], size)


def permute(places: Array, words: Array, size: int) -> Array:
  """Where a permutation of 0 ... N - 1 sends some places.

  A Feistel network whose halves are the row and the column in a grid: each
  round shifts the one by a hash of the other, so that it can be undone. The
  grid has up to sqrt(N) cells more than there are places; what comes to lie on
  one of those goes through again until it does not (cycle walking).

  Args:
    places: uint32 [B], each below N.
    words: random bits that choose the permutation, uint32 [ROUNDS], or
      [B, ROUNDS] for one of its own for each place.
    size: N, from 1 to 2**31.

  Returns:
    uint32 [B], each below N.
  """
  rows = math.isqrt(size - 1) + 1
  columns = -(-size // rows)

  def network(x):
    row, column = jnp.divmod(x, columns)
    for k in range(0, ROUNDS, 2):
      row = (row + _hash(column ^ words[..., k]) % rows) % rows
      column = (column + _hash(row ^ words[..., k + 1]) % columns) % columns
    return row * columns + column

  def walk(state):
    x, outside = state
    x = jnp.where(outside, network(x), x)
    return x, x >= size

  start = places, jnp.ones(places.shape, bool)
  return jax.lax.while_loop(lambda state: state[1].any(), walk, start)[0]


def _hash(x):
  """The end of MurmurHash3: every bit in changes half of those out."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)
