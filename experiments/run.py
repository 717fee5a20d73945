"""Produces the results of a table.

    python -m experiments.run --table=ptb [--row=ln_hyper_lstm] [--seeds=3] \
      [--budget=0.1]

A row that has its records is left alone, and a run that was stopped goes on.
"""

import pathlib
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments import render, table
from hyperjax import command_line, parts, run
from hyperjax import workdir as files
from hyperjax.errors import RunDivergedError, UserError
from hyperjax.training.progress import say
from hyperjax.training.writers import read_metrics

_TABLE = flags.DEFINE_string('table', None, 'A folder of experiments/.')
_ROW = flags.DEFINE_list('row', [], 'Rows; none means all.')
_SEEDS = flags.DEFINE_integer('seeds', 0, "How many; 0 is the row's number.")
_BUDGET = flags.DEFINE_float('budget', 1.0, 'Scales steps and schedule.')
_DATA_DIR = flags.DEFINE_string('data_dir', '', 'config.data.dir of the runs.')
_RUNS = flags.DEFINE_string('runs', 'runs/experiments', 'Where workdirs go.')

CURVE_POINTS = 60  # at most, of a record


class _SearchDivergedError(UserError):
  """Every value of a search diverged: of this row, not of the others."""


def fill(
  name: str,
  row: table.Row,
  runs: pathlib.Path,
  *,
  num_seeds: int = 0,
  budget: float = 1.0,
  data_dir: str = '',
  root: pathlib.Path = table.FOLDER,
) -> None:
  """Runs what a row lacks, and writes a record for each seed.

  Where the row has a search, seed 0 is trained with each of its values. The
  best on validation data is taken, its run is the record of seed 0, and the
  other seeds are trained with it. Seeds that lack run side by side. A seed
  that diverges has a record that says so.

  Args:
    name: of the table.
    row: of the table.
    runs: the folder of all workdirs.
    num_seeds: how many seeds; 0 means the row's own number.
    budget: scales the steps and the schedule.
    data_dir: `config.data.dir`; empty means the config's own.
    root: the folder of all tables.

  Raises:
    UserError: a record is of another definition of the row, or every value
      of the search diverges.
  """
  definition = table.load(name, root)
  config = parts.resolve(table.config_of(row, budget, data_dir))
  there = _records_there(name, row, config, budget, root)
  wanted = range(num_seeds or row.num_seeds)
  missing = [seed for seed in wanted if seed not in there]
  if not missing:
    say(f'{name}/{row.name}: its {len(wanted)} records are there')
    return
  folder = runs / name / f'{row.name}-{budget:g}'
  common = {
    'table': name,
    'row': row.name,
    'budget': budget,
    'protocol': _protocol(definition, budget),
  }
  if row.search:
    field, values = row.search
    if 0 in there:
      common['search'] = there[0]['search']
    else:
      found = _search(config, field, values, folder, definition.objective)
      common['search'] = {'field': field, 'valid': found}
    best = _best(common['search'], values)
    table.override(config, {field: best})
    folder = folder / f'{field}-{best:g}'
  for first, count in _consecutive(missing, apart=0 if row.search else None):
    config.seed, config.num_seeds = first, count
    workdir = folder / f'seeds-{first}-to-{first + count - 1}'
    for record in _train(definition, config, workdir):
      say(f'{table.write_record(common | record, root)}')


def _records_there(name, row, config, budget, root):
  """The row's records by seed; each must be of the row as it is now."""
  there = {}
  for record in table.records(name, root):
    if record['row'] != row.name or record['budget'] != budget:
      continue
    if changes := table.differences(record, config, row):
      raise UserError(
        f'{table.record_path(record, root)}: the row is defined otherwise now: '
        f'{", ".join(changes)}; delete the record, or take the change back'
      )
    there[record['seed']] = record
  return there


def _protocol(definition, budget):
  """What a run by this budget is, in words; 'paper' if it is the paper's."""
  if budget == 1:
    return definition.protocol
  share = f'{budget:g} of the steps'
  if definition.protocol == 'paper':
    return share
  return f'{definition.protocol}, {share}'


def _search(config, field, values, folder, objective):
  """The objective on validation data of each value, with seed 0."""
  found = {}
  for value in values:
    trial = config.copy_and_resolve_references()
    table.override(trial, {field: value})
    workdir = folder / f'{field}-{value:g}' / 'seeds-0-to-0'
    say(f'{workdir}')
    try:
      result = run.train(trial, workdir)
      found[f'{value:g}'] = result[f'valid/{objective}']
    except RunDivergedError as error:
      say(f'{error}')
      found[f'{value:g}'] = None
  return found


