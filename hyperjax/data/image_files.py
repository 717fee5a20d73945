"""JPEG and PNG files in class folders, loose or in a tar archive."""

import io
import itertools
import logging
import math
import pathlib
import re
from typing import NamedTuple

import numpy as np
from PIL import Image

from hyperjax.data import archives
from hyperjax.data.files import read_bytes
from hyperjax.errors import UserError
from hyperjax.training.progress import track

logger = logging.getLogger(__name__)

EXTENSIONS = ('.jpg', '.jpeg', '.png')
SPLITS = ('train', 'valid', 'test')  # 'valid' may be missing
MOST_PIXELS = 2**24  # of an image: 4,096 x 4,096
DEEP = ('I', 'F')  # how Pillow's modes of more than 8 bits begin


class ImageFiles(NamedTuple):
  """What was read.

  Attributes:
    splits: images, uint8 [N, H, W, C], and labels, int32 [N], of each split.
    classes: names in their order.
    name: says where the images come from and how they were compressed.
  """

  splits: dict[str, tuple[np.ndarray, np.ndarray]]
  classes: list[str]
  name: str


class _Entry(NamedTuple):
  """A file, or a folder, of the tree or archive."""

  where: str  # for messages
  parts: tuple[str, ...]  # of its path: 'train', the class, ..., the file
  content: bytes | pathlib.Path | None  # None is a folder


def read(path: pathlib.Path, num_classes: int) -> ImageFiles:
  """Reads all images under `path`, in the order of their names.

  Hidden files and files of other kinds are left out; the log says how many.

  Args:
    path: a folder or a tar archive of any compression, with `train/<class>/`
      and `test/<class>/`, or with one folder that has these.
    num_classes: how many classes there should be.

  Raises:
    UserError: names the file that is wrong, or the class that is missing.
  """
  if path.is_dir():
    entries = _of_folder(path)
  elif path.is_file():
    entries = _of_archive(path)
  else:
    raise UserError(f'config.data.path: {path} does not exist')
  images, folders = _take_images(path, entries)
  splits, classes = _check_tree(path, images, folders, num_classes)
  images.sort(key=lambda entry: (splits.index(entry.parts[0]), entry.parts))
  pixels, formats = _decode_all(images)
  labels = np.array([classes.index(e.parts[1]) for e in images], np.int32)
  of_split = np.array([splits.index(entry.parts[0]) for entry in images])
  ends = np.searchsorted(of_split, np.arange(len(splits) + 1))
  return ImageFiles(
    {
      split: (pixels[start:end], labels[start:end])
      for split, (start, end) in zip(
        splits, itertools.pairwise(ends), strict=True
      )
    },
    classes,
    f'{_stem(path)}: {" and ".join(sorted(formats))} images',
  )


def _of_folder(root):
  return [
    _Entry(
      str(path),
      path.relative_to(root).parts,
      None if path.is_dir() else path,
    )
    for path in sorted(root.rglob('*'))
  ]


def _of_archive(path):
  fault = 'neither a folder nor a whole tar archive'
  return [
    _Entry(
      f'{path}, {member.name}',
      pathlib.PurePosixPath(member.name).parts,
      _content(member),
    )
    for member in archives.members(path, fault)
  ]


def _content(member):
  """The bytes of a picture; none of another file, None of a folder."""
  if member.is_folder:
    return None
  return member.read() if member.name.lower().endswith(EXTENSIONS) else b''


def _take_images(path, entries):
  """The images, and the folders beside; all from `train`, ... downward."""
  images, folders, left_out = [], [], []
  for entry in entries:
    hidden = any(part.startswith(('.', '__MACOSX')) for part in entry.parts)
    if entry.content is None:
      folders += [] if hidden else [entry.parts]
    elif hidden or not entry.parts[-1].lower().endswith(EXTENSIONS):
      left_out.append(entry)
    else:
      images.append(entry)
  logger.info(
    '%s: %d images, %d other files left out%s',
    path,
    len(images),
    len(left_out),
    f', such as {left_out[0].where}' if left_out else '',
  )
  tops = {entry.parts[0] for entry in images}
  if len(tops) == 1 and not tops & set(SPLITS):
    # An archive often has all it holds in one folder.
    images = [entry._replace(parts=entry.parts[1:]) for entry in images]
    folders = [parts[1:] for parts in folders if parts[:1] and parts[0] in tops]
  return images, folders


