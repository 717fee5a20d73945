"""Disks that fill up, fail, or can't be written: said in one line."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

from hyperjax.errors import DiskError, UserError

# What a user can mend; anything else is a fault of the program.
ERRNOS = (
  errno.ENOSPC,
  errno.EDQUOT,
  errno.EFBIG,
  errno.EROFS,
  errno.EACCES,
  errno.EPERM,
  errno.EIO,
  errno.ESTALE,
)


@contextlib.contextmanager
def faults_named(workdir: pathlib.Path) -> Iterator[None]:
  """Turns what a disk does wrong, also behind a run's back, into `DiskError`.

  Args:
    workdir: of the run, which is named where the error names no file.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    found = _find(error)
    if found is None:
      raise
    reason, path = found
    raise DiskError(
      f'{path or workdir}: {reason}; mend that, and the same command goes on '
      f'from the newest whole checkpoint'
    ) from error


def _find(error: BaseException | None) -> tuple[str, str | None] | None:
  """(what a disk did, at which path) from an error or what led to it."""
  while error is not None:
    if isinstance(error, OSError) and error.errno in ERRNOS:
      return os.strerror(error.errno), error.filename
    if isinstance(error, TimeoutError):  # by the wall clock, which may leap
      return 'a checkpoint was not written in time', None
    for number in ERRNOS:  # tensorstore's errors have no errno
      if not isinstance(error, OSError) and os.strerror(number) in str(error):
        return os.strerror(number), None
    error = error.__cause__ or error.__context__
  return None
