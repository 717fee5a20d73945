"""What takes long to make of raw data, kept on the disk for the next time.

An entry is a folder of files, with the size and the hash of each. It is
written under another name and renamed when it is whole, so that a run that is
interrupted, or another that does the same, leaves nothing half done.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from hyperjax.data.parallel_text import file_hash
from hyperjax.errors import UserError

logger = logging.getLogger(__name__)

ROOT = 'HYPERJAX_CACHE_DIR'
REPORT = 'report.json'

# Writes the files that it opens by name; returns what else is to be kept, in
# plain JSON.
Write = Callable[[Callable[[str], BinaryIO]], dict[str, Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
  """What was made.

  Attributes:
    report: what `Write` returned.
    files: by name: where it lies, or its bytes where there was no place.
  """

  report: dict[str, Any]
  files: dict[str, pathlib.Path | bytes]

  def read(self, name: str) -> bytes:
    """The bytes of a file."""
    file = self.files[name]
    return file if isinstance(file, bytes) else file.read_bytes()

  def array(self, name: str, dtype: Any) -> np.ndarray:
    """The numbers of a file, [N]; read from the disk as they are used."""
    file = self.files[name]
    if isinstance(file, bytes):
      return np.frombuffer(file, dtype)
    return np.memmap(file, dtype, 'r')


def check_whole(array: np.ndarray) -> None:
  """Checks that the file of an `Entry.array` is as long as it was.

  What is missing would be read as zeros, or end the process by SIGBUS.

  Raises:
    UserError: it was cut off since.
  """
  if isinstance(array, np.memmap):
    size = os.stat(array.filename).st_size
    if size < array.nbytes:
      raise UserError(
        f'{array.filename}: cut off while it was read, {size} bytes instead '
        f'of {array.nbytes}; the same command makes it anew'
      )


def root() -> pathlib.Path:
  """The folder of the entries: `$HYPERJAX_CACHE_DIR` or ~/.cache/hyperjax."""
  named = os.environ.get(ROOT) or '~/.cache/hyperjax'
  return pathlib.Path(os.path.expanduser(named))


def fetch(kind: str, depends_on: list[Any], write: Write) -> Entry:
  """The entry of these contents, which is made if there is none, or a bad one.

  Args:
    kind: a word for the entry's name.
    depends_on: all that decides what `write` makes, in plain JSON.
    write: makes it; may be called twice.
  """
  text = json.dumps([kind, *depends_on])
  key = hashlib.sha256(text.encode()).hexdigest()[:32]
  folder = root() / f'{kind}-{key}'
  try:
    return _read(folder) or _make(folder, write)
  except OSError as error:
    logger.warning(
      '%s: can not keep %s there (%s), so they are made anew each time and '
      'stay in memory; name another folder by %s',
      folder.parent,
      kind,
      error.strerror or error,
      ROOT,
    )
    return _make_in_memory(write)


def _read(folder):
  """The entry in a folder; None if there is none or it is damaged."""
  if not folder.is_dir():
    return None
  try:
    content = json.loads((folder / REPORT).read_text())
    report, kept = content['report'], content['files']
    if _digest(report, kept) != content['sha256']:
      raise ValueError(f'{REPORT} is not what was written')
    for name, known in kept.items():
      if _signature(folder / name) != known:
        raise ValueError(f'{name} is not what was written')
  except (
    *(OSError, UserError, ValueError, TypeError, KeyError, RecursionError),
  ) as error:
    logger.warning('%s: damaged (%s); it is made anew', folder, error)
    shutil.rmtree(folder)
    return None
  return Entry(report, {name: folder / name for name in kept})


def _make(folder, write):
  folder.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    dir=folder.parent, prefix=f'{folder.name}.part-'
  ) as part:
    part = pathlib.Path(part)
    report = write(lambda name: (part / name).open('wb'))
    files = {file.name: _signature(file) for file in sorted(part.iterdir())}
    content = {'report': report, 'files': files}
    content['sha256'] = _digest(report, files)
    (part / REPORT).write_text(json.dumps(content))
    # If another process was faster, its entry stands.
    with contextlib.suppress(OSError):
      part.rename(folder)
  entry = _read(folder)
  if entry is None:
    raise FileNotFoundError(f'{folder.name} is not to be had')
  return entry


def _make_in_memory(write):
  files = {}
  report = write(lambda name: _Kept(files, name))
  return Entry(report, files)


class _Kept(io.BytesIO):
  """A file in memory, whose bytes outlive it."""

  def __init__(self, files, name):
    super().__init__()
    self._files, self._name = files, name

  def close(self):
    if not self.closed:
      self._files[self._name] = self.getvalue()
    super().close()


def _digest(report, files):
  text = json.dumps([report, files], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _signature(path):
  """The size and the hash of a file."""
  return [path.stat().st_size, file_hash(path)]
