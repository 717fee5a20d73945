"""The report of a sweep: `report.md` and its pictures."""

import json
import math
import pathlib
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna

from hyperjax import workdir as files
from hyperjax.errors import UserError
from hyperjax.pictures import sweeps as pictures
from hyperjax.training.writers import read_metrics

OUTCOMES = ('finished', 'pruned', 'failed')
MOST_ROWS = 100  # of a table
MOST_LINES = 1000  # of the parallel coordinates
MOST_CURVES = 200
# Fewer finished runs can not tell which field matters.
FEWEST_RUNS = 4
# The share of the runs that count as good. Of 60 made-up grids of 12 points it
# found the field that mattered in 57; with a tenth or a quarter, in 50.
TARGET_QUANTILE = 0.5

Record = Mapping[str, Any]


def write(sweepdir: pathlib.Path) -> str:
  """Writes `report.md` and its pictures into the folder of a sweep.

  Args:
    sweepdir: with `records/*.json`, `points/NNNN/metrics.jsonl` and perhaps
      `sweep.json`.

  Returns:
    The Markdown of the report.

  Raises:
    UserError: there is no sweep, or a file of it is damaged.
  """
  plan = _read_plan(sweepdir)
  records = _read_records(sweepdir)
  objective = _objective(records)
  ranked = sorted(
    (record for record in records if record['status'] == 'finished'),
    key=lambda record: record['value'],
  )
  parts = [f'# Sweep {sweepdir.resolve().name}', _header(plan, records)]
  if ranked:
    parts.append(_best(ranked[0]))
  if records:
    fields = _fields(records)
    parts.append(_table(records, ranked, fields))
    parts += _failures(records)
    parts += _pictures(sweepdir, objective, records, ranked, fields)
  else:
    parts.append('No run has ended yet.')
  text = '\n\n'.join(parts) + '\n'
  (sweepdir / 'report.md').write_text(text, encoding='utf-8')
  return text


def _read_plan(sweepdir):
  """`sweep.json`, or nothing where a sweep has none."""
  path = sweepdir / 'sweep.json'
  if path.exists():
    return files.read_json(path)
  if not (sweepdir / 'records').is_dir():
    raise UserError(
      f'--sweepdir: {sweepdir} holds no sweep; give the folder of one'
    )
  return {}


def _read_records(sweepdir) -> list[Record]:
  """All records, by point; one without a number for a value has failed."""
  records = []
  for path in sorted((sweepdir / 'records').glob('*.json')):
    record = files.read_json(path, 'point', 'overrides', 'status', 'objective')
    value = record.get('value')
    if not (
      type(record['point']) is int
      and isinstance(record['overrides'], dict)
      and record['status'] in OUTCOMES
      and isinstance(record['objective'], str)
      and (value is None or _is_number(value))
      and isinstance(record.get('metrics') or {}, dict)
    ):
      raise UserError(
        f'{path} is damaged: it is no record of a run; delete it, and its '
        f'point runs again'
      )
    if not _is_finite(value):
      record['value'] = None
      if record['status'] == 'finished':
        record['status'] = 'failed'
        record['error'] = record.get('error') or 'its value is not a number'
    records.append(record)
  return sorted(records, key=lambda record: record['point'])


def _is_number(value):
  return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value):
  return _is_number(value) and abs(value) <= sys.float_info.max


def _objective(records):
  names = sorted({record['objective'] for record in records})
  if len(names) > 1:
    raise UserError(
      f'--sweepdir: the records have different objectives: '
      f'{", ".join(names)}; keep each sweep in a folder of its own'
    )
  return names[0] if names else ''


def _header(plan, records):
  """What was swept, how far it has come, and on what."""
  counts = {
    outcome: sum(record['status'] == outcome for record in records)
    for outcome in OUTCOMES
  }
  words = [f'{count:,} {outcome}' for outcome, count in counts.items()]
  points = plan.get('points')  # none are listed of a space with ranges
  planned = len(points) if isinstance(points, list) else plan.get('trials') or 0
  if planned > len(records):
    words.append(f'{planned - len(records):,} not yet run')
  lines = [f'Runs: {", ".join(words)}.']
  if isinstance(plan.get('config'), str):
    common = shlex.join([plan['config'], *plan.get('flags', [])])
    lines.insert(0, f'Config: `{common}`')
  if records:
    lines.append(f'Objective: `{records[0]["objective"]}`, lower is better.')
    seconds = (record.get('seconds') for record in records)
    hours = sum(s for s in seconds if _is_finite(s)) / 3600
    lines.append(f'Time of all runs together: {hours:,.3g} hours.')
    hardware = sorted(
      {str(r['hardware']) for r in records if r.get('hardware')}
    )
    if hardware:
      lines.append(f'Hardware: {"; ".join(hardware)}.')
  return '\n'.join(f'- {line}' for line in lines)