def _check_tree(path, images, folders, num_classes):
  """The splits and the classes, if each split has images of each class."""
  for entry in images:
    if len(entry.parts) < 3 or entry.parts[0] not in SPLITS:
      raise UserError(
        f'{entry.where}: an image that is not in train/<class>/, '
        f'valid/<class>/ or test/<class>/; move it there, or away'
      )
  found = {entry.parts[:2] for entry in images}
  folders = {
    parts[:2] for parts in folders if len(parts) > 1 and parts[0] in SPLITS
  }
  classes = sorted({name for _, name in found | folders})
  present = {split for split, _ in found | folders}
  splits = [split for split in SPLITS if split != 'valid' or split in present]
  for split in splits:
    if split not in present:
      raise UserError(
        f'{path}: has no {split}/<class>/ with .jpg, .jpeg or .png files; the '
        f'splits are train, test and, if you like, valid'
      )
  if len(classes) != num_classes:
    raise UserError(
      f'config.data.num_classes is {num_classes}, but {path} has '
      f'{len(classes)} ({_few(classes)}); give that number'
    )
  for split, name in itertools.product(splits, classes):
    if (split, name) not in found:
      raise UserError(
        f'{path}: no images in {split}/{name}/; every split needs some of '
        f'every class'
      )
  return splits, classes


def _few(names):
  return ', '.join([*names[:5], '...'] if len(names) > 5 else names)


def _decode_all(entries):
  """The pixels, uint8 [N, H, W, C], and the formats of all files."""
  pixels, formats, colour = None, set(), False
  # One after the other: for small images threads take longer.
  for k, entry in enumerate(track(entries, unit='image')):
    image, form = _decode(entry)
    if pixels is None:
      size = image.shape[:2]
      pixels = _allocate(entries, size)
    if image.shape[:2] != size:
      raise UserError(
        f'{entry.where}: {_words(image.shape)}, but {entries[0].where} has '
        f'{_words(size)}; make all images of one size'
      )
    pixels[k] = image
    formats.add(form)
    colour |= image.shape[2] == 3
  return pixels if colour else pixels[..., :1].copy(), formats


def _allocate(entries, size):
  try:
    return np.empty((len(entries), *size, 3), np.uint8)
  except (MemoryError, ValueError) as error:
    raise UserError(
      f'{entries[0].where}: {_words(size)}, and {len(entries):,} such images '
      f'do not fit into memory; make them smaller or fewer'
    ) from error


def _words(shape):
  return f'{shape[1]} x {shape[0]} pixels'


def _decode(entry):
  """One image, uint8 [H, W, 1 or 3], and 'JPEG' or 'PNG'."""
  content = entry.content
  if isinstance(content, pathlib.Path):
    content = read_bytes(content)
  try:
    with Image.open(io.BytesIO(content), formats=('JPEG', 'PNG')) as image:
      if math.prod(image.size) > MOST_PIXELS:
        raise ValueError(f'{image.width} x {image.height} pixels are too many')
      form = 'PNG' if image.format == 'PNG' else 'JPEG'
      mode = image.mode
      if mode.startswith(DEEP):
        raise ValueError(f'more than 8 bits a channel, mode {mode}')
      if mode == 'P':  # a palette may have transparent colours
        image = image.convert('RGBA')
      grey = mode in ('1', 'L', 'LA')
      pixels = np.asarray(image.convert('L' if grey else 'RGB'))
  except Exception as error:  # whatever Pillow raises
    reason = f'{type(error).__name__}: {error}'.split('\n')[0]
    raise UserError(
      f'{entry.where}: no image that can be read ({reason}); replace it or '
      f'take it away'
    ) from error
  return pixels.reshape(*pixels.shape[:2], -1), form


def _stem(path):
  """The name of a folder, or of an archive without its extensions."""
  name = path.resolve().name
  if path.is_dir():
    return name
  return re.sub(r'\.(tar(\.\w+)?|t(gz|bz2?|xz))$', '', name, flags=re.I)
