"""Labelled images: a folder or archive of files, and the source over any set.

The other image data sets build the same `ImageSource`.
"""

import dataclasses
import hashlib
import logging
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hyperjax.data import image_files
from hyperjax.data.files import find
from hyperjax.errors import UserError, did_you_mean
from hyperjax.ops import shuffle
from hyperjax.ops.augment import crop_and_flip
from hyperjax.ops.random import stream
from hyperjax.types import Batch

logger = logging.getLogger(__name__)

SPLITS = ('train', 'valid', 'test')
NORMALIZATIONS = ('unit', 'standard')
Images = tuple[np.ndarray, np.ndarray]  # uint8 [N, H, W, C], labels [N]


class ImageSource:
  """Images in a new order each epoch, augmented within the train step.

  The training images are laid end to end epoch after epoch, each epoch in an
  order drawn from (seed, epoch), and cut into batches: every image comes once
  an epoch, and a batch may reach over its end.

  Args:
    splits: for 'train', 'valid' and 'test' the images, uint8 [N, H, W, C], and
      their labels, [N].
    name: of the data set, for `meta`.
    classes: their names; label k is the k-th.
    batch_size: images in a training batch, B.
    pad: training images are cropped at random out of themselves with so many
      pixels of zeros on every side. The zeros are pixels, black, and
      normalized as such.
    flip: whether half of the training images are mirrored, left to right.
    normalize: 'unit' divides pixels by 255; 'standard' takes the mean of each
      channel off and divides by its standard deviation, both of the training
      split.

  Raises:
    UserError: a split is empty, or an option is out of its range.
  """

  def __init__(
    self,
    splits: dict[str, Images],
    *,
    name: str,
    classes: Sequence[str],
    batch_size: int,
    pad: int = 0,
    flip: bool = False,
    normalize: str = 'standard',
  ):
    for split, (images, _) in splits.items():
      if not len(images):
        raise UserError(
          f'{name}: the {split} split has no images; give it some'
        )
    images, _ = splits['train']
    _check_options(name, len(images), batch_size, pad, normalize)
    self.batch_size = batch_size
    self.pad = pad
    self.flip = flip
    self.splits = {
      split: (images, np.asarray(labels).astype(np.int32))
      for split, (images, labels) in splits.items()
    }
    mean, std = (
      moments(images)
      if normalize == 'standard'
      else (np.zeros(images.shape[-1]), np.full(images.shape[-1], 255.0))
    )
    self._mean, self._std = mean.astype(np.float32), std.astype(np.float32)
    self.meta = {
      'name': name,
      'classes': list(classes),
      'shape': list(images.shape[1:]),
      'sizes': {split: len(labels) for split, (_, labels) in splits.items()},
      'sha256': {
        split: _sha256(*arrays) for split, arrays in self.splits.items()
      },
      'mean': mean.tolist(),
      'std': std.tolist(),
    }

  def arrays(self) -> dict[str, Array]:
    """The training images, uint8 [N, H, W, C], and labels, int32 [N]."""
    images, labels = self.splits['train']
    return {'images': jnp.asarray(images), 'labels': jnp.asarray(labels)}

  def batch(self, arrays: dict[str, Array], seed: Array, step: Array) -> Batch:
    """Training batch `step`: inputs float32 [B, H, W, C], targets int32 [B]."""
    indices = shuffle.batch_indices(
      stream(seed, 'data'), step, self.batch_size, len(arrays['labels'])
    )
    images = crop_and_flip(
      jax.random.fold_in(stream(seed, 'augmentation'), step),
      arrays['images'][indices],
      self.pad,
      self.flip,
    )
    return {
      'inputs': self.normalize(images),
      'targets': arrays['labels'][indices],
    }

  def normalize(self, images: np.ndarray | Array) -> np.ndarray | Array:
    """Pixels as the model gets them: float32, of the same shape."""
    return (images.astype(np.float32) - self._mean) / self._std

  def eval(self, split: str, batch_size: int) -> 'Pass':
    """One pass over a split, each image once, in order, as it is.

    Args:
      split: 'train', 'valid' or 'test'.
      batch_size: images side by side, S; a small split has fewer.

    Returns:
      A sequence of batches: inputs [S, H, W, C], targets [S] and mask [S],
      which leaves out what fills up the last batch.
    """
    if split not in self.splits:
      raise UserError(
        f"config.eval.split: no split '{split}'; known: {', '.join(SPLITS)}"
      )
    images, labels = self.splits[split]
    return Pass(self, images, labels, min(batch_size, len(labels)))

  def eval_protocol(self, batch_size: int) -> str:
    """What `eval` does, in words."""
    del batch_size  # it changes nothing in the result
    return 'every image once'