def _best(record):
  overrides = [
    f'    {name} = {_text(value)}'
    for name, value in record['overrides'].items()
  ]
  value = f'`{record["objective"]}` {record["value"]:.5g}'
  parts = [
    '## The best',
    f'Point {record["point"]}: {value} with',
    '\n'.join(overrides),
  ]
  if record.get('command'):
    parts += ['Its command:', f'    {record["command"]}']
  return '\n\n'.join(parts)


def _text(value) -> str:
  return value if isinstance(value, str) else json.dumps(value)


def _fields(records) -> list[pictures.Axis]:
  """The fields whose values differ, with their values by record.

  Numbers stay numbers; all else, and a field that some runs leave to the
  config, becomes categories.
  """
  names = dict.fromkeys(name for r in records for name in r['overrides'])
  fields = []
  for name in names:
    values = [r['overrides'].get(name, 'not set') for r in records]
    if all(_is_finite(value) for value in values):
      field = pictures.Axis(name, np.array(values, float))
    else:
      texts = [_text(value) for value in values]
      labels = tuple(sorted(set(texts)))
      places = {text: place for place, text in enumerate(labels)}
      field = pictures.Axis(name, np.array([places[t] for t in texts]), labels)
    if len(np.unique(field.values)) > 1:
      fields.append(field)
  return fields


def _table(records, ranked, fields):
  """The runs that have a value, the best first; pruned ones at the end."""
  pruned = [
    record
    for record in records
    if record['status'] == 'pruned' and record['value'] is not None
  ]
  rows = ranked + sorted(pruned, key=lambda record: record['value'])
  if not rows:
    return '## Runs\n\nNo run has finished.'
  shown = rows[:MOST_ROWS]
  metrics = _metric_names(shown)
  names = [field.name for field in fields]
  head = ['point', *names, *metrics]
  head += ['best step', 'step', 'parameters', 'seconds']
  if pruned:
    head.append('status')
  lines = [head, ['---'] * len(head)]
  lines += [_row(record, names, metrics, bool(pruned)) for record in shown]
  parts = ['## Runs', _markdown(lines)]
  if len(rows) > MOST_ROWS:
    parts.append(f'The best {MOST_ROWS} of {len(rows):,} runs.')
  same = {
    name: value
    for name, value in rows[0]['overrides'].items()
    if name not in names
  }
  if same:
    words = ', '.join(f'`{n}` = {_text(v)}' for n, v in same.items())
    parts.append(f'The same in all runs: {words}.')
  return '\n\n'.join(parts)


def _metric_names(records):
  """The objective, then what else was measured on valid and test data."""
  names = {name for r in records for name in r.get('metrics') or {}}
  names = {n for n in names if n.startswith(('valid', 'test'))}
  objective = records[0]['objective']
  return [objective, *sorted(names - {objective}, reverse=True)]


def _row(record, names, metrics, with_status):
  measured = dict(record.get('metrics') or {})
  measured[record['objective']] = record['value']
  cells = [str(record['point'])]
  cells += [_text(record['overrides'].get(name, 'not set')) for name in names]
  cells += [_number(measured.get(name), '.4f') for name in metrics]
  cells += [
    _number(record.get(name), ',.0f')
    for name in ('best_step', 'step', 'parameters', 'seconds')
  ]
  return cells + [record['status']] * with_status


def _number(value, form):
  return format(value, form) if _is_finite(value) else '-'


def _markdown(lines):
  rows = ([_cell(cell) for cell in line] for line in lines)
  return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _cell(text):
  return ' '.join(text.replace('|', '\\|').split())


def _failures(records):
  """The runs that failed, with what they said."""
  failed = [record for record in records if record['status'] == 'failed']
  if not failed:
    return []
  lines = [['point', 'overrides', 'error'], ['---'] * 3]
  for record in failed[:MOST_ROWS]:
    overrides = ', '.join(
      f'{name}={_text(value)}' for name, value in record['overrides'].items()
    )
    error = str(record.get('error') or 'it left no error')
    lines.append([str(record['point']), overrides, error])
  parts = ['## Failed', _markdown(lines)]
  if len(failed) > MOST_ROWS:
    parts.append(f'The first {MOST_ROWS} of {len(failed):,} failures.')
  return ['\n\n'.join(parts)]


