"""Errors that a user can mend: one line, which `main` prints as it is."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """A bad value, file or state of a workdir.

  The message is one line: it names the field or the file, says what is wrong
  with it, and what to do.

  Attributes:
    exit_code: of the command.
  """

  exit_code = 2


class LostHostError(UserError):
  """Another process of the run is gone; all start again by the same command.

  Its exit code is that of sysexits' EX_TEMPFAIL, so that a launcher may try
  again.
  """

  exit_code = 75


class DiskError(UserError):
  """A disk is full, broken, or can't be written; what was saved is whole.

  Its exit code is that of sysexits' EX_IOERR.
  """

  exit_code = 74


class RunDivergedError(UserError):
  """Training met a number that is not finite, with every seed.

  Attributes:
    steps: the first such step of each seed.
    checkpoint: the step of the newest checkpoint, before that; 0 for none.
  """

  def __init__(self, message: str, steps: dict[int, int], checkpoint: int):
    super().__init__(message)
    self.steps = steps
    self.checkpoint = checkpoint


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """Returns `; did you mean 'x'?` with the nearest known name, or all names."""
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
  if near:
    return f"; did you mean '{near[0]}'?"
  return f'; known: {", ".join(known)}' if known else ''
