"""Raw files: where they lie, and whether they are what they should be."""

import hashlib
import os
import pathlib
import stat

from hyperjax.errors import UserError

# Names a folder with one for each data set.
ROOT = 'HYPERJAX_DATA_DIR'


def data_dir(dir: str, name: str, files: str) -> pathlib.Path | None:
  """The folder with one data set's raw files, if there is one.

  Args:
    dir: `config.data.dir`; if empty, `$HYPERJAX_DATA_DIR/<name>`.
    name: the data set's folder under `$HYPERJAX_DATA_DIR`.
    files: what the folder should hold, for the error message.

  Returns:
    The folder; None if `dir` is empty and the environment names no root, or
    one without that data set.

  Raises:
    UserError: the folder or the root that was named does not exist.
  """
  if dir:
    return _existing('config.data.dir', dir, files)
  root = os.environ.get(ROOT, '')
  if not root:
    return None
  folder = _existing(ROOT, root, f'{files} in {name}/') / name
  return folder if folder.is_dir() else None


def find(field: str, path: str) -> pathlib.Path:
  """A file or folder, looked for under `$HYPERJAX_DATA_DIR`, too.

  Args:
    field: of the config, which names it.
    path: the field's value.

  Raises:
    UserError: no path can be like that.
  """
  root = os.environ.get(ROOT)
  try:
    found = pathlib.Path(path).expanduser()
    if root and not found.exists():
      below = pathlib.Path(root).expanduser() / found
      return below if below.exists() else found
  except (OSError, RuntimeError) as error:  # too long a name; no such ~user
    raise UserError(f'{field}: {path!r}: {error}') from error
  return found


def read_bytes(
  path: pathlib.Path, may_be_empty: bool = False, size: int | None = None
) -> bytes:
  """Reads a file.

  Args:
    path: of the file.
    may_be_empty: whether it may.
    size: bytes that it should have, if that is known; it is checked before
      memory is taken.

  Raises:
    UserError: it is missing, empty, unreadable, no regular file (a device may
      be read for ever), or of another size.
  """
  try:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
      raise UserError(f'{path}: is a device or a pipe; give a file')
    if size is not None and stat.S_ISREG(found.st_mode) and found.st_size:
      check_size(path, found.st_size, size)
    content = path.read_bytes()
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}') from error
  except ValueError as error:  # a zero byte in the name
    raise UserError(f'{path}: {error}') from error
  except MemoryError as error:
    raise UserError(f'{path}: does not fit into memory') from error
  if not content and not may_be_empty:
    raise UserError(f'{path}: the file is empty')
  return content


def read_exactly(path: pathlib.Path, size: int, sha256: str) -> bytes:
  """Reads a file whose size and hash are known.

  Raises:
    UserError: the file is missing, cut off, too long, or altered.
  """
  content = read_bytes(path, size=size)
  check_exactly(path, content, size, sha256)
  return content


def check_exactly(
  origin: str | os.PathLike,
  content: bytes,
  size: int,
  digest: str,
  remedy: str = 'get the file again',
  algorithm: str = 'sha256',
) -> None:
  """Checks bytes whose size and hash are known.

  Args:
    origin: where they come from, for messages.
    content: the bytes.
    size: how many they should be.
    digest: what their hash should be, in hexadecimal.
    remedy: what the user should do if they are not.
    algorithm: of the hash; older data sets were published with md5 or sha1.

  Raises:
    UserError: they are cut off, too many, or altered.
  """
  check_size(origin, len(content), size, remedy)
  # Not for security, so that md5 works where a system forbids it for that.
  found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
  if found != digest:
    raise UserError(
      f'{origin}: altered: of the right size, but its {algorithm} is '
      f'{found[:12]}... and not {digest[:12]}...; {remedy}'
    )


def check_size(
  origin: str | os.PathLike,
  found: int,
  size: int,
  remedy: str = 'get the file again',
) -> None:
  """Raises `UserError` unless as many bytes were found as there should be."""
  if found != size:
    kind = 'cut off' if found < size else 'too long'
    raise UserError(
      f'{origin}: {kind}: {found:,} bytes where the data set has {size:,}; '
      f'{remedy}'
    )


def _existing(origin, folder, files):
  try:
    path = pathlib.Path(folder).expanduser()
    exists = path.is_dir()
  except (OSError, RuntimeError) as error:  # too long a name; no such ~user
    raise UserError(f'{origin}: {folder!r}: {error}') from error
  if not exists:
    raise UserError(f'{origin}: {path} is not a folder; it should hold {files}')
  return path
