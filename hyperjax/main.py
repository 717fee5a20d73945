"""The command line; README.md shows its use."""

import json
import os
import pathlib
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from hyperjax import command_line, run
from hyperjax import config as configs
from hyperjax.errors import UserError
from hyperjax.training import hosts

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'describe', 'evaluate', 'sample'], 'What to do.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of process 0, where no launcher tells it.'
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'How many processes train together.'
)
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which one this is.')
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Finds the other processes on a slice of TPUs.'
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
  except flags.Error as error:
    raise UserError(str(error).split('\n')[0]) from error
  return command_line.parse(rest)


def main(argv: Sequence[str]) -> None:
  """Does what `--mode` says."""
  del argv  # flags alone
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
    hosts.join(
      _COORDINATOR.value,
      _NUM_PROCESSES.value,
      _PROCESS_ID.value,
      detect=_DISTRIBUTED.value,
    )
    run.train(config, workdir)
    if hosts.is_primary():
      print(run.summary(workdir))
  elif _MODE.value == 'evaluate':
    print(json.dumps(run.evaluate(config, workdir), indent=2))
  else:
    print(run.sample(config, workdir))


def cli() -> None:
  """Entry point."""
  command_line.launch(main, parse)


if __name__ == '__main__':
  cli()
