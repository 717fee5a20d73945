"""One pass over a split."""

import jax
import numpy as np

from hyperjax.training.metrics import Mean, read
from hyperjax.training.progress import track
from hyperjax.training.step import reset
from hyperjax.types import PyTree, Source, Task


class Evaluator:
  """Measures parameters on a split; compiles once for each batch shape.

  Args:
    task: gives the metrics of a batch.
    source: gives the batches.
  """

  def __init__(self, task: Task, source: Source):
    self._source = source
    self._task = task

    @jax.jit
    def step(params, state, carry, batch):
      if 'fresh' in batch:
        fresh = batch['fresh']
        carry = reset(carry, task.carry(fresh.shape[0]), fresh)
      return task.metrics(params, state, carry, batch)

    self._step = step

  def __call__(
    self,
    params: PyTree,
    state: PyTree,
    split: str,
    batch_size: int,
    name: str | None = None,
  ) -> dict[str, float]:
    """Metrics of the whole split, the carry running on through it.

    Args:
      params: of the task.
      state: model state.
      split: of the source.
      batch_size: rows side by side; for text, the number of streams.
      name: the prefix of the metrics' names; the split's by default.

    Returns:
      {'split/metric_unit': mean over everything that counts in the split}.
    """
    carry, parts = None, []
    for batch in track(
      self._source.eval(split, batch_size), unit=f'{name or split} batch'
    ):
      if carry is None:
        carry = self._task.carry(jax.tree.leaves(batch)[0].shape[0])
      carry, metrics = self._step(params, state, carry, batch)
      parts.append(metrics)
    # Added up in float64: a long split has more terms than float32 digits.
    parts = jax.device_get(parts)
    total = {
      key: Mean(
        np.sum([part[key].total for part in parts], dtype=np.float64),
        np.sum([part[key].weight for part in parts], dtype=np.float64),
      )
      for key in parts[0]
    }
    return read(total, name or split)
