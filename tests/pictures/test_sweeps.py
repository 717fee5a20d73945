import math

import numpy as np
import pytest
from PIL import Image

from hyperjax.pictures.sweeps import Axis, grid, importances, parallel, progress

RATE = Axis('optimizer.learning_rate', np.array([1e-3, 1e-2, 1e-3, 1e-2]))
CELL = Axis('model.cell', np.array([0, 0, 1, 1]), ('lstm', 'rnn'))
VALUES = np.array([2.0, 3.0, 2.5, math.nan])


def ink(path) -> np.ndarray:
  """The pixels of a picture, which must not be blank."""
  with Image.open(path) as picture:
    pixels = np.asarray(picture.convert('RGB'))
  assert (pixels.min(axis=-1) < 250).sum() > 2000
  return pixels


def differ(a: np.ndarray, b: np.ndarray) -> bool:
  return a.shape != b.shape or not np.array_equal(a, b)


@pytest.mark.parametrize(
  ('values', 'log'),
  [
    ([1.0, 10.0], True),
    ([1.0, 5.0], False),
    ([0.0, 10.0], False),
    ([-1.0, 10.0], False),
  ],
)
def test_a_decade_of_numbers_wants_a_log_scale(values, log):
  assert Axis('x', np.array(values)).log == log
  assert not Axis('x', np.array([0, 1]), ('a', 'b')).log


def test_runs_without_a_value_are_told_apart(tmp_path):
  seen = []
  for outcome in ('failed', 'pruned'):
    path = tmp_path / f'{outcome}.png'
    outcomes = ['finished'] * 3 + [outcome]
    parallel(path, [RATE, CELL], 'valid/bits', VALUES, outcomes)
    seen.append(ink(path))
  assert differ(*seen)


def test_parallel_axes_without_any_finished_run(tmp_path):
  parallel(
    tmp_path / 'x.png', [RATE], 'valid/bits', [math.nan] * 4, ['failed'] * 4
  )
  ink(tmp_path / 'x.png')


@pytest.mark.parametrize('size', [1, 40])
def test_many_categories_and_long_names_fit(tmp_path, size):
  labels = tuple(f'{k}' * 40 for k in range(size))
  field = Axis('model.cell', np.arange(size), labels)
  values = np.linspace(1, 2, size)
  path = tmp_path / 'x.png'
  parallel(path, [field], 'valid/bits', values, ['finished'] * size)
  ink(path)


def test_progress_with_and_without_curves(tmp_path):
  one, two = tmp_path / 'one.png', tmp_path / 'two.png'
  progress(one, 'valid/bits', VALUES, [], None)
  curves = [([1, 2], [4.0, 3.0]), ([1, 2], [4.0, 2.0])]
  progress(two, 'valid/bits', VALUES, curves, 1)
  assert differ(ink(one), ink(two))
  progress(one, 'valid/bits', np.array([math.nan]), curves, None)
  ink(one)


def test_importances_are_bars(tmp_path):
  one, two = tmp_path / 'one.png', tmp_path / 'two.png'
  importances(one, {'a': 0.9, 'b': 0.1})
  importances(two, {'a': 0.1, 'b': 0.9})
  assert differ(ink(one), ink(two))


def test_a_grid_is_cells_and_random_points_are_dots(tmp_path):
  cells, dots = tmp_path / 'cells.png', tmp_path / 'dots.png'
  x, y = np.repeat([1.0, 2.0, 4.0], 3), np.tile([1.0, 2.0, 4.0], 3)
  values = np.linspace(1, 2, 9)
  grid(cells, Axis('x', x), Axis('y', y), 'valid/bits', values)
  rng = np.random.default_rng(0)
  x, y = rng.uniform(size=(2, 9))
  grid(dots, Axis('x', x), Axis('y', y), 'valid/bits', values)
  with Image.open(cells) as picture:
    found = picture.convert('RGB').getcolors(10**6)
  # Nine cells of one colour each: large areas, which dots do not have.
  assert sum(count > 5000 for count, _ in found) >= 9
  with Image.open(dots) as picture:
    found = picture.convert('RGB').getcolors(10**6)
  assert sum(count > 5000 for count, _ in found) < 5
