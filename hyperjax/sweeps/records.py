"""What a sweep knows of its points: a file for each that has ended."""

import json
import math
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

from hyperjax import workdir as files
from hyperjax.errors import UserError
from hyperjax.sweeps.space import Point, in_words
from hyperjax.sweeps.sweep import Sweep

Record = dict[str, Any]
KINDS = {  # of a record's fields
  'point': (int,),
  'overrides': (dict,),
  'status': (str,),
  'value': (int, float, type(None)),
  'step': (int, type(None)),
}


def path_of(sweep: Sweep, number: int) -> pathlib.Path:
  """Where a point's record stands."""
  return sweep.folder / 'records' / f'{number:04d}.json'


def read(sweep: Sweep, number: int) -> Record | None:
  """The record of a point; None if it has not ended."""
  path = path_of(sweep, number)
  if not path.exists():
    return None
  record = files.read_json(
    path, 'point', 'overrides', 'status', 'value', 'step', 'error'
  )
  for field, kinds in KINDS.items():
    value = record[field]
    if type(value) not in kinds or (field == 'value' and _is_huge(value)):
      raise UserError(
        f'{path} is damaged: its {field} is {value!r}; delete it, and '
        f'the point is run again'
      )
  return record


def read_all(sweep: Sweep) -> list[Record]:
  """All records, by the numbers of their points."""
  found = [read(sweep, number) for number in range(sweep.num_points)]
  return [record for record in found if record]


def unfinished(sweep: Sweep) -> list[int]:
  """The points without a record."""
  return [
    number
    for number in range(sweep.num_points)
    if not path_of(sweep, number).exists()
  ]


def forget_failed(sweep: Sweep, numbers: Iterable[int]) -> None:
  """Takes the records of failed points away, so that they run again.

  They go on from their checkpoints. A point that runs just now is left alone.

  Args:
    sweep: of the points.
    numbers: of points; of these, the failed ones.
  """
  for number in numbers:
    record = read(sweep, number)
    if not record or record['status'] != 'failed':
      continue
    if claim := sweep.claim(number):
      with claim:
        path_of(sweep, number).unlink(missing_ok=True)


def of_workdir(sweep: Sweep, number: int) -> Record:
  """The part of a record that the run itself has written."""
  workdir = sweep.workdir(number)
  result = _read(workdir / 'result.json')
  environment = _read(workdir / 'environment.json')
  devices = environment.get('devices')
  devices = devices if isinstance(devices, list) else []
  devices = ', '.join(sorted({str(device) for device in devices}))
  return {
    'value': _number(result.get(sweep.objective)),
    'metrics': {
      name: value
      for name, value in result.items()
      if type(value) in (int, float)
    },
    'best_step': result.get('best_step'),
    'step': _number(result.get('step')) or _last_step(workdir),
    'parameters': result.get('parameters'),
    'git': environment.get('git'),
    'versions': environment.get('versions'),
    'hardware': f'{devices}, {environment.get("machine")}' if devices else None,
    'seconds': environment.get('seconds'),
  }


def _read(path):
  """A file of a run; of one that failed it may be missing or cut."""
  try:
    return files.read_json(path)
  except UserError:
    return {}


def _last_step(workdir):
  try:
    lines = (workdir / 'metrics.jsonl').read_bytes().split(b'\n')[:-1]
    return _number(json.loads(lines[-1])['step'])
  except (*(OSError, LookupError, ValueError, TypeError, RecursionError),):
    return None


def _number(value):
  is_number = type(value) in (int, float) and not _is_huge(value)
  return value if is_number else None


def _is_huge(value):
  """Whether it is a whole number that no float can be."""
  return type(value) is int and abs(value) > sys.float_info.max


def best(records: list[Record]) -> float:
  """The least objective; infinite if no point has finished."""
  values = (
    record['value'] for record in records if record['status'] == 'finished'
  )
  return min(values, default=math.inf)


def table(sweep: Sweep) -> str:
  """All points, the best first, and the failed ones with their errors."""
  found = read_all(sweep)
  ended = [record for record in found if record['status'] != 'failed']
  ended.sort(key=lambda record: (record['value'] is None, record['value'] or 0))
  values = [
    record['status'] if record['value'] is None else f'{record["value"]:.4f}'
    for record in ended
  ]
  width = max(map(len, [*values, sweep.objective]))
  lines = [f'{sweep.objective:>{width}}  point  step']
  for record, value in zip(ended, values, strict=True):
    step = f'{record["step"] or 0:,}'
    lines.append(
      f'{value:>{width}}  {record["point"]:5}  {step:>7}  '
      f'{describe(record["overrides"])}'
    )
  for record in found:
    if record['status'] == 'failed':
      lines += [
        f'failed: point {record["point"]} ({describe(record["overrides"])}): '
        f'{record["error"]}',
        f'  its log: {sweep.log(record["point"])}',
      ]
  return '\n'.join(lines)


def describe(point: Point) -> str:
  """A point in words, shortened to what a line can hold."""
  short = {
    name.rpartition('.')[2]: float(f'{value:.4g}')
    if isinstance(value, float)
    else value
    for name, value in point.items()
  }
  whole = len(short) == len(point)  # else two sections have the same field
  return in_words(short if whole else point) or 'as configured'
