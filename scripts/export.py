"""Writes a run's best model as a folder that needs neither run nor data.

PYTHONPATH=FOLDER_OF_YOUR_MODULES \
  python scripts/export.py --workdir=RUN --out=FOLDER [--seed=N]

Of several seeds the first is taken, without --seed. The variable is for runs
with a task, model or cell of your own. Look through config.json, result.json
and README.md before you publish them: they have the paths of your machine.
"""

from collections.abc import Sequence

from absl import flags

from hyperjax import command_line, model_folder
from hyperjax.errors import UserError

_WORKDIR = flags.DEFINE_string('workdir', '', 'Of a run.')
_OUT = flags.DEFINE_string('out', '', 'The folder to write; new or empty.')
_SEED = flags.DEFINE_integer('seed', None, "One of the run's seeds.")


def main(argv: Sequence[str]) -> None:
  """Writes the folder and prints its files, with their sizes in bytes."""
  del argv  # flags alone
  for name, value in (('workdir', _WORKDIR.value), ('out', _OUT.value)):
    if not value:
      raise UserError(f'--{name} is missing: give a folder')
  paths = model_folder.save(_WORKDIR.value, _OUT.value, _SEED.value)
  for path in paths:
    print(f'{path.stat().st_size:>13,}  {path}')
  print(f'{sum(path.stat().st_size for path in paths):>13,}  bytes')


if __name__ == '__main__':
  command_line.launch(main)
