"""Where metrics go: `metrics.jsonl` and TensorBoard events."""

import json
import logging
import math
import os
import pathlib
import time
from collections.abc import Mapping

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from hyperjax.errors import UserError

logger = logging.getLogger(__name__)


class MetricsWriter:
  """Appends lines of metrics to a workdir.

  Args:
    workdir: an existing folder.
    length: bytes of `metrics.jsonl` that a resumed run keeps; what was
      written after its checkpoint is written again.
    step: the step of that checkpoint.
  """

  def __init__(self, workdir: pathlib.Path, length: int = 0, step: int = 0):
    path = workdir / 'metrics.jsonl'
    self._file = path.open('ab')
    self._file.truncate(_whole_lines(path, length))
    # Not the SummaryWriter: its thread dies where the disk is full, and the
    # run would wait for it.
    self._events = EventsWriter(str(workdir / 'events'))
    start = SessionLog(status=SessionLog.START)  # drops what comes after step
    self._events.write_event(
      Event(wall_time=time.time(), step=step + 1, session_log=start)
    )

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """One line `{"step": ..., name: number}`; NaN is written as null."""
    finite = {
      name: float(value) if math.isfinite(value) else None
      for name, value in metrics.items()
    }
    line = json.dumps({'step': step, **finite}, allow_nan=False)
    self._file.write(line.encode() + b'\n')
    self._file.flush()  # a sweep reads along
    for name, value in finite.items():
      if value is not None:
        self._events.write_event(
          Event(
            wall_time=time.time(),
            step=step,
            summary=summary.scalar(name, value),
          )
        )

  def flush(self) -> int:
    """Makes all lines safe on disk; returns the length of the file."""
    self._file.flush()
    os.fsync(self._file.fileno())
    self._events.flush()
    return os.fstat(self._file.fileno()).st_size

  def close(self) -> None:
    """Flushes and closes the files."""
    self.flush()
    self._file.close()
    self._events.close()


def _whole_lines(path, length):
  """How many of these bytes are there, up to the end of a line."""
  size = path.stat().st_size
  if size >= length:
    return length
  logger.warning(
    '%s: has %d bytes, but had %d at the checkpoint; lines are lost',
    path,
    size,
    length,
  )
  return path.read_bytes().rfind(b'\n') + 1


class NoWriter:
  """That of the processes whose metrics another one writes."""

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Nothing."""

  def flush(self) -> int:
    """Nothing has been written: 0."""
    return 0

  def close(self) -> None:
    """Nothing."""


def read_metrics(workdir: pathlib.Path) -> list[dict[str, float | None]]:
  """The lines of a workdir's `metrics.jsonl`; a last, cut-off one is left.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: a line is damaged.
  """
  path = workdir / 'metrics.jsonl'
  lines = path.read_bytes().split(b'\n')[:-1]
  return [_parse(line, path, k) for k, line in enumerate(lines, 1)]


def _parse(line, path, number):
  try:
    found = json.loads(line)
    if type(found['step']) is int and all(map(_is_number, found.values())):
      return found
    reason = 'not a step and numbers'
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    reason = f'{type(error).__name__}: {error}'
  raise UserError(
    f'{path}: line {number:,} is damaged ({reason}); take it away'
  )


def _is_number(value):
  return value is None or type(value) in (int, float)
