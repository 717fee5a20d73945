import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.ops import augment

crop = jax.jit(augment.crop, static_argnums=3)
crop_and_flip = jax.jit(augment.crop_and_flip, static_argnums=(2, 3))


def pictures(count, shape=(6, 5, 3), seed=0):
  """Images without a zero, so that padding can be told."""
  draws = np.random.default_rng(seed)
  return draws.integers(1, 256, (count, *shape)).astype(np.uint8)


def numpy_crop(image, top, left, pad):
  height, width, channels = image.shape
  padded = np.zeros((height + 2 * pad, width + 2 * pad, channels), np.uint8)
  padded[pad : pad + height, pad : pad + width] = image
  return padded[top : top + height, left : left + width]


def test_crops_are_those_of_numpy():
  pad = 2
  offsets = np.array([(y, x) for y in range(5) for x in range(5)])
  images = pictures(len(offsets))
  crops = crop(jnp.asarray(images), *jnp.asarray(offsets.T), pad)
  for image, (top, left), found in zip(images, offsets, crops, strict=True):
    np.testing.assert_array_equal(found, numpy_crop(image, top, left, pad))
  assert crops.dtype == jnp.uint8


def draws_of(found, image, pad):
  """Which (top, left, mirrored) made each of the images found of one."""
  known = {}
  for top in range(2 * pad + 1):
    for left in range(2 * pad + 1):
      cut = numpy_crop(image, top, left, pad)
      known[cut.tobytes()] = top, left, 0
      known[cut[:, ::-1].tobytes()] = top, left, 1
  return np.array([known[np.asarray(one).tobytes()] for one in found])


@pytest.mark.parametrize('pad', [1, 2])
def test_every_crop_and_side_is_drawn_equally_often(pad):
  count, image = 9_000, pictures(1)[0]
  images = jnp.asarray(np.tile(image, (count, 1, 1, 1)))
  found = crop_and_flip(jax.random.key(0), images, pad, True)
  draws = draws_of(found, image, pad)
  cells, counts = np.unique(draws, axis=0, return_counts=True)
  number = 2 * (2 * pad + 1) ** 2
  assert len(cells) == number
  expected = count / number
  pearson = ((counts - expected) ** 2 / expected).sum()
  assert abs(pearson - (number - 1)) < 5 * np.sqrt(2 * (number - 1))
  # Neighbours in the batch know nothing of each other.
  for column in draws.T:
    related = np.corrcoef(column[1:], column[:-1])[0, 1]
    assert abs(related) < 5 / np.sqrt(count)


def test_keys_have_draws_of_their_own():
  image = pictures(1)[0]
  images = jnp.asarray(np.tile(image, (900, 1, 1, 1)))
  first, second, again = (
    draws_of(crop_and_flip(jax.random.key(k), images, 2, True), image, 2)
    for k in (0, 1, 0)
  )
  np.testing.assert_array_equal(first, again)
  equal = (first == second).all(1).mean()
  assert abs(equal - 1 / 50) < 5 * np.sqrt(1 / 50 / 900)


def test_what_is_not_asked_for_is_not_done():
  images = jnp.asarray(pictures(50))
  key = jax.random.key(0)
  np.testing.assert_array_equal(crop_and_flip(key, images, 0, False), images)
  flipped = np.asarray(crop_and_flip(key, images, 0, True))
  mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
  assert (mirrored | (flipped == images).all((1, 2, 3))).all()
  assert 10 < mirrored.sum() < 40
