"""Prints tables and figures as Markdown: our numbers beside the paper's.

python -m experiments.report [--table=ptb] [--write] [--html=FILE]
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from experiments import page, render
from hyperjax import command_line

_TABLE = flags.DEFINE_string('table', None, 'A folder; none means all.')
_WRITE = flags.DEFINE_bool('write', False, "Writes each one's file, too.")
_HTML = flags.DEFINE_string('html', '', 'Writes one HTML page, too.')


def main(argv: Sequence[str]) -> None:
  """Prints one table or figure, or all."""
  del argv  # flags alone
  names = [_TABLE.value] if _TABLE.value else render.names()
  for name in names:
    print(render.write(name) if _WRITE.value else render.markdown(name))
  if _HTML.value:
    page.write(pathlib.Path(_HTML.value).expanduser(), names)


if __name__ == '__main__':
  command_line.launch(main)
