"""What a table shows: each cell, made once for Markdown and for HTML."""

import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import table
from hyperjax import config as configs

# As the paper prints them; three where it prints none.
DECIMALS = {'error_percent': 2, 'nats_per_sequence': 1, 'bleu': 2}
EMPTY = '-'
Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
  """A column.

  Attributes:
    title: what its numbers are.
    source: 'ours', 'paper', or '' for what only a run has.
  """

  title: str
  source: str = ''

  @property
  def heading(self) -> str:
    """The title; what the paper prints stands behind ours as 'paper'."""
    return 'paper' if self.source == 'paper' else self.title


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of a table.

  Attributes:
    label: of the row.
    status: 'quoted' by the paper, 'not run', 'diverged' in all seeds,
      'protocol' if it was run by the paper's, or 'marked' if it was not.
    cells: one text for each column.
    marks: numbers of footnotes.
    row: of ours, if it is one.
    records: of the row, by one protocol and on one set of data.
  """

  label: str
  status: str
  cells: tuple[str, ...]
  marks: tuple[int, ...] = ()
  row: table.Row | None = None
  records: tuple[Record, ...] = ()


@dataclasses.dataclass(frozen=True)
class View:
  """A table with its records, ready to be shown.

  Attributes:
    name: of the folder.
    definition: of the table.
    columns: behind the label; those without a single cell are left out.
    lines: first those of our rows, then those that the paper quotes.
    footnotes: the text of footnote k stands at k - 1.
  """

  name: str
  definition: table.Table
  columns: tuple[Column, ...]
  lines: tuple[Line, ...]
  footnotes: tuple[str, ...]

  @property
  def own(self) -> list[Line]:
    """The lines of our rows."""
    return [line for line in self.lines if line.row]

  @property
  def run(self) -> set[str]:
    """The names of our rows that have records."""
    return {line.row.name for line in self.own if line.records}


def view(name: str, root: pathlib.Path = table.FOLDER) -> View:
  """The cells of a table, from its rows and records.

  Ours is the mean over seeds, with the standard deviation (S - 1 in the
  denominator) where there are several. Runs below the paper's protocol, or on
  other data, are marked, and averaged with their like alone.
  """
  definition = table.load(name, root)
  columns = [Column('parameters', 'ours'), Column('parameters', 'paper')]
  for title in definition.metrics.values():
    columns += [Column(title, 'ours'), Column(title, 'paper')]
  names = 'seeds', 'steps', 'hours', 'hardware', 'data', 'revision'
  columns += [Column(name) for name in names]
  footnotes: list[str] = []
  groups = _alike(table.records(name, root))
  lines = []
  for row in definition.rows:
    settings = [group for key, group in groups.items() if key[0] == row.name]
    settings.sort(key=_standing, reverse=True)
    for records in settings or [[]]:
      lines.append(_own(definition, row, records, footnotes))
  lines += [_quoted(definition, row) for row in definition.references]
  # A study that the paper does not have has no column of the paper's.
  used = [
    place
    for place, column in enumerate(columns)
    if column.source != 'paper'
    or any(line.cells[place] != EMPTY for line in lines)
  ]
  return View(
    name,
    definition,
    tuple(columns[place] for place in used),
    tuple(
      dataclasses.replace(line, cells=tuple(line.cells[k] for k in used))
      for line in lines
    ),
    tuple(footnotes),
  )


def number(metric: str, value: float) -> str:
  """A metric in the paper's units, with as many decimals as it prints."""
  return f'{value:,.{DECIMALS.get(metric.split("/")[-1], 3)}f}'


def hours(seconds: float) -> str:
  """A time of a run."""
  value = seconds / 3600
  return f'{value:,.0f}' if value >= 10 else f'{value:.2g}'


def run_command(name: str, row: table.Row) -> str:
  """What fills a row."""
  return f'python -m experiments.run --table={name} --row={row.name}'


def commands(line: Line) -> list[str]:
  """The commands by which a line's records were made, each once."""
  return list(dict.fromkeys(record['command'] for record in line.records))


