import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.ops import shuffle

SIZES = [1, 2, 3, 4, 5, 7, 12, 256, 1000, 4097]
# (N, B): also batches that fit exactly, and ones of several epochs.
BATCHES = [
  (1, 1),
  (1, 4),
  (2, 3),
  (5, 12),
  (7, 7),
  (10, 3),
  (12, 8),
  (999, 128),
]


def words(count, seed=0):
  return jax.random.bits(jax.random.key(seed), (count, shuffle.ROUNDS))


@functools.partial(jax.jit, static_argnums=1)
def whole(rows, size):
  """The permutations [K, N] of K rows of words."""
  places = jnp.arange(size, dtype=jnp.uint32)
  return jax.vmap(lambda row: shuffle.permute(places, row, size))(rows)


batch_indices = jax.jit(shuffle.batch_indices, static_argnums=(2, 3))


def batches(seed, steps, batch_size, size):
  key = jax.random.key(seed)
  return np.stack([batch_indices(key, k, batch_size, size) for k in steps])


@pytest.mark.parametrize('size', SIZES)
def test_every_place_is_taken_once(size):
  for order in np.asarray(whole(words(5), size)):
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_each_place_may_have_words_of_its_own():
  size, rows = 1000, words(3)
  orders = whole(rows, size)
  which = jnp.arange(size) % 3
  places = jnp.arange(size, dtype=jnp.uint32)
  mixed = jax.jit(lambda x, y: shuffle.permute(x, y, size))(places, rows[which])
  np.testing.assert_array_equal(mixed, orders[which, places])


@pytest.mark.parametrize('size', [3, 10])
def test_small_permutations_reach_every_order_of_the_first_two(size):
  orders = np.asarray(whole(words(4000), size))
  pairs = {(a, b) for a, b in orders[:, :2].tolist()}
  assert len(pairs) == size * (size - 1)


def excess(orders):
  """How far from equal the counts [place, image] are, in deviations.

  (N - 1) / N times Pearson's sum over K random permutations goes to a
  chi-square of (N - 1)**2 degrees of freedom.
  """
  count, size = orders.shape
  table = np.zeros((size, size))
  np.add.at(table, (np.arange(size), orders), 1)
  expected = count / size
  pearson = ((table - expected) ** 2 / expected).sum() * (size - 1) / size
  freedom = (size - 1) ** 2
  return (pearson - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize('size', [2, 3, 10, 16])
def test_every_image_comes_at_every_place_equally_often(size):
  assert abs(excess(np.asarray(whole(words(4000), size)))) < 5


def test_the_measure_sees_a_bias():
  draws = np.random.default_rng(0)
  fair = draws.permuted(np.tile(np.arange(13), (4000, 1)), axis=1)
  assert abs(excess(fair)) < 5
  biased = fair.copy()
  biased[:150] = np.arange(13)  # 4 % of them are no permutation at all
  assert excess(biased) > 5


@pytest.mark.parametrize('size', [10, 16])
def test_neighbours_part_equally_often_by_every_distance(size):
  # A shuffle that only turned the epoch around would pass the test above.
  count = 4000
  orders = np.asarray(whole(words(count, seed=1), size)).astype(int)
  for k in (0, size // 2, size - 2):
    distances = (orders[:, k + 1] - orders[:, k]) % size
    found = np.bincount(distances, minlength=size)
    assert found[0] == 0
    expected = count / (size - 1)
    pearson = ((found[1:] - expected) ** 2 / expected).sum()
    freedom = size - 2
    assert abs(pearson - freedom) / math.sqrt(2 * freedom) < 5


def test_the_first_and_the_last_of_an_epoch_are_any_and_unrelated():
  size, count = 45_000, 4_000
  ends = jnp.array([0, 1, size - 2, size - 1], jnp.uint32)
  found = np.asarray(
    jax.vmap(lambda row: shuffle.permute(ends, row, size))(words(count))
  ).astype(float)
  assert found.min() < size * 0.01
  assert found.max() > size * 0.99
  # A mean of uniform numbers deviates by N / sqrt(12 K); four of them.
  deviation = size / math.sqrt(12 * count)
  assert (abs(found.mean(0) - (size - 1) / 2) < 5 * deviation).all()
  correlation = np.corrcoef(found.T) - np.eye(4)
  assert abs(correlation).max() < 5 / math.sqrt(count)


@pytest.mark.parametrize(('size', 'batch_size'), BATCHES)
def test_an_epoch_has_everything_once_though_batches_straddle_it(
  size, batch_size
):
  epochs = 12
  steps = range(-(-epochs * size // batch_size))
  stream = batches(3, steps, batch_size, size).ravel()
  orders = stream[: epochs * size].reshape(epochs, size)
  np.testing.assert_array_equal(
    np.sort(orders), np.tile(np.arange(size), (epochs, 1))
  )
  if size > 6:
    assert len(np.unique(orders, axis=0)) == epochs


def test_epochs_and_seeds_have_orders_of_their_own():
  size = 1000
  orders = [batches(seed, range(2), size, size) for seed in (0, 1)]
  orders = np.concatenate([*orders, [np.arange(size)]])
  for a in range(len(orders)):
    for b in range(a):
      # Two random orders agree at one place on average.
      assert (orders[a] == orders[b]).sum() < 10


def test_the_same_seed_and_step_give_the_same_indices():
  found = batches(7, [5, 0, 5], 128, 1000)
  np.testing.assert_array_equal(found[0], found[2])
  assert (found[0] != found[1]).any()
  assert found.dtype == np.uint32


@pytest.mark.parametrize(
  ('size', 'batch_size'),
  [*BATCHES, (55_000, 1_000), (45_000, 128), (60_001, 1_000), (2**20, 4095)],
)
def test_places_are_exact_however_long_the_run(size, batch_size):
  steps = [0, 1, 7, 10**6, 2**31 - 1]
  epochs, places = jax.jit(
    jax.vmap(lambda step: shuffle.epochs_and_places(step, batch_size, size))
  )(jnp.array(steps, jnp.int32))
  for k, step in enumerate(steps):
    positions = [step * batch_size + i for i in range(batch_size)]
    assert places[k].tolist() == [p % size for p in positions]
    assert epochs[k].tolist() == [p // size % 2**32 for p in positions]


def test_a_batch_costs_nothing_for_the_size_of_the_epoch():
  def temporary_bytes(size):
    function = jax.jit(
      lambda step: shuffle.batch_indices(jax.random.key(0), step, 64, size)
    )
    compiled = function.lower(jnp.int32(0)).compile()
    indices = np.asarray(compiled(jnp.int32(3)))
    assert len(np.unique(indices)) == 64
    assert indices.max() < size
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary_bytes(2**26) < 1.5 * temporary_bytes(2**10)
