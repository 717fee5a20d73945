"""What all commands share: flags, log lines, and errors in one line."""

import logging
import os
import sys
from collections.abc import Callable, Sequence

from absl import app, flags
from absl import logging as absl_logging

from hyperjax.errors import UserError
from hyperjax.training import hosts
from hyperjax.training.loop import SignalledError


def parse(argv: Sequence[str]) -> list[str]:
  """Parses flags; a wrong one, or a word that is none, is a `UserError`."""
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as error:
    raise UserError(str(error).split('\n')[0]) from error
  if rest[1:]:
    raise UserError(f"'{rest[1]}' is not a flag; flags begin with --")
  return rest


def launch(
  main: Callable[[Sequence[str]], None],
  parse: Callable[[Sequence[str]], list[str]] = parse,
) -> None:
  """Runs a command: a `UserError` is one line and its exit code."""
  absl_logging.set_verbosity(absl_logging.ERROR)
  absl_logging.get_absl_handler().setFormatter(logging.Formatter('%(message)s'))
  logging.getLogger('hyperjax').setLevel(logging.INFO)
  sys.stdout.reconfigure(errors='replace')  # samples hold any character
  code = 0
  try:
    app.run(main, flags_parser=parse)
  except SystemExit as error:  # app.run always ends so
    code = error.code or 0
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    code = error.exit_code
  except BrokenPipeError:  # `... | head` has read enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  except SignalledError as error:
    code = 128 + error.signum
  hosts.leave(code, together=code == 0 or code > 128)
  sys.exit(code)
