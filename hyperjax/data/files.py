"""Raw files: where they lie, and whether they are what they should be."""

import hashlib
import os
import pathlib

from hyperjax.errors import UserError


def data_dir(dir: str, name: str, files: str) -> pathlib.Path:
  """The folder with one data set's raw files.

  Args:
    dir: `config.data.dir`; if empty, `$HYPERJAX_DATA_DIR/<name>`.
    name: the data set's folder under `$HYPERJAX_DATA_DIR`.
    files: what the folder should hold, for the error message.

  Raises:
    UserError: no folder was named, or it does not exist.
  """
  root = os.environ.get('HYPERJAX_DATA_DIR', '')
  if not dir and not root:
    raise UserError(
      f'config.data.dir is empty: give the folder with {files} by '
      f'--config.data.dir=FOLDER, or set HYPERJAX_DATA_DIR to a folder that '
      f'has them in {name}/'
    )
  origin = 'config.data.dir' if dir else 'HYPERJAX_DATA_DIR'
  path = pathlib.Path(dir or os.path.join(root, name)).expanduser()
  if not path.is_dir():
    raise UserError(f'{origin}: {path} is not a folder; it should hold {files}')
  return path


def read_bytes(path: pathlib.Path, may_be_empty: bool = False) -> bytes:
  """Reads a file; a missing, empty or unreadable one is a `UserError`."""
  try:
    content = path.read_bytes()
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}') from error
  if not content and not may_be_empty:
    raise UserError(f'{path}: the file is empty')
  return content


def read_exactly(path: pathlib.Path, size: int, sha256: str) -> bytes:
  """Reads a file whose size and hash are known.

  Raises:
    UserError: the file is missing, cut off, too long, or altered.
  """
  content = read_bytes(path)
  if len(content) != size:
    kind = 'cut off' if len(content) < size else 'too long'
    raise UserError(
      f'{path}: {kind}: {len(content):,} bytes where the data set has '
      f'{size:,}; get the file again'
    )
  found = hashlib.sha256(content).hexdigest()
  if found != sha256:
    raise UserError(
      f'{path}: altered: of the right size, but its sha256 is {found[:12]}... '
      f'and not {sha256[:12]}...; get the file again'
    )
  return content
