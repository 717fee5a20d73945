"""What a table is made of, and the records of its runs.

Beside `FIELDS`, a record may have `search` (of a row that searches) and `curve`
(the objective on quick validation, by step; older ones have none).
"""

import dataclasses
import json
import pathlib
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from hyperjax import config as configs
from hyperjax import parts
from hyperjax import workdir as files
from hyperjax.errors import UserError, did_you_mean

FOLDER = pathlib.Path(__file__).parent
FIELDS = (
  'table',
  'row',
  'seed',
  'metrics',
  'parameters',
  'steps',
  'protocol',
  'data',
  'command',
  'git',
  'versions',
  'hardware',
  'seconds',
  # Beside what every record has, what these tables need:
  'budget',
  'config',
  'diverged_at',
  'num_seeds',
)


@dataclasses.dataclass(frozen=True)
class Row:
  """A row that this project can fill.

  Attributes:
    name: one word, for `--row`.
    label: as the table says it.
    config: FILE.py:ROW of a config.
    overrides: config fields that this row changes, by dotted name.
    search: one field and the numbers to choose from, on validation data with
      the first seed.
    paper: what the paper prints, by metric.
    paper_parameters: its count, as printed.
    num_seeds: how many the row is worth.
  """

  name: str
  label: str
  config: str
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  search: tuple[str, Sequence[float]] | None = None
  paper: Mapping[str, str] = dataclasses.field(default_factory=dict)
  paper_parameters: str = ''
  num_seeds: int = 1


@dataclasses.dataclass(frozen=True)
class Reference:
  """A row of the paper's table that it quotes from others.

  Attributes:
    label: as the table says it.
    paper: what the paper prints, by metric.
    paper_parameters: its count, as printed.
  """

  label: str
  paper: Mapping[str, str]
  paper_parameters: str = ''


@dataclasses.dataclass(frozen=True)
class Table:
  """A table, as its `rows.py` defines it under the name TABLE.

  Attributes:
    title: of the table.
    metrics: to report, and the heading of each.
    objective: the metric that chooses between the values of a search.
    rows: of this project.
    data: the name that the canonical data has in a result.
    paper: which of the paper's tables; empty for a study of our own.
    protocol: 'paper', or what is different.
    references: rows that the paper quotes.
    notes: what the reader should know, below the table.
  """

  title: str
  metrics: Mapping[str, str]
  objective: str
  rows: Sequence[Row]
  data: str
  paper: str = ''
  protocol: str = 'paper'
  references: Sequence[Reference] = ()
  notes: str = ''

  def row(self, name: str) -> Row:
    """The row of that name."""
    rows = {row.name: row for row in self.rows}
    if name not in rows:
      raise UserError(f"--row: no row '{name}'{did_you_mean(name, rows)}")
    return rows[name]


def names(root: pathlib.Path = FOLDER) -> list[str]:
  """The tables that there are."""
  return sorted(path.parent.name for path in root.glob('*/rows.py'))


def load(name: str, root: pathlib.Path = FOLDER) -> Table:
  """The table of a folder."""
  known = names(root)
  if name not in known:
    raise UserError(f"--table: no table '{name}'{did_you_mean(name, known)}")
  return runpy.run_path(str(root / name / 'rows.py'))['TABLE']


def config_of(row: Row, budget: float = 1.0, data_dir: str = '') -> ConfigDict:
  """The config of a row: its file, its overrides, its share of the steps."""
  config = configs.load(str(FOLDER.parent / row.config))
  fields = {**row.overrides, **({'data.dir': data_dir} if data_dir else {})}
  override(config, fields)
  configs.scale_steps(config, budget)
  return config


# By row: finding the size for a budget takes seconds, and a report asks often.
_COUNTS: dict[str, int] = {}


def parameters(row: Row) -> int:
  """How many parameters a row's network has."""
  key = f'{row.config} {sorted(row.overrides.items())}'
  if key not in _COUNTS:
    _COUNTS[key] = parts.parameters(config_of(row))
  return _COUNTS[key]


def override(config: ConfigDict, fields: Mapping[str, Any]) -> None:
  """Sets fields by their dotted names; each must exist."""
  known = dict(configs.flatten(config))
  for name, value in fields.items():
    if name not in known:
      raise UserError(f'no field config.{name}')
    try:
      config.update_from_flattened_dict({name: value})
    except TypeError as error:
      raise UserError(f'config.{name}: {error}') from error


def records(name: str, root: pathlib.Path = FOLDER) -> list[dict[str, Any]]:
  """All records of a table, in the order of their files' names.

  Raises:
    UserError: a record is damaged.
  """
  paths = sorted((root / name / 'results').glob('*.json'))
  return [files.read_json(path, *FIELDS) for path in paths]


# What may differ between two runs of one row.
FREE = (
  'seed',
  'num_seeds',
  'sample.',
  'data.dir',
  'train.log_every',
  'train.stall_seconds',
  'mesh.',
  'unroll.',
)


def differences(
  record: Mapping[str, Any], config: ConfigDict, row: Row
) -> list[str]:
  """Where a record's config is not the row's, as it is defined now."""
  origin = f'the record of {row.name}, seed {record["seed"]},'
  stored = configs.restore(record['config'], origin)
  old = dict(configs.flatten(files.config_json(stored)))
  new = dict(configs.flatten(files.config_json(config)))
  free = (*FREE, row.search[0]) if row.search else FREE
  return [
    f'{field} (was {old.get(field)!r}, is {new.get(field)!r})'
    for field in sorted(old.keys() | new.keys())
    if old.get(field) != new.get(field) and not field.startswith(free)
  ]


def write_record(
  record: Mapping[str, Any], root: pathlib.Path = FOLDER
) -> pathlib.Path:
  """Writes a record under its table's results; returns its path."""
  missing = [field for field in FIELDS if field not in record]
  if missing:
    raise ValueError(f'the record has no {", ".join(missing)}')
  path = record_path(record, root)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_json(path, json.loads(json.dumps(record)))
  return path


def record_path(
  record: Mapping[str, Any], root: pathlib.Path = FOLDER
) -> pathlib.Path:
  """Where a record stands."""
  suffix = '' if record['budget'] == 1 else f'-budget-{record["budget"]:g}'
  name = f'{record["row"]}-seed-{record["seed"]}{suffix}.json'
  return root / record['table'] / 'results' / name
