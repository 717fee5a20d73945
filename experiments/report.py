"""Prints tables as Markdown: our numbers beside the paper's.

python -m experiments.report [--table=ptb] [--write]
"""

from collections.abc import Sequence

from absl import flags

from experiments import render, table
from hyperjax import command_line

_TABLE = flags.DEFINE_string('table', None, 'A table; none means all.')
_WRITE = flags.DEFINE_bool('write', False, 'Writes the table.md of each, too.')


def main(argv: Sequence[str]) -> None:
  """Prints one table, or all."""
  del argv  # flags alone
  for name in [_TABLE.value] if _TABLE.value else table.names():
    print(render.write(name) if _WRITE.value else render.markdown(name))


if __name__ == '__main__':
  command_line.launch(main)
