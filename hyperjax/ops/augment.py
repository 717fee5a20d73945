"""Augmentation of a batch of images, inside the train step."""

import jax
import jax.numpy as jnp
from jax import Array


def crop_and_flip(key: Array, images: Array, pad: int, flip: bool) -> Array:
  """Shifts each image by a random crop of its padded self, and mirrors half.

  Args:
    key: PRNG key; each image has draws of its own.
    images: [B, H, W, C].
    pad: pixels of zeros on every side, of which a crop of H x W is taken; all
      (2 pad + 1)**2 crops are equally likely. 0 crops nothing.
    flip: whether left and right change places, with probability 1/2.

  Returns:
    [B, H, W, C], of the type of `images`.
  """
  crop_key, flip_key = jax.random.split(key)
  if pad:
    starts = jax.random.randint(crop_key, (2, len(images)), 0, 2 * pad + 1)
    images = crop(images, *starts, pad)
  if flip:
    mirrored = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
    images = jnp.where(mirrored, images[:, :, ::-1], images)
  return images


def crop(images: Array, top: Array, left: Array, pad: int) -> Array:
  """Crops of H x W out of images padded with zeros.

  Args:
    images: [B, H, W, C].
    top: the first row of each crop in its padded image, [B].
    left: the first column, [B].
    pad: pixels of zeros on every side.
  """
  padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  return jax.vmap(
    lambda image, y, x: jax.lax.dynamic_slice(
      image, (y, x, 0), images.shape[1:]
    )
  )(padded, top, left)
