"""The command line; README.md shows its use."""

import json
import logging
import os
import pathlib
import sys
from collections.abc import Sequence

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from hyperjax import config as configs
from hyperjax import run
from hyperjax.errors import UserError
from hyperjax.training.loop import SignalledError

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'describe', 'evaluate', 'sample'], 'What to do.'
)


def parse(argv: Sequence[str]) -> list[str]:
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
    return flags.FLAGS(rest)
  except flags.Error as error:
    raise UserError(str(error).split('\n')[0]) from error


def main(argv: Sequence[str]) -> None:
  """Does what `--mode` says."""
  if argv[1:]:
    raise UserError(f"'{argv[1]}' is not a flag; flags begin with --")
  config = flags.FLAGS['config'].value
  if config is None:
    raise UserError('--config is missing: give FILE.py or FILE.py:ROW')
  configs.validate(config)
  if _MODE.value == 'describe':
    print(run.describe(config))
    return
  if not _WORKDIR.value:
    raise UserError('--workdir is missing: give the folder of the run')
  workdir = pathlib.Path(_WORKDIR.value).expanduser()
  if _MODE.value == 'train':
    run.train(config, workdir)
    print(run.summary(workdir))
  elif _MODE.value == 'evaluate':
    print(json.dumps(run.evaluate(config, workdir), indent=2))
  else:
    print(run.sample(config, workdir))


def cli() -> None:
  """Entry point: a `UserError` is one line and exit code 2."""
  absl_logging.set_verbosity(absl_logging.ERROR)
  absl_logging.get_absl_handler().setFormatter(logging.Formatter('%(message)s'))
  logging.getLogger('hyperjax').setLevel(logging.INFO)
  sys.stdout.reconfigure(errors='replace')  # samples hold any character
  try:
    app.run(main, flags_parser=parse)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
  except SignalledError as error:
    sys.exit(128 + error.signum)


if __name__ == '__main__':
  cli()
