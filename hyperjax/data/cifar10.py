"""CIFAR-10: 50,000 + 10,000 colour images of 32 x 32 pixels in 10 classes.

Krizhevsky's python version or his binary one, unpacked or as they are: both
hold the same images in the same order. Of the 50,000, 5,000 are held out for
validation, drawn with a fixed seed. A copy in JPEG files is another data set,
for `images.py`.
"""

import io
import pathlib
import pickle
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from hyperjax.data import archives, made_up, prepared, records
from hyperjax.data.files import (
  check_exactly,
  check_size,
  data_dir,
  read_bytes,
)
from hyperjax.data.images import Images, ImageSource, make_source
from hyperjax.errors import UserError

CLASSES = [
  'airplane',
  'automobile',
  'bird',
  'cat',
  'deer',
  'dog',
  'frog',
  'horse',
  'ship',
  'truck',
]
SHAPE = (3, 32, 32)  # as the files have it: the channels first
BATCHES = {'train': 5, 'test': 1}  # files
IN_BATCH = 10_000  # images in a file
RECORD = 1 + 3 * 32 * 32  # bytes of a label and its image
# The files of each version in order, with what their authors and users publish:
# the sha1 of the binary ones, and size and md5 of the pickled ones.
BINARY = {
  'data_batch_1.bin': 'aadd24acce27caa71bf4b10992e9e7b2d74c2540',
  'data_batch_2.bin': 'c0ba65cce70568cd57b4e03e9ac8d2a5367c1795',
  'data_batch_3.bin': '1dd00a74ab1d17a6e7d73e185b69dbf31242f295',
  'data_batch_4.bin': 'aab85764eb3584312d3c7f65fd2fd016e36a258e',
  'data_batch_5.bin': '26e2849e66a845b7f1e4614ae70f4889ae604628',
  'test_batch.bin': '67eb016db431130d61cd03c7ad570b013799c88c',
}
PICKLED = {
  'data_batch_1': (31_035_704, 'c99cafc152244af753f735de768cd75f'),
  'data_batch_2': (31_035_320, 'd4bba439e000b95fd0a9bffe97cbabec'),
  'data_batch_3': (31_035_999, '54ebc095f3ab1f0389bbae665268c751'),
  'data_batch_4': (31_035_696, '634d18415352ddfa80567beed471001a'),
  'data_batch_5': (31_035_623, '482c414d41f54cd18b22e5b47cb7c3cb'),
  'test_batch': (31_035_526, '40351d587109b95175f43aff81a1287e'),
}
URL = 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz'
ARCHIVE_SIZE = 170_052_171
ARCHIVE_SHA256 = (
  'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd'
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
  normalize: str = 'standard',
) -> ImageSource:
  """The source over CIFAR-10.

  Args:
    dir: the folder with `cifar-10-batches-bin` or `cifar-10-batches-py`, or
      with one of the archives that hold these; if empty,
      `$HYPERJAX_DATA_DIR/cifar10` where there is one, and else the prepared
      tfds data set, which is downloaded if need be.
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
      f'config.data.num_classes is {num_classes}, but CIFAR-10 has '
      f'{len(CLASSES)}; give that number'
    )
  folder = data_dir(dir, 'cifar10', ' or '.join(raw_files()))
  return make_source(
    read_raw(folder) if folder else read_prepared(),
    name='CIFAR-10',
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
  defaults |= {'pad': 0, 'flip': False, 'normalize': 'standard'}
  sizes = {'train': 50_000, 'test': 10_000}
  return make_source(
    made_up.images(sizes, (32, 32, 3), len(CLASSES)),
    name='made-up images',
    classes=CLASSES,
    **{**defaults, **options},
  )


def raw_files() -> list[str]:
  """The names of the folders and archives, one of which is enough."""
  return [
    'cifar-10-batches-bin',
    'cifar-10-binary.tar.gz',
    'cifar-10-batches-py',
    'cifar-10-python.tar.gz',
  ]


def downloads() -> dict[str, tuple[str, int, str]]:
  """What to download: the name, size and sha256 of the file at each URL."""
  return {URL: ('cifar-10-binary.tar.gz', ARCHIVE_SIZE, ARCHIVE_SHA256)}


def read_raw(folder: pathlib.Path) -> dict[str, Images]:
  """Images uint8 [N, 32, 32, 3] and labels of 'train' and 'test'; checked."""
  return _images(read_records(folder))


def read_records(folder: pathlib.Path) -> dict[str, bytes]:
  """The raw files as `records` with the channels first; checked.

  The binary files are such records as they are.
  """
  names = raw_files()
  for unpacked, archive, sizes, decode in (
    (*names[:2], dict.fromkeys(BINARY, IN_BATCH * RECORD), _of_binary),
    (*names[2:], {k: size for k, (size, _) in PICKLED.items()}, _of_pickle),
  ):
    if (folder / unpacked).exists():
      files = {name: folder / unpacked / name for name in sizes}
      found = {
        name: (at, read_bytes(at, size=sizes[name]))
        for name, at in files.items()
      }
    elif (folder / archive).exists():
      found = _of_archive(folder / archive, unpacked, sizes)
    else:
      continue
    batches = [decode(name, *found[name]) for name in sizes]
    contents = {'train': b''.join(batches[:-1]), 'test': batches[-1]}
    _check_classes(folder, contents)
    return contents
  raise UserError(
    f'{folder}: has none of {", ".join(names)}; put one of these there'
  )


def read_prepared(data_dir: str = '') -> dict[str, Images]:
  """What `read_raw` gives, from the tfds data set; checked.

  Args:
    data_dir: of tfds; see `prepared.root`.
  """
  contents, folder = prepared.read('cifar10', data_dir)
  batch = IN_BATCH * RECORD
  names = iter(BINARY.items())
  for split, content in contents.items():
    size = BATCHES[split] * batch
    check_size(f'{folder}, {split}', len(content), size, prepared.REMEDY)
    for start in range(0, size, batch):
      name, sha1 = next(names)
      check_exactly(
        f'{folder}, {split}, {name}',
        content[start : start + batch],
        batch,
        sha1,
        prepared.REMEDY,
        'sha1',
      )
  return _images(contents)


def _images(contents):
  splits = {}
  for split, content in contents.items():
    images, labels = records.unpack(content, SHAPE)
    splits[split] = np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels
  return splits


def _of_archive(path, folder, sizes):
  """(origin, content) of the wanted members of a tar file, by name."""
  found = {}
  for member in archives.members(path, 'a broken archive'):
    name = member.name.removeprefix(f'{folder}/')
    if name in sizes and member.is_file:
      origin = f'{path}, {member.name}'
      # What the header says is checked before anything is unpacked.
      check_size(origin, member.size, sizes[name])
      found[name] = origin, member.read()
  for name in sizes:
    if name not in found:
      raise UserError(f'{path}: has no {folder}/{name}; get the file again')
  return found


def _of_binary(name, origin, content):
  sha1 = BINARY[name]
  size = IN_BATCH * RECORD
  check_exactly(origin, content, size, sha1, algorithm='sha1')
  return content


def _of_pickle(name, origin, content):
  """The records of a pickled batch."""
  check_exactly(origin, content, *PICKLED[name], algorithm='md5')
  try:
    batch = _Unpickler(io.BytesIO(content), encoding='latin1').load()
    pixels, labels = batch['data'], np.array(batch['labels'])
    if pixels.shape != (IN_BATCH, RECORD - 1) or pixels.dtype != np.uint8:
      raise ValueError(f'pixels of {pixels.dtype} {pixels.shape}')
    if labels.shape != (IN_BATCH,) or labels.dtype.kind != 'i':
      raise ValueError(f'labels of {labels.dtype} {labels.shape}')
  except Exception as error:  # whatever a pickle raises
    reason = f'{type(error).__name__}: {error}'.split('\n')[0]
    raise UserError(
      f'{origin}: not a batch of CIFAR-10 ({reason}); get the file again'
    ) from error
  return records.pack(pixels, labels)


class _Unpickler(pickle.Unpickler):
  """Makes arrays and plain containers, and calls nothing else."""

  ALLOWED: ClassVar = {
    ('numpy.core.multiarray', '_reconstruct'): np.empty(0).__reduce__()[0],
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
  }

  def find_class(self, module: str, name: str) -> Any:
    """The few names that NumPy's pickled arrays need."""
    if (module, name) not in self.ALLOWED:
      raise pickle.UnpicklingError(f'{module}.{name} is not allowed')
    return self.ALLOWED[module, name]


def _check_classes(folder, contents):
  for split, content in contents.items():
    labels = np.frombuffer(content, np.uint8)[::RECORD]
    each = BATCHES[split] * IN_BATCH // len(CLASSES)
    found = np.bincount(labels, minlength=len(CLASSES)).tolist()
    if found != [each] * len(CLASSES):
      raise UserError(
        f'{folder}: the {split} labels are not {each:,} of each of the '
        f'{len(CLASSES)} classes; get the files again'
      )
