"""Tables as Markdown: our numbers beside the paper's."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import table
from hyperjax import config as configs
from hyperjax import parts


def markdown(name: str, root: pathlib.Path = table.FOLDER) -> str:
  """A table in Markdown, from its rows and records.

  Ours is the mean over seeds, with the standard deviation (S - 1 in the
  denominator) where there are several. Runs below the paper's protocol, or on
  other data, are marked and said to be so below the table.
  """
  definition = table.load(name, root)
  notes = _Notes()
  head = ['', 'parameters', 'paper']
  for title in definition.metrics.values():
    head += [title, 'paper']
  head += ['seeds', 'steps', 'hours', 'hardware']
  lines = []
  groups = _alike(table.records(name, root))
  for row in definition.rows:
    settings = {
      key: value for key, value in groups.items() if key[0] == row.name
    }
    for records in settings.values() or [[]]:
      lines.append(_own(definition, row, records, notes))
  lines += [_quoted(definition, row) for row in definition.references]
  # A study that the paper does not have has no column of the paper's.
  used = [
    place
    for place, title in enumerate(head)
    if title != 'paper' or any(line[place] != '-' for line in lines)
  ]
  text = '\n'.join(
    f'| {" | ".join(line[place] for place in used)} |'
    for line in [head, ['---'] * len(head), *lines]
  )
  parts = [f'# {definition.title}', text, *notes.lines()]
  if definition.notes:
    parts.append(definition.notes)
  return '\n\n'.join(parts) + '\n'


def write(name: str, root: pathlib.Path = table.FOLDER) -> str:
  """Writes the `table.md` of a table; returns its text."""
  text = markdown(name, root)
  (root / name / 'table.md').write_text(text, encoding='utf-8')
  return text


class _Notes:
  """Footnotes, each text once."""

  def __init__(self):
    self._texts: list[str] = []

  def mark(self, text: str) -> str:
    """The mark that points to a text."""
    if text not in self._texts:
      self._texts.append(text)
    return f'[{self._texts.index(text) + 1}]'

  def lines(self) -> list[str]:
    """The footnotes, each behind its mark."""
    return [f'[{k}] {text}' for k, text in enumerate(self._texts, 1)]


def _alike(records) -> dict[tuple, list[dict[str, Any]]]:
  """Records that may be averaged: of one row, protocol and data."""
  names = 'row', 'protocol', 'data', 'steps', 'parameters'
  groups = {}
  for record in records:
    key = tuple(record[name] for name in names)
    groups.setdefault(key, []).append(record)
  return groups


def _own(definition, row, records: Sequence[Mapping[str, Any]], notes):
  """The cells of a row of ours."""
  cells = [row.label]
  count = (
    records[0]['parameters']
    if records
    else parts.parameters(table.config_of(row))
  )
  cells += [f'{count:,}', row.paper_parameters or '-']
  whole = [record for record in records if record['diverged_at'] is None]
  for metric in definition.metrics:
    values = [r['metrics'][metric] for r in whole if metric in r['metrics']]
    missing = 'diverged' if records and not whole else 'not run'
    cells.append(_value(values) if values else missing)
    cells.append(row.paper.get(metric, '-'))
  if not records:
    return [*cells, *['-'] * 4]
  marks = [notes.mark(text) for text in _remarks(records)]
  cells[0] = ' '.join([row.label, *marks])
  seconds = sum(record['seconds'] / record['num_seeds'] for record in records)
  hours = seconds / 3600
  hardware = ', '.join(sorted({record['hardware'] for record in records}))
  return [
    *cells,
    f'{len(whole)}' + f' of {len(records)}' * (len(whole) < len(records)),
    f'{records[0]["steps"]:,}',
    f'{hours:,.0f}' if hours >= 10 else f'{hours:.2g}',
    hardware,
  ]


def _remarks(records):
  """What keeps records from being the paper's, in words."""
  if records[0]['protocol'] != 'paper':
    yield f"Not the paper's protocol: {records[0]['protocol']}."
  if records[0]['data'] != 'canonical':
    yield f'Other data: {records[0]["data"]}.'
  if 'search' in records[0]:
    yield _choice(records[0])
  for record in records:
    if record['diverged_at'] is not None:
      yield (
        f'Seed {record["seed"]} of {record["row"]} diverged at step '
        f'{record["diverged_at"]:,} and is left out.'
      )


def _choice(record):
  """How the value of a searched field was chosen, in words."""
  field = record['search']['field']
  chosen = dict(configs.flatten(record['config']))[field]
  found = ', '.join(
    f'{value}: {"diverged" if bits is None else f"{bits:.3f}"}'
    for value, bits in record['search']['valid'].items()
  )
  return f'{field} {chosen:g}, by validation with seed 0 ({found}).'


def _quoted(definition, row):
  """The cells of a row that the paper quotes."""
  cells = [row.label, '-', row.paper_parameters or '-']
  for metric in definition.metrics:
    cells += ['-', row.paper.get(metric, '-')]
  return [*cells, *['-'] * 4]


def _value(values):
  mean = statistics.fmean(values)
  if len(values) == 1:
    return f'{mean:.3f}'
  return f'{mean:.3f} ± {statistics.stdev(values):.3f}'
