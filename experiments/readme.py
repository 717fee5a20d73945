"""The results in README.md: a row for each that has been run.

python -m experiments.readme [--write]
"""

import pathlib
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from experiments import table
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
  tables = [(name, table.load(name, root)) for name in table.names(root)]
  # A study of our own has no number of the paper's.
  tables.sort(key=lambda item: not _is_the_papers(item[1]))
  lines, missing = [HEAD, ('---',) * len(HEAD)], []
  for name, definition in tables:
    rows = list(_rows(definition, table.records(name, root)))
    link = f'[{definition.title}](experiments/{name}/table.md)'
    if rows:
      heading = next(iter(definition.metrics.values()))
      lines += [(f'**{link}: {heading}**', *[''] * 4), *rows]
    elif _is_the_papers(definition):
      missing.append(link)
  text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  parts = [text, LEGEND]
  if missing:
    parts.append('\n'.join(['Not run yet:', '', *(f'- {m}' for m in missing)]))
  return '\n\n'.join(parts) + '\n'


def replaced(text: str, root: pathlib.Path = table.FOLDER) -> str:
  """A text with the results of now between its two marks.

  Raises:
    UserError: the marks are not there.
  """
  head, begin, rest = text.partition(BEGIN)
  old, end, tail = rest.partition(END)
  del old
  if not begin or not end:
    raise UserError(
      f'README.md: no lines {BEGIN.strip()} and {END.strip()}; put them where '
      f'the results belong'
    )
  return f'{head}{BEGIN}\n{markdown(root)}\n{END}{tail}'


def _is_the_papers(definition: table.Table) -> bool:
  """Whether the paper prints numbers of any row."""
  return any(row.paper for row in definition.rows)


def _rows(
  definition: table.Table, records: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, ...]]:
  """The cells of each row with records; of several settings, each."""
  metric = next(iter(definition.metrics))
  for row in definition.rows:
    settings = {}
    for record in records:
      if record['row'] == row.name:
        key = tuple(
          record[name] for name in ('protocol', 'data', 'steps', 'parameters')
        )
        settings.setdefault(key, []).append(record)
    for alike in settings.values():
      whole = [record for record in alike if record['diverged_at'] is None]
      values = [record['metrics'][metric] for record in whole]
      yield (
        ' '.join([row.label, *_marks(alike[0])]),
        f'{alike[0]["parameters"]:,}',
        _value(values),
        row.paper.get(metric, ''),
        f'{len(whole)}' + f' of {len(alike)}' * (len(whole) < len(alike)),
      )


def _marks(record: dict[str, Any]) -> Iterator[str]:
  if record['protocol'] != 'paper':
    yield OTHER_PROTOCOL
  if record['data'] != 'canonical':
    yield OTHER_DATA


def _value(values: Sequence[float]) -> str:
  if not values:
    return 'diverged'
  mean = f'{statistics.fmean(values):.3f}'
  return (
    mean if len(values) == 1 else f'{mean} ± {statistics.stdev(values):.3f}'
  )


def main(argv: Sequence[str]) -> None:
  """Prints the results, or writes them."""
  del argv  # flags alone
  print(markdown())
  if _WRITE.value:
    text = replaced(README.read_text(encoding='utf-8'))
    README.write_text(text, encoding='utf-8')


if __name__ == '__main__':
  command_line.launch(main)
