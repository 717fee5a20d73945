"""Train metrics between two lines of `metrics.jsonl`."""

import time
from collections.abc import Callable, Sequence

from hyperjax.training.metrics import merge, read
from hyperjax.training.progress import Progress
from hyperjax.training.seed_axis import spread
from hyperjax.training.writers import MetricsWriter
from hyperjax.types import Metrics


class TrainLog:
  """Gathers the metrics of dispatches, shows them, writes a line when told.

  Args:
    writer: of the workdir.
    progress: the bar to move.
    learning_rate: by step.
    shown: the metric beside the bar.
    seeds: of the metrics' leading axis, if there is one.
    step: where the run goes on from.
  """

  def __init__(
    self,
    writer: MetricsWriter,
    progress: Progress,
    learning_rate: Callable[[int], float],
    shown: str,
    seeds: Sequence[int],
    step: int = 0,
  ):
    self._writer, self._progress = writer, progress
    self._learning_rate, self._shown = learning_rate, shown
    self._seeds = seeds
    self._pending: Metrics | None = None
    self._step, self._time = step, time.monotonic()

  def add(self, step: int, metrics: Metrics) -> None:
    """Adds the metrics of a dispatch that ended at `step`."""
    pending = self._pending
    self._pending = merge(pending, metrics) if pending else metrics
    if self._shown in self._pending:
      name = f'train {self._shown}'
      shown = {name: self._pending[self._shown].read()}
      self._progress.show(**{name: spread(shown, self._seeds)[name]})
    self._progress.update(step)

  def flush(self, step: int) -> None:
    """Writes what is pending as the line of `step`."""
    if not self._pending:
      return
    now = time.monotonic()
    self._writer.write(
      step,
      spread(read(self._pending, 'train'), self._seeds)
      | {
        'train/learning_rate': float(self._learning_rate(step - 1)),
        'train/steps_per_second': (step - self._step) / (now - self._time),
      },
    )
    self._pending, self._step, self._time = None, step, now
