"""The command line; README.md shows its use."""

import json
import pathlib
from collections.abc import Sequence

from absl import flags

from hyperjax import command_line, parts, run
from hyperjax import config as configs
from hyperjax.compiling import report
from hyperjax.errors import UserError
from hyperjax.training import hosts

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'describe', 'compile', 'evaluate', 'sample'],
  'What to do.',
)
_TARGET = flags.DEFINE_string(
  'target', None, 'What to compile for: h100, v5e, v5e:4x4 and so on.'
)
_JSON = flags.DEFINE_string('json', '', 'File for what compiling found.')
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


def main(argv: Sequence[str]) -> None:
  """Does what `--mode` says."""
  del argv  # flags alone
  config = flags.FLAGS['config'].value
  if config is None:
    raise UserError('--config is missing: give FILE.py or FILE.py:ROW')
  configs.validate(config)
  if _MODE.value == 'describe':
    print(*[parts.describe(config), *parts.describe_loops(config)], sep='\n')
    return
  if _MODE.value == 'compile':
    if not _TARGET.value:
      raise UserError('--target is missing: give h100, v5e, v5e:4x4 or others')
    print(report.run(config, _TARGET.value, _JSON.value))
    return
  if not _WORKDIR.value:
    raise UserError('--workdir is missing: give the folder of the run')
  try:
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
  except RuntimeError as error:  # no such ~user
    raise UserError(f'--workdir {_WORKDIR.value}: {error}') from error
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
  command_line.launch(main, command_line.parse_with_config)


if __name__ == '__main__':
  cli()
