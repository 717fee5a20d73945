"""The results in README.md: a row for each that has been run.

python -m experiments.readme [--write]
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from experiments import cells, render, table
from hyperjax import command_line
from hyperjax.errors import UserError

_WRITE = flags.DEFINE_bool('write', False, 'Writes them into README.md, too.')

BEGIN, END = '<!-- results -->\n', '<!-- /results -->\n'
README = table.FOLDER.parent / 'README.md'
HEAD = ('', 'parameters', 'ours', "paper's", 'seeds')
OTHER_PROTOCOL, OTHER_DATA = '*', '†'
LEGEND = (
  'Mean over seeds ± standard deviation. '
  f"{OTHER_PROTOCOL} not the paper's protocol, {OTHER_DATA} other data: the "
  'table behind the link says which.'
)


def markdown(root: pathlib.Path = table.FOLDER) -> str:
  """All results in one table, the paper's tables first.

  A table shows its first metric alone. Of the paper's tables that have no
  record yet the titles follow.
  """
  lines, missing = [HEAD, ('---',) * len(HEAD)], []
  known = table.names(root)
  for name in (each for each in render.names(root) if each in known):
    view = cells.view(name, root)
    link = f'[{view.definition.title}](experiments/{name}/table.md)'
    if view.run:
      metric, heading = next(iter(view.definition.metrics.items()))
      lines.append((f'**{link}: {heading}**', *[''] * 4))
      lines += [_line(view, line, metric) for line in view.own if line.records]
    elif view.definition.paper:
      missing.append(link)
  text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  parts = [text, LEGEND]
  if missing:
    parts.append('\n'.join(['Not run yet:', '', *(f'- {m}' for m in missing)]))
  return '\n\n'.join(parts) + '\n'


def _line(view, line, metric):
  """The cells of a row that has been run."""
  title = view.definition.metrics[metric]
  found = dict(zip(view.columns, line.cells, strict=True))
  first = line.records[0]
  marks = [OTHER_PROTOCOL] * (first['protocol'] != 'paper')
  marks += [OTHER_DATA] * (first['data'] != 'canonical')
  return (
    ' '.join([line.label, *marks]),
    found[cells.Column('parameters', 'ours')],
    found[cells.Column(title, 'ours')],
    line.row.paper.get(metric, ''),
    found[cells.Column('seeds')],
  )


def replaced(text: str, root: pathlib.Path = table.FOLDER) -> str:
  """A text with the results of now between its two marks.

  Raises:
    UserError: the marks are not there.
  """
  head, begin, rest = text.partition(BEGIN)
  _, end, tail = rest.partition(END)
  if not begin or not end:
    raise UserError(
      f'README.md: no lines {BEGIN.strip()} and {END.strip()}; put them where '
      f'the results belong'
    )
  return f'{head}{BEGIN}\n{markdown(root)}\n{END}{tail}'


def main(argv: Sequence[str]) -> None:
  """Prints the results, or writes them."""
  del argv  # flags alone
  print(markdown())
  if _WRITE.value:
    text = replaced(README.read_text(encoding='utf-8'))
    README.write_text(text, encoding='utf-8')


if __name__ == '__main__':
  command_line.launch(main)
