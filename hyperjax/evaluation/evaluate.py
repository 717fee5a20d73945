"""One pass over a split."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax.ops import target
from hyperjax.training import hosts, sharding
from hyperjax.training.metrics import Mean, read
from hyperjax.training.progress import track
from hyperjax.training.sharding import Layout
from hyperjax.training.step import reset
from hyperjax.types import Batch, Carry, Metrics, PyTree, Source, Task


def add_up(parts: Sequence[Metrics]) -> Metrics:
  """Merges the metrics of many batches, on the host.

  In float64: a long split has more terms than float32 has digits.
  """
  parts = jax.device_get(parts)
  return {
    key: Mean(
      np.sum([part[key].total for part in parts], 0, dtype=np.float64),
      np.sum([part[key].weight for part in parts], 0, dtype=np.float64),
    )
    for key in parts[0]
  }


def make_step(
  task: Task, *, stacked: bool = False, layout: Layout | None = None
) -> Callable[[PyTree, PyTree, Carry, Batch], tuple[Carry, Metrics]]:
  """Builds `step(params, state, carry, batch)`, jitted; see `Evaluator`."""

  @target.compiling_for(layout and layout.mesh)
  def step(params, state, carry, batch):
    rows = sharding.num_rows(batch)
    if 'fresh' in batch:
      carry = reset(carry, task.carry(rows), batch['fresh'])
    carry, metrics = task.metrics(params, state, carry, batch)
    if layout:
      carry = layout.constrain(carry, layout.of_rows(carry, rows))
      metrics = layout.constrain(
        metrics, jax.tree.map(lambda _: layout.whole, metrics)
      )
    return carry, metrics

  return jax.jit(jax.vmap(step, (0, 0, 0, None)) if stacked else step)


class Evaluator:
  """Measures parameters on a split; compiles once for each batch shape.

  Args:
    task: gives the metrics of a batch.
    source: gives the batches.
    stacked: whether what is measured has a leading axis of seeds.
    layout: deals out the rows of batches; None leaves all on one device.
    watchdog: is told of each batch.
  """

  def __init__(
    self,
    task: Task,
    source: Source,
    *,
    stacked: bool = False,
    layout: Layout | None = None,
    watchdog: hosts.Watchdog | None = None,
  ):
    self._source = source
    self._task = task
    self._layout, self._watchdog = layout, watchdog
    self.stacked = stacked
    self._step = make_step(task, stacked=stacked, layout=layout)

  def __call__(
    self,
    params: PyTree,
    state: PyTree,
    split: str,
    batch_size: int,
    name: str | None = None,
  ) -> dict[str, np.ndarray]:
    """Metrics of the whole split, the carry running on through it.

    Args:
      params: of the task.
      state: model state.
      split: of the source.
      batch_size: rows side by side; for text, the number of streams.
      name: the prefix of the metrics' names; the split's by default.

    Returns:
      {'split/metric_unit': mean over everything that counts in the split}, a
      number each, or with stacked parameters [S].
    """
    carry, parts = None, []
    unit = f'{name or split} batch'
    for batch in track(self._source.eval(split, batch_size), unit=unit):
      if carry is None:
        carry = self._first_carry(params, batch)
      if self._layout:
        rows = self._layout.of_rows(batch, sharding.num_rows(batch))
        batch = self._layout.put(batch, rows)
      carry, metrics = self._step(params, state, carry, batch)
      if self._watchdog:
        jax.block_until_ready(parts[-1:])
        self._watchdog.alive(f'{unit} {len(parts):,}')
      parts.append(metrics)
    total = add_up(parts)
    if self._watchdog:
      self._watchdog.rest()
    return read(total, name or split)

  def _first_carry(self, params, batch):
    rows = sharding.num_rows(batch)
    carry = self._task.carry(rows)
    if self.stacked:
      num_seeds = jax.tree.leaves(params)[0].shape[0]
      carry = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (num_seeds, *x.shape)), carry
      )
    if not self._layout:
      return carry
    at = self._layout.of_rows(carry, rows, stacked=self.stacked)
    return self._layout.put(carry, at)
