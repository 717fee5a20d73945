"""The process of one run, and what it tells while it goes on."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import IO

from hyperjax.errors import UserError
from hyperjax.sweeps.space import Point
from hyperjax.sweeps.sweep import Sweep
from hyperjax.training.writers import read_metrics

TETHER = pathlib.Path(__file__).with_name('tether.py')
STOPS = (signal.SIGTERM, signal.SIGINT)


class Child:
  """A run in a process of its own, so that its end is no other's.

  It has its own process group, for Ctrl-C is meant for the sweep, which then
  stops the run; and it is stopped by the kernel where the thread that started
  it is killed.

  Args:
    sweep: of the run.
    number: of the point.
    point: what the point is.
    claim: the point's lock, which the run holds as well.
    environ: environment variables to add.
  """

  def __init__(
    self,
    sweep: Sweep,
    number: int,
    point: Point,
    claim: IO[bytes],
    environ: Mapping[str, str] | None = None,
  ):
    self._workdir = sweep.workdir(number)
    self._metric = f'valid_quick/{sweep.objective.removeprefix("valid/")}'
    self._told = -1
    self._start = time.monotonic()
    self._log = sweep.log(number)
    with self._log.open('ab') as log:
      self._log_start = self._log_read = log.tell()
      self._process = subprocess.Popen(
        [
          *(sys.executable, str(TETHER), str(os.getpid())),
          *sweep.command(number, point),
        ],
        cwd=sweep.cwd,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[claim.fileno()],
        process_group=0,
      )

  def running(self) -> bool:
    """Whether it has not ended."""
    return self._process.poll() is None

  def news(self) -> list[tuple[int, float]]:
    """(step, objective) of the evaluations since the last call.

    A run that goes on from a checkpoint tells those before it, too.
    """
    try:
      lines = read_metrics(self._workdir)
    except (FileNotFoundError, UserError):  # not yet, or just being cut
      return []
    found = [
      (line['step'], line[self._metric])
      for line in lines
      if line['step'] > self._told and line.get(self._metric) is not None
    ]
    if found:
      self._told = found[-1][0]
    return found

  def printed(self) -> str:
    """What it has printed since the last call."""
    with self._log.open('rb') as log:
      log.seek(self._log_read)
      text = log.read()
    self._log_read += len(text)
    return text.decode(errors='replace')

  def stop(self) -> None:
    """Lets it save its state, and waits for its end."""
    if self.running():
      self._process.send_signal(signal.SIGTERM)
    self._process.wait()

  def seconds(self) -> float:
    """How long it has been."""
    return time.monotonic() - self._start

  def was_stopped(self) -> bool:
    """Whether it ended because a signal asked it to, so that it can go on."""
    ends = [end for signum in STOPS for end in (-signum, 128 + signum)]
    return self._process.wait() in ends

  def error(self) -> str | None:
    """Why it failed, in one line; None if it did not."""
    code = self._process.wait()
    if not code:
      return None
    with self._log.open('rb') as log:
      log.seek(self._log_start)
      lines = log.read().decode(errors='replace').splitlines()
    for line in reversed(lines):
      if line.startswith('error: '):
        return line.removeprefix('error: ')
    how = (
      f'killed by {signal.Signals(-code).name}'
      if code < 0
      else f'exit code {code}'
    )
    last = next((line for line in reversed(lines) if line.strip()), '')
    return f'{how}: {last.strip()}' if last else how