def _pictures(sweepdir, objective, records, ranked, fields):
  """Draws what there is to draw; yields the Markdown that shows it."""
  for stale in ('parallel', 'progress', 'importance', 'grid'):
    (sweepdir / f'{stale}.png').unlink(missing_ok=True)
  yield '## Pictures'
  if fields:
    chosen = _spread_out(records)
    pictures.parallel(
      sweepdir / 'parallel.png',
      [_take(field, chosen) for field in fields],
      objective,
      np.array([_value(records[k]) for k in chosen]),
      [records[k]['status'] for k in chosen],
    )
    yield '![Each run as a line through its values](parallel.png)'
    if len(chosen) < len(records):
      yield (
        f'{len(chosen):,} of {len(records):,} runs, from the best to the worst.'
      )
  yield from _progress(sweepdir, objective, records, ranked)
  yield from _importance(sweepdir, records, fields)
  numeric = len(fields) == 2 and not any(field.labels for field in fields)
  done = [k for k, r in enumerate(records) if r['status'] == 'finished']
  if numeric and done:
    x, y = (_take(field, done) for field in fields)
    values = np.array([records[k]['value'] for k in done])
    pictures.grid(sweepdir / 'grid.png', x, y, objective, values)
    yield '![The objective over both fields](grid.png)'


def _value(record):
  """The value of a finished run; NaN of any other."""
  return record['value'] if record['status'] == 'finished' else math.nan


def _spread_out(records) -> list[int]:
  """Places of at most `MOST_LINES` records, evenly from best to worst."""
  values = np.array([_value(record) for record in records])
  order = np.argsort(values, kind='stable')  # those without one come last
  count = min(len(records), MOST_LINES)
  chosen = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
  return sorted(chosen.tolist())


def _take(field, places):
  return pictures.Axis(field.name, field.values[places], field.labels)


def _progress(sweepdir, objective, records, ranked):
  ended = sorted(records, key=lambda r: (str(r.get('ended')), r['point']))
  stopped = [record for record in records if record['status'] != 'finished']
  wanted = [*ranked, *stopped][:MOST_CURVES]
  curves, best = [], None
  for record in wanted:
    steps, values = _curve(sweepdir, record)
    if steps:
      if ranked and record is ranked[0]:
        best = len(curves)
      curves.append((steps, values))
  values = np.array([_value(record) for record in ended])
  if not ranked and not curves:
    return
  pictures.progress(sweepdir / 'progress.png', objective, values, curves, best)
  yield '![The best so far, and the learning curves](progress.png)'
  if len(records) > MOST_CURVES:
    yield f'The learning curves are those of the best {MOST_CURVES} runs.'


def _curve(sweepdir, record):
  """Steps and values of the objective while a run was trained."""
  workdir = sweepdir / 'points' / f'{record["point"]:04d}'
  split, _, metric = record['objective'].partition('/')
  name = f'{split}_quick/{metric}'
  try:
    lines = read_metrics(workdir)
  except OSError:  # it ran elsewhere, or not at all
    lines = []
  points = [(x['step'], x[name]) for x in lines if _is_finite(x.get(name))]
  return tuple(zip(*points, strict=True)) or ((), ())


def _importance(sweepdir, records, fields):
  """Which field explains the objective, or why that can not be told."""
  done = [k for k, r in enumerate(records) if r['status'] == 'finished']
  fields = [_take(field, done) for field in fields]
  fields = [field for field in fields if len(np.unique(field.values)) > 1]
  values = [records[k]['value'] for k in done]
  if len(done) < FEWEST_RUNS or len(fields) < 2 or len(set(values)) < 2:
    yield (
      f'Which field matters most is told from {FEWEST_RUNS} finished runs on, '
      f'where two or more fields and the objective differ.'
    )
    return
  shares = importances(fields, values)
  pictures.importances(sweepdir / 'importance.png', shares)
  yield '![How much each field matters](importance.png)'
  yield (
    'By PED-ANOVA: how far the values of a field in the better half of the '
    'runs differ from those in all.'
  )


def importances(
  fields: Sequence[pictures.Axis], values: Sequence[float]
) -> dict[str, float]:
  """How much each field matters for a run to be in the better half.

  PED-ANOVA (Watanabe et al. 2023), as optuna has it: it is quick with 100,000
  runs, and a few that went far astray do not count for more than the rest.

  Args:
    fields: each with at least two different values.
    values: the objective of each run; lower is better.

  Returns:
    A share for each field; they add up to 1.
  """
  distributions = {f.name: _distribution(f) for f in fields}
  columns = {
    f.name: [f.labels[int(v)] for v in f.values] if f.labels else f.values
    for f in fields
  }
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  study = optuna.create_study()
  study.add_trials(
    optuna.trial.create_trial(
      params={name: column[k] for name, column in columns.items()},
      distributions=distributions,
      value=value,
    )
    for k, value in enumerate(values)
  )
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(
      target_quantile=TARGET_QUANTILE
    )
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
  return {field.name: float(found[field.name]) for field in fields}


def _distribution(field):
  if field.labels:
    return optuna.distributions.CategoricalDistribution(field.labels)
  low, high = float(field.values.min()), float(field.values.max())
  return optuna.distributions.FloatDistribution(low, high, log=field.log)
