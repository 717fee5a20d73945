"""What the train step makes its batches of, step after step."""

from collections.abc import Iterator

import numpy as np

from hyperjax.training.sharding import Layout
from hyperjax.types import PyTree, Source


class Feed:
  """Hands out a source's arrays on the device.

  A source whose data fits there has `arrays`, which are put there once. That of
  a larger corpus has `window`, whose arrays are good for a few steps.

  Args:
    source: the data.
    seeds: of `training.seed_axis`.
    layout: where arrays lie.
    start: the step that comes first.
  """

  def __init__(
    self, source: Source, seeds: np.ndarray, layout: Layout, start: int
  ):
    self._source, self._seeds, self._layout = source, seeds, layout
    self._step = start
    self._whole = None
    if not hasattr(source, 'window'):
      self._whole = layout.put(source.arrays())

  def __call__(self, count: int) -> Iterator[tuple[PyTree, int]]:
    """Yields arrays and how many steps to take on them, `count` in all."""
    last = self._step + count
    while self._step < last:
      arrays, steps = self._whole, last - self._step
      if arrays is None:
        arrays, there = self._source.window(self._seeds, self._step)
        arrays, steps = self._layout.put(arrays), min(there, steps)
      yield arrays, steps
      self._step += steps
