"""Errors that a user can mend: one line, which `main` prints as it is."""

import difflib
from collections.abc import Iterable

LONGEST = 2_000  # characters of a message


class UserError(Exception):
  """A bad value, file or state of a workdir.

  The message is one line: it names the field or the file, says what is wrong
  with it, and what to do.

  Args:
    message: may quote what a file holds or is called: what can not be printed
      in a line is escaped, and of more than `LONGEST` characters the middle is
      left out.

  Attributes:
    exit_code: of the command.
  """

  exit_code = 2

  def __init__(self, message: str):
    line = ''.join(
      char if char.isprintable() else repr(char)[1:-1] for char in message
    )
    if len(line) > LONGEST:
      line = f'{line[: LONGEST // 2]} [...] {line[-LONGEST // 2 :]}'
    super().__init__(line)


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
  name, known = str(name), sorted(known)  # of a file, it may be a number
  near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
  if near:
    return f"; did you mean '{near[0]}'?"
  return f'; known: {", ".join(known)}' if known else ''
