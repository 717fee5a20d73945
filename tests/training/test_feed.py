import numpy as np

from hyperjax.training import sharding
from hyperjax.training.feed import Feed

SEEDS = np.uint32(3)


class Whole:
  def arrays(self):
    return {'x': np.arange(4)}


class Windows:
  """Groups of three steps, of which a window has the rest."""

  def __init__(self):
    self.asked = []

  def window(self, seeds, step):
    self.asked.append((int(seeds), step))
    return {'x': np.full(2, step)}, 3 - step % 3


def feed(source, start=0):
  return Feed(source, SEEDS, sharding.one_device(), start)


def test_what_fits_is_put_there_once():
  source = feed(Whole())
  [(first, steps)] = source(5)
  [(second, more)] = source(2)
  assert (steps, more) == (5, 2)
  assert first['x'] is second['x']


def test_windows_follow_each_other_and_none_passes_the_last_step():
  windows = Windows()
  source = feed(windows)
  taken = [(int(x['x'][0]), steps) for x, steps in source(5)]
  taken += [(int(x['x'][0]), steps) for x, steps in source(5)]
  assert taken == [(0, 3), (3, 2), (5, 1), (6, 3), (9, 1)]
  assert windows.asked == [(3, step) for step, _ in taken]


def test_it_goes_on_from_any_step():
  assert [n for _, n in feed(Windows(), start=7)(6)] == [2, 3, 1]


def test_arrays_are_on_the_device():
  [(arrays, _)] = feed(Windows())(1)
  assert len(arrays['x'].sharding.device_set) == 1