@dataclasses.dataclass(frozen=True, eq=False)
class Pass:
  """The batches of one pass over a split.

  Attributes:
    source: normalizes the images.
    images: uint8 [N, H, W, C].
    labels: int32 [N].
    batch_size: S.
  """

  source: ImageSource
  images: np.ndarray
  labels: np.ndarray
  batch_size: int

  def __len__(self) -> int:
    return -(-len(self.labels) // self.batch_size)

  def __getitem__(self, k: int) -> Batch:
    if not 0 <= k < len(self):
      raise IndexError(k)
    places = k * self.batch_size + np.arange(self.batch_size)
    inside = np.minimum(places, len(self.labels) - 1)
    return {
      'inputs': self.source.normalize(self.images[inside]),
      'targets': self.labels[inside],
      'mask': places < len(self.labels),
    }


def build(
  *,
  path: str = '',
  batch_size: int,
  num_classes: int,
  image_shape: Sequence[int] | None = None,
  num_valid: int = 5_000,
  split_seed: int = 0,
  pad: int = 0,
  flip: bool = False,
  normalize: str = 'standard',
) -> ImageSource:
  """Images of the user's, in a folder or a tar archive.

  It has `train/<class>/`, `test/<class>/` and, if you like, `valid/<class>/`
  with .jpg, .jpeg or .png files, all of one size. Without `valid/`,
  `num_valid` images of `train/` are held out. Grey images among colour ones
  become colour ones; transparency is left out.

  Args:
    path: the folder, or the archive: .tar, .tar.gz, .tar.xz and so on. A
      relative one is looked for under `$HYPERJAX_DATA_DIR`, too.
    batch_size: images in a training batch.
    num_classes: how many class folders there are.
    image_shape: see `make_source`.
    num_valid: images to hold out for validation; unused with `valid/`.
    split_seed: which ones are held out.
    pad: see `ImageSource`.
    flip: see `ImageSource`.
    normalize: see `ImageSource`.

  Raises:
    UserError: an image or the archive is broken, an image is of another size,
      or a class is missing.
  """
  if not path:
    raise UserError(
      'config.data.path is empty; give a folder or a tar archive with '
      'train/<class>/ and test/<class>/'
    )
  try:
    found = image_files.read(find('config.data.path', path), num_classes)
  except OSError as error:  # too long a name
    raise UserError(f'config.data.path: {path!r}: {error}') from error
  return make_source(
    found.splits,
    name=found.name,
    classes=found.classes,
    image_shape=image_shape,
    num_valid=num_valid,
    split_seed=split_seed,
    batch_size=batch_size,
    pad=pad,
    flip=flip,
    normalize=normalize,
  )


def make_source(
  splits: dict[str, Images],
  *,
  name: str,
  classes: Sequence[str],
  image_shape: Sequence[int] | None,
  num_valid: int,
  split_seed: int,
  batch_size: int,
  pad: int,
  flip: bool,
  normalize: str,
) -> ImageSource:
  """The source over 'train' and 'test', and 'valid' where it is held out.

  Args:
    splits: see `ImageSource`; 'valid' may be missing.
    name: see `ImageSource`.
    classes: see `ImageSource`.
    image_shape: height, width and channels that the config gives the model;
      None takes them as they are.
    num_valid: training images to hold out, if there is no 'valid'.
    split_seed: which ones.
    batch_size: see `ImageSource`.
    pad: see `ImageSource`.
    flip: see `ImageSource`.
    normalize: see `ImageSource`.

  Raises:
    UserError: the images have another shape.
  """
  shape = splits['train'][0].shape[1:]
  if image_shape is not None and tuple(image_shape) != shape:
    raise UserError(
      f'config.data.image_shape is {tuple(image_shape)}, but the images of '
      f'{name} have {shape}; give that'
    )
  if 'valid' not in splits:
    splits = splits | hold_out(*splits['train'], num_valid, split_seed)
  source = ImageSource(
    {split: splits[split] for split in SPLITS},
    name=name,
    classes=classes,
    batch_size=batch_size,
    pad=pad,
    flip=flip,
    normalize=normalize,
  )
  for split in SPLITS:
    logger.info(
      '%s: %s, %s images, sha256 %s',
      name,
      split,
      f'{source.meta["sizes"][split]:,}',
      source.meta['sha256'][split],
    )
  return source


def hold_out(
  images: np.ndarray, labels: np.ndarray, num_valid: int, split_seed: int
) -> dict[str, Images]:
  """Splits training images into 'train' and 'valid', both in their order.

  Args:
    images: [N, H, W, C].
    labels: [N].
    num_valid: size of 'valid', from 1 to N - 1.
    split_seed: the same seed gives the same split everywhere.
  """
  if not 1 <= num_valid < len(labels):
    raise UserError(
      f'config.data.num_valid is {num_valid}, of {len(labels):,} training '
      f'images; it must be from 1 to {len(labels) - 1:,}'
    )
  if not 0 <= split_seed < 2**32:
    raise UserError(
      f'config.data.split_seed is {split_seed}; it must be from 0 to 4294967295'
    )
  # NumPy promises that this generator's draws never change.
  order = np.random.RandomState(split_seed).permutation(len(labels))
  places = {
    'train': np.sort(order[num_valid:]),
    'valid': np.sort(order[:num_valid]),
  }
  return {split: (images[at], labels[at]) for split, at in places.items()}


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each channel, in pixel values.

  Whole numbers are added, so that no order of addition changes the result. A
  channel of one value gets the deviation 1.

  Args:
    images: uint8 [N, H, W, C].

  Returns:
    float64 [C] each.
  """
  axes = (0, 1, 2)
  count = math.prod(images.shape[:3])
  mean = images.sum(axes, dtype=np.int64) / count
  squares = np.square(images, dtype=np.uint16).sum(axes, dtype=np.int64)
  variance = squares / count - mean**2
  return mean, np.sqrt(np.where(variance > 0, variance, 1.0))


def _check_options(name, size, batch_size, pad, normalize):
  if pad < 0:
    raise UserError(f'config.data.pad is {pad}; it must be at least 0')
  if normalize not in NORMALIZATIONS:
    raise UserError(
      f"config.data.normalize: no '{normalize}'"
      f'{did_you_mean(normalize, NORMALIZATIONS)}'
    )
  cycle = shuffle.steps_to_start_anew(batch_size, size) * batch_size
  if cycle > 2**32:
    raise UserError(
      f'config.data.batch_size {batch_size} and the {size:,} training images '
      f'of {name} have a least common multiple above 2**32; choose a '
      f'batch_size that shares a factor with the number of images'
    )


def _sha256(images, labels):
  digest = hashlib.sha256(np.ascontiguousarray(images))
  digest.update(labels.astype('<i4').tobytes())
  return digest.hexdigest()
