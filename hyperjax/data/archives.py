"""Members of tar archives, with all sizes checked before memory is taken.

Nothing is unpacked onto the disk: members are read as bytes. An archive may be
compressed (gzip, bzip2, xz), and may hold so much more than it has bytes that
no honest one comes near; beyond that it is refused as a bomb.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import pathlib
import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from hyperjax.errors import UserError

RATIO = 200  # bytes of the contents for each byte of the archive,
SLACK = 2**27  # and so many besides
CHUNK = 2**20
_COMPRESSED = {b'\x1f\x8b': gzip.open, b'BZh': bz2.open, b'\xfd7zXZ': lzma.open}
_BROKEN = (
  OSError,
  EOFError,
  KeyError,  # a link to what is not in the archive
  RecursionError,  # links in a circle
  ValueError,
  MemoryError,
  lzma.LZMAError,
  tarfile.TarError,
  zlib.error,
)


class Member(NamedTuple):
  """A member of an archive.

  Attributes:
    name: its whole path, in no case out of the archive.
    is_folder: whether it is one.
    is_file: whether it has bytes of its own, and is no link.
    size: of what `read` gives.
    reader: of the archive; see `read`.
    info: as tarfile has it.
  """

  name: str
  is_folder: bool
  is_file: bool
  size: int
  reader: '_Reader'
  info: tarfile.TarInfo

  def read(self) -> bytes:
    """The bytes, also of a link to another member; none of a device."""
    return self.reader.read(self.info)


def members(path: pathlib.Path, fault: str) -> Iterator[Member]:
  """Yields the members of an archive, in their order; reads it to its end.

  Args:
    path: of the archive.
    fault: what the message says of a file that is no archive or a broken one.

  Raises:
    UserError: the archive is broken or a bomb, or a member's name is absolute
      or goes up.
  """
  reader = _Reader(path, fault)
  with reader.errors(), _decompressed(path) as stream:
    limited = _Limited(stream, reader.most)
    with tarfile.open(fileobj=limited, mode='r:') as archive:
      reader.archive = archive
      for info in archive:
        yield reader.member(info)
      # tarfile takes an archive that is cut off between two members for a
      # whole one; but a whole one has a block of zeros at the end.
      if limited.tell() == archive.offset:
        raise tarfile.ReadError('unexpected end of data')
    while limited.read(CHUNK):  # to the end, where a checksum may be
      pass


class _Reader:
  """What the members of an archive share."""

  def __init__(self, path, fault):
    self.path, self.fault = path, fault
    self.archive, self.taken = None, 0
    with self.errors():
      self.most = SLACK + RATIO * os.path.getsize(path)

  @contextlib.contextmanager
  def errors(self):
    try:
      yield
    except _BROKEN as error:
      reason = str(error).split('\n')[0].removesuffix(':')
      raise UserError(
        f'{self.path}: {self.fault} ({reason or type(error).__name__}); get '
        f'the file again'
      ) from error

  def member(self, info):
    parts = pathlib.PurePosixPath(info.name).parts
    if info.name.startswith('/') or '..' in parts:
      raise UserError(
        f"{self.path}: has a member '{info.name}', which would lie outside of "
        f'it; do not trust this file, get it elsewhere'
      )
    if not parts and not info.isdir():
      raise tarfile.ReadError('a member without a name')
    file = None if info.isdir() else self.archive.extractfile(info)
    size = file.seek(0, io.SEEK_END) if file else 0
    return Member(info.name, info.isdir(), info.isfile(), size, self, info)

  def read(self, info):
    with self.errors():
      file = self.archive.extractfile(info)
      if not file:  # a device or the like
        return b''
      # Links to one member, or holes in it, may take more than it has bytes.
      self.taken += file.seek(0, io.SEEK_END)
      if self.taken > self.most:
        raise tarfile.ReadError(_bomb(self.taken, self.most))
      file.seek(0)
      return file.read()


class _Limited:
  """A stream in which nothing lies, or is asked for, beyond a limit."""

  def __init__(self, stream: BinaryIO, most: int):
    self._stream, self._most = stream, most
    self.tell, self.seekable = stream.tell, stream.seekable

  def read(self, size: int = -1) -> bytes:
    self._check(self.tell() + (size if size >= 0 else self._most))
    return self._stream.read(size)

  def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
    self._check(place)
    return self._stream.seek(place, whence)

  def _check(self, place):
    if place > self._most:
      raise tarfile.ReadError(_bomb(place, self._most))


@contextlib.contextmanager
def _decompressed(path):
  with path.open('rb') as file:
    head = file.read(5)
    file.seek(0)
    opener = next(
      (
        opener
        for magic, opener in _COMPRESSED.items()
        if head.startswith(magic)
      ),
      contextlib.nullcontext,
    )
    with opener(file) as stream:
      yield stream


def _bomb(size, most):
  return f'claims {size:,} bytes, where {most:,} are plausible for its size'
