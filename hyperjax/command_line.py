"""What all commands share: flags, log lines, and errors in one line."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from hyperjax import config as configs
from hyperjax.errors import DiskError, LostHostError, UserError
from hyperjax.training import hosts
from hyperjax.training.loop import SignalledError


def parse(argv: Sequence[str]) -> list[str]:
  """Parses flags; a wrong one, or a word that is none, is a `UserError`."""
  try:
    rest = flags.FLAGS(argv)
  except (flags.Error, RecursionError, MemoryError) as error:
    # The last two are of a value with many brackets.
    raise UserError(f'flags: {error}'.split('\n')[0]) from error
  if rest[1:]:
    raise UserError(f"'{rest[1]}' is not a flag; flags begin with --")
  return rest


def parse_with_config(argv: Sequence[str]) -> list[str]:
  """Parses flags with absl, with a flag for each field of the config.

  `config_flags.DEFINE_config_file` would do for a good command line, but
  answers a missing file, an unknown row or an unknown field with a traceback;
  so the file is loaded here, and its fields become flags.
  """
  spec, rest = configs.take_spec(argv)
  if spec is None:
    flags.DEFINE_string('config', None, 'Config: FILE.py or FILE.py:ROW.')
  else:
    # Tasks, models and cells of the user's may stand beside their config.
    sys.path.append(os.path.dirname(os.path.abspath(spec.split(':')[0])))
    config = configs.load(spec)
    configs.check_overrides(config, rest)
  try:
    if spec is not None:
      config_flags.DEFINE_config_dict('config', config, sys_argv=rest)
  except flags.Error as error:
    raise UserError(str(error).split('\n')[0]) from error
  return parse(rest)


def launch(
  main: Callable[[Sequence[str]], None],
  parse: Callable[[Sequence[str]], list[str]] = parse,
) -> None:
  """Runs a command: a `UserError` is one line and its exit code."""
  # Orbax logs what it then raises, with all its frames.
  absl_logging.set_verbosity(absl_logging.FATAL)
  absl_logging.get_absl_handler().setFormatter(logging.Formatter('%(message)s'))
  logging.getLogger('hyperjax').setLevel(logging.INFO)
  sys.stdout.reconfigure(errors='replace')  # samples hold any character
  code, at_once = 0, False
  try:
    app.run(main, flags_parser=parse)
  except SystemExit as error:  # app.run always ends so
    code = error.code or 0
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    code = error.exit_code
    at_once = isinstance(error, DiskError)  # orbax may wait for what failed
  except BrokenPipeError:  # `... | head` has read enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  except KeyboardInterrupt:
    code = 128 + signal.SIGINT
  except SignalledError as error:
    code = 128 + error.signum
    at_once = error.again  # and not when a save under way has ended
    if at_once:
      print(
        'stopped at once, without saving; the same command goes on from the '
        'newest checkpoint',
        file=sys.stderr,
      )
  if at_once:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  hosts.leave(code, together=code != LostHostError.exit_code)
  sys.exit(code)