def _best(search, values):
  """The value with the least objective."""
  found = {v: search['valid'].get(f'{v:g}') for v in values}
  found = {v: x for v, x in found.items() if x is not None}
  if not found:
    raise _SearchDivergedError(
      f'config.{search["field"]}: every value of it diverges'
    )
  return min(found, key=found.get)


def _consecutive(
  seeds: Sequence[int], apart: int | None = None
) -> Iterator[tuple[int, int]]:
  """Runs of consecutive seeds, as (first, how many); one may stand apart."""
  first = None
  for seed in seeds:
    if first is None:
      first = seed
    if seed + 1 not in seeds or seed == apart:
      yield first, seed + 1 - first
      first = None


def _train(definition, config, workdir) -> Iterator[dict[str, Any]]:
  """Trains, and yields what the records say of each seed."""
  say(f'{workdir}')
  start = time.monotonic()
  try:
    result = run.train(config, workdir)
  except RunDivergedError as error:
    say(f'{error}')
    data = files.read_json(workdir / 'data.json', 'name')
    result = {
      'data': data['name'],
      'evaluation': None,
      'parameters': parts.parameters(config),
      **{f'seed_{s}/diverged_at': step for s, step in error.steps.items()},
    }
  environment = files.read_json(workdir / 'environment.json', 'git')
  stored = files.read_json(workdir / 'config.json')
  canonical = result['data'] == definition.data
  lines = read_metrics(workdir)
  for seed in range(config.seed, config.seed + config.num_seeds):
    prefix = f'seed_{seed}/'
    own = {
      name.removeprefix(prefix): value
      for name, value in result.items()
      if config.num_seeds == 1 or name.startswith(prefix)
    }
    yield {
      'seed': seed,
      'metrics': {
        name: value
        for name, value in own.items()
        if name.split('/')[0].startswith(('valid', 'test'))
      },
      'best_step': own.get('best_step'),
      'diverged_at': own.get('diverged_at'),
      'curve': _curve(
        lines,
        f'valid_quick/{definition.objective}',
        prefix if config.num_seeds > 1 else '',
      ),
      'parameters': result['parameters'],
      'steps': config.train.num_steps,
      'data': 'canonical' if canonical else result['data'],
      'evaluation': result['evaluation'],
      'command': shlex.join(['python', '-m', 'experiments.run', *sys.argv[1:]]),
      'config': stored,
      'git': environment['git'],
      'versions': environment['versions'],
      'hardware': f'{environment["devices"][0]}, {environment["machine"]}',
      'seconds': environment.get('seconds', time.monotonic() - start),
      'num_seeds': config.num_seeds,
    }


def _curve(lines, metric, prefix):
  """A seed's metric by step, thinned: `{metric: [[step, value], ...]}`."""
  name = f'{prefix}{metric}'
  points = [
    [line['step'], float(f'{line[name]:.6g}')]
    for line in lines
    if line.get(name) is not None
  ]
  if len(points) > CURVE_POINTS:
    kept = np.linspace(0, len(points) - 1, CURVE_POINTS).round().astype(int)
    points = [points[k] for k in kept]
  return {metric: points}


def main(argv: Sequence[str]) -> None:
  """Fills the rows of a table, and writes its `table.md`.

  A row whose search finds nothing ends the command only after the others.
  """
  del argv  # flags alone
  if not _TABLE.value:
    raise UserError(f'--table is missing: give {" or ".join(table.names())}')
  if not 0 < _BUDGET.value <= 1:
    raise UserError(f'--budget is {_BUDGET.value}; it must be above 0, up to 1')
  if _SEEDS.value < 0:
    raise UserError(f'--seeds is {_SEEDS.value}; it must be at least 0')
  definition = table.load(_TABLE.value)
  rows = [definition.row(name) for name in _ROW.value] or definition.rows
  text, failed = '', []
  for row in rows:
    try:
      fill(
        _TABLE.value,
        row,
        pathlib.Path(_RUNS.value).expanduser(),
        num_seeds=_SEEDS.value,
        budget=_BUDGET.value,
        data_dir=_DATA_DIR.value,
      )
    except _SearchDivergedError as error:
      failed.append(f'{row.name}: {error}')
    finally:
      text = render.write(_TABLE.value)
  print(text)
  if failed:
    raise UserError('; '.join(failed))


if __name__ == '__main__':
  command_line.launch(main)