def facts(view: View, line: Line) -> list[tuple[str, list[str]]]:
  """Where a line of ours comes from: names, and the texts of each."""
  row, records = line.row, line.records
  changed = [f'{field} = {value}' for field, value in row.overrides.items()]
  if row.search:
    field, values = row.search
    changed.append(
      f'{field}: chosen among {", ".join(f"{v:g}" for v in values)}'
    )
  found = [('config', [row.config]), ('overrides', changed)]
  if not records:
    found += [
      ('seeds wanted', [f'{row.num_seeds}']),
      ('command to run it', [run_command(view.name, row)]),
    ]
  else:
    versions = [
      ', '.join(f'{name} {version}' for name, version in r['versions'].items())
      for r in records
    ]
    found += [
      ('seeds', [_seed_in_words(view.definition, r) for r in records]),
      ('protocol', [records[0]['protocol']]),
      ('data', [_data(view.definition, records)]),
      ('evaluation', [r['evaluation'] for r in records if r.get('evaluation')]),
      ('command', commands(line)),
      ('revision', [r['git'] for r in records]),
      ('hardware', [r['hardware'] for r in records]),
      ('versions', versions),
    ]
  return [(name, list(dict.fromkeys(texts))) for name, texts in found if texts]


def _alike(records) -> dict[tuple, list[Record]]:
  """Records that may be averaged: of one row, protocol and data."""
  names = 'row', 'protocol', 'data', 'steps', 'parameters'
  groups = {}
  for record in records:
    key = tuple(record[name] for name in names)
    groups.setdefault(key, []).append(record)
  return groups


def _standing(records):
  """Whether records are the paper's; then, how long they were trained."""
  return _is_the_papers(records[0]), records[0]['steps']


def _is_the_papers(record):
  return record['protocol'] == 'paper' and record['data'] == 'canonical'


def _own(definition, row, records: Sequence[Record], footnotes):
  """A line of ours."""
  count = records[0]['parameters'] if records else table.parameters(row)
  cells = [f'{count:,}', row.paper_parameters or EMPTY]
  whole = [record for record in records if record['diverged_at'] is None]
  missing = 'diverged' if records and not whole else 'not run'
  for metric in definition.metrics:
    values = [r['metrics'][metric] for r in whole if metric in r['metrics']]
    cells.append(_mean(metric, values) if values else missing)
    cells.append(row.paper.get(metric, EMPTY))
  if not records:
    cells += [EMPTY] * 6
    return Line(row.label, 'not run', tuple(cells), row=row)
  marks = []
  for text in _remarks(records):
    if text not in footnotes:
      footnotes.append(text)
    marks.append(footnotes.index(text) + 1)
  wanted = max(row.num_seeds, len(records))
  seconds = sum(record['seconds'] / record['num_seeds'] for record in records)
  cells += [
    f'{len(whole)}' + f' of {wanted}' * (len(whole) < wanted),
    f'{records[0]["steps"]:,}',
    hours(seconds),
    '; '.join(sorted({record['hardware'] for record in records})),
    _data(definition, records),
    ', '.join(sorted({f'{record["git"]}' for record in records})),
  ]
  if not whole:
    status = 'diverged'
  else:
    status = 'protocol' if _is_the_papers(records[0]) else 'marked'
  return Line(
    row.label, status, tuple(cells), tuple(marks), row, tuple(records)
  )


def _data(definition, records):
  """What the records were trained on."""
  data = records[0]['data']
  return definition.data if data == 'canonical' else data


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
  """A line that the paper quotes."""
  cells = [EMPTY, row.paper_parameters or EMPTY]
  for metric in definition.metrics:
    cells += [EMPTY, row.paper.get(metric, EMPTY)]
  return Line(row.label, 'quoted', (*cells, *[EMPTY] * 6))


def _mean(metric, values):
  text = number(metric, statistics.fmean(values))
  if len(values) == 1:
    return text
  return f'{text} ± {number(metric, statistics.stdev(values))}'


def _seed_in_words(definition, record):
  """The numbers of one record."""
  if record['diverged_at'] is not None:
    numbers = [f'diverged at step {record["diverged_at"]:,}']
  else:
    numbers = [
      f'{title} {number(metric, record["metrics"][metric])}'
      for metric, title in definition.metrics.items()
      if metric in record['metrics']
    ]
  if record.get('best_step') is not None:
    numbers.append(f'best step {record["best_step"]:,}')
  spent = hours(record['seconds'] / record['num_seeds'])
  return (
    f'seed {record["seed"]}: {", ".join(numbers)} of {record["steps"]:,}, '
    f'{spent} hours'
  )
