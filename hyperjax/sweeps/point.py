"""Runs one point of a sweep."""

import datetime
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO

from hyperjax import workdir as files
from hyperjax.sweeps import records
from hyperjax.sweeps.child import Child
from hyperjax.sweeps.space import Point
from hyperjax.sweeps.sweep import Sweep
from hyperjax.training.progress import say

POLL_SECONDS = 0.2


def begin(
  sweep: Sweep,
  number: int,
  claim: IO[bytes],
  *,
  choose: Callable[[], Point] | None = None,
  environ: Mapping[str, str] | None = None,
) -> Child:
  """Starts the run of a point, or goes on with it.

  Args:
    sweep: of the point.
    number: of the point.
    claim: its lock.
    choose: chooses what it is; see `Sweep.point`.
    environ: environment variables for the run.
  """
  point = sweep.point(number, choose)
  sweep.choose(number, point)
  say_start(sweep, number)
  return Child(sweep, number, point, claim, environ)


def say_start(sweep: Sweep, number: int) -> None:
  """One line of a point that starts or goes on."""
  done = sweep.num_points - len(records.unfinished(sweep))
  say(
    f'point {number} starts: {records.describe(sweep.point(number))}  '
    f'({done}/{sweep.num_points} done)'
  )


def end(
  sweep: Sweep, number: int, child: Child, *, engine: str, pruned: bool = False
) -> records.Record | None:
  """Writes the record of a run that has ended.

  Args:
    sweep: of the point.
    number: of the point.
    child: its run.
    engine: which one ran it.
    pruned: whether it was stopped because others are better.

  Returns:
    The record; None if the run was stopped and can go on.
  """
  error = child.error()
  if error and not pruned and child.was_stopped():
    say(f'point {number} is stopped; the same command goes on with it')
    return None
  status = 'finished'
  if error:
    status, error = ('pruned', None) if pruned else ('failed', error)
  record = write(
    sweep, number, status, error, engine=engine, seconds=child.seconds()
  )
  say_end(sweep, record)
  return record


def write(
  sweep: Sweep,
  number: int,
  status: str,
  error: str | None,
  *,
  engine: str,
  seconds: float,
) -> records.Record:
  """Writes the record of a point.

  Args:
    sweep: of the point.
    number: of the point.
    status: 'finished', 'failed' or 'pruned'.
    error: of a failed one.
    engine: which one ran it.
    seconds: how long it took, if the run itself has not said.

  Returns:
    The record.
  """
  point = sweep.point(number)
  found = records.of_workdir(sweep, number)
  if status != 'finished':
    found['value'] = None
  elif found['value'] is None:
    status = 'failed'
    error = f'{sweep.workdir(number)}/result.json has no {sweep.objective}'
  record = {
    'point': number,
    'overrides': point,
    'status': status,
    'objective': sweep.objective,
    **found,
    'error': error,
    'engine': engine,
    'command': shlex.join(sweep.command(number, point)),
    'seconds': found['seconds'] or round(seconds, 1),
    'ended': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }
  files.write_json(records.path_of(sweep, number), record)
  return record


def say_end(sweep: Sweep, record: records.Record) -> None:
  """One line of how a point ended."""
  ended = records.read_all(sweep)
  what = record['status']
  if what == 'finished':
    best = records.best(ended)
    what = f'{sweep.objective} {record["value"]:.4f}, best {best:.4f}'
  elif what == 'failed':
    what = f'failed: {record["error"]}'
  say(
    f'point {record["point"]} ends: {records.describe(record["overrides"])}: '
    f'{what}  ({len(ended)}/{sweep.num_points} done)'
  )


def run_point(
  sweep: Sweep,
  number: int,
  claim: IO[bytes],
  report: Callable[[int, float], bool] = lambda step, value: False,
  *,
  engine: str,
  choose: Callable[[], Point] | None = None,
  environ: Mapping[str, str] | None = None,
  stopping: Callable[[], bool] = lambda: False,
  shown: bool = False,
) -> records.Record | None:
  """Runs a point to its end.

  Args:
    sweep: of the point.
    number: of the point.
    claim: its lock; see `Sweep.claim`.
    report: called with (step, objective) of each evaluation; says whether the
      run is to be pruned.
    engine: which one runs it.
    choose: chooses what it is; see `Sweep.point`.
    environ: environment variables for the run.
    stopping: whether the run is to be stopped, to go on another time.
    shown: whether what the run prints is printed here, too.

  Returns:
    Its record; None if it was stopped.
  """
  child = begin(sweep, number, claim, choose=choose, environ=environ)
  pruned = False
  try:
    while child.running() and not stopping() and not pruned:
      time.sleep(POLL_SECONDS)
      # At its last step nothing is won any more.
      pruned = any(
        report(step, value) and step < sweep.num_steps
        for step, value in child.news()
      )
      if shown:
        sys.stderr.write(child.printed())
  finally:
    child.stop()
  if shown:
    sys.stderr.write(child.printed())
  return end(sweep, number, child, engine=engine, pruned=pruned)
