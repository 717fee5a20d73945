"""MNIST: 60,000 + 10,000 handwritten digits of 28 x 28 grey pixels.

The four idx files of LeCun, Cortes and Burges, plain or gzipped. Of the 60,000,
5,000 are held out for validation, drawn with a fixed seed. `URL` is the copy of
the files that tfds uses.
"""

import gzip
import math
import pathlib
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperjax.data import made_up, prepared, records
from hyperjax.data.files import (
  check_exactly,
  check_size,
  data_dir,
  read_bytes,
)
from hyperjax.data.images import Images, ImageSource, make_source
from hyperjax.errors import UserError

CLASSES = [str(digit) for digit in range(10)]
SHAPE = (28, 28)
SIZES = {'train': 60_000, 'test': 10_000}
# For each split the files of images and of labels: name, and sha256 of what
# they hold unzipped, since gzip packs the same bytes in many ways.
FILES = {
  'train': (
    (
      'train-images-idx3-ubyte',
      'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db',
    ),
    (
      'train-labels-idx1-ubyte',
      '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5',
    ),
  ),
  'test': (
    (
      't10k-images-idx3-ubyte',
      '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7',
    ),
    (
      't10k-labels-idx1-ubyte',
      'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2',
    ),
  ),
}
UNSIGNED_BYTES = 0x0800  # idx: the type of the elements
URL = 'https://storage.googleapis.com/cvdf-datasets/mnist/'  # + name
GZIPPED = (
  (
    'train-images-idx3-ubyte.gz',
    9_912_422,
    '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609',
  ),
  (
    'train-labels-idx1-ubyte.gz',
    28_881,
    '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c',
  ),
  (
    't10k-images-idx3-ubyte.gz',
    1_648_877,
    '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6',
  ),
  (
    't10k-labels-idx1-ubyte.gz',
    4_542,
    'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6',
  ),
)


def build(
  *,
  dir: str = '',
  batch_size: int,
  num_classes: int = len(CLASSES),
  image_shape: Sequence[int] | None = None,
  num_valid: int = 5_000,
  split_seed: int = 0,
  pad: int = 0,
  flip: bool = False,
  normalize: str = 'unit',
) -> ImageSource:
  """The source over the idx files.

  Args:
    dir: the folder with these files, each plain or as .gz; if empty,
      `$HYPERJAX_DATA_DIR/mnist` where there is one, and else the prepared tfds
      data set, which is downloaded if need be.
    batch_size: images in a training batch.
    num_classes: 10.
    image_shape: see `make_source`.
    num_valid: training images to hold out for validation.
    split_seed: which ones.
    pad: see `ImageSource`.
    flip: see `ImageSource`.
    normalize: see `ImageSource`.

  Raises:
    UserError: a file is missing, cut off or altered, or can not be downloaded.
  """
  if num_classes != len(CLASSES):
    raise UserError(
      f'config.data.num_classes is {num_classes}, but MNIST has '
      f'{len(CLASSES)}; give that number'
    )
  folder = data_dir(dir, 'mnist', ', '.join(raw_files()))
  return make_source(
    read_raw(folder) if folder else read_prepared(),
    name='MNIST',
    classes=CLASSES,
    image_shape=image_shape,
    batch_size=batch_size,
    num_valid=num_valid,
    split_seed=split_seed,
    pad=pad,
    flip=flip,
    normalize=normalize,
  )


def stand_in(
  *, dir: str = '', num_classes: int = len(CLASSES), **options: Any
) -> ImageSource:
  """The source over made-up images, as many and as large."""
  del dir, num_classes
  defaults = {'image_shape': None, 'num_valid': 5_000, 'split_seed': 0}
  defaults |= {'pad': 0, 'flip': False, 'normalize': 'unit'}
  return make_source(
    made_up.images(SIZES, (*SHAPE, 1), len(CLASSES)),
    name='made-up images',
    classes=CLASSES,
    **{**defaults, **options},
  )


def raw_files() -> list[str]:
  """The names that the raw files may have."""
  names = [name for files in FILES.values() for name, _ in files]
  return [*names, *(f'{name}.gz' for name in names)]


def downloads() -> dict[str, tuple[str, int, str]]:
  """What to download: the name, size and sha256 of the file at each URL."""
  return {f'{URL}{file[0]}': file for file in GZIPPED}


def read_raw(folder: pathlib.Path) -> dict[str, Images]:
  """Images uint8 [N, 28, 28, 1] and labels of 'train' and 'test'; checked."""
  splits = {}
  for split, (images, labels) in FILES.items():
    splits[split] = (
      _read_idx(folder, images, split, SHAPE)[..., None],
      _read_idx(folder, labels, split, ()),
    )
  return splits


def read_records(folder: pathlib.Path) -> dict[str, bytes]:
  """The raw files as `records`, for the tfds data set; checked."""
  return {
    split: records.pack(*arrays) for split, arrays in read_raw(folder).items()
  }


def read_prepared(data_dir: str = '') -> dict[str, Images]:
  """What `read_raw` gives, from the tfds data set; checked.

  Args:
    data_dir: of tfds; see `prepared.root`.
  """
  contents, folder = prepared.read('mnist', data_dir)
  splits = {}
  for split, content in contents.items():
    origin = f'{folder}, {split}'
    size = SIZES[split] * (1 + math.prod(SHAPE))
    check_size(origin, len(content), size, prepared.REMEDY)
    images, labels = records.unpack(content, (*SHAPE, 1))
    # The checksums are of the idx files, so these are made again.
    for array, shape, (_, sha256) in zip(
      (images, labels), (SHAPE, ()), FILES[split], strict=True
    ):
      idx = _header(split, shape) + array.astype(np.uint8).tobytes()
      check_exactly(origin, idx, len(idx), sha256, prepared.REMEDY)
    splits[split] = images, labels
  return splits


def _read_idx(folder, file, split, shape):
  """The array of an idx file, uint8 [N, *shape]."""
  name, sha256 = file
  header = _header(split, shape)
  size = len(header) + SIZES[split] * math.prod(shape)
  path = folder / name
  if not path.exists() and (folder / f'{name}.gz').exists():
    path = folder / f'{name}.gz'
    content = _unzip(path, size)
  else:
    content = read_bytes(path, size=size)
  check_exactly(path, content, size, sha256)
  if not content.startswith(header):
    raise UserError(
      f'{path}: it does not begin as an idx file of '
      f'{" x ".join(map(str, (SIZES[split], *shape)))} bytes does; get the '
      f'file again'
    )
  array = np.frombuffer(content, np.uint8, offset=len(header))
  if not shape and array.max() >= len(CLASSES):
    raise UserError(
      f'{path}: has the label {array.max()}, but digits go to 9; get the file '
      f'again'
    )
  return array.reshape(-1, *shape)


def _header(split, shape):
  """How an idx file begins: the type, the number of axes, their lengths."""
  lengths = SIZES[split], *shape
  return struct.pack(
    f'>{1 + len(lengths)}I', UNSIGNED_BYTES + len(lengths), *lengths
  )


def _unzip(path, size):
  """What a .gz holds; a byte more than it should have is enough to tell."""
  try:
    with gzip.open(path) as file:
      return file.read(size + 1)
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(
      f'{path}: a broken gzip file ({error}); get the file again'
    ) from error
