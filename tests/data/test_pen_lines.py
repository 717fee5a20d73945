"""Lines of handwriting as points."""

import numpy as np

from hyperjax.data import pen_lines


def test_strokes_become_points_with_ends():
  line = pen_lines.from_strokes(
    'a', 'hi', [np.array([[0, 1], [2, 3]]), np.zeros((0, 2)), [[5, 5]]]
  )
  assert line.name == 'a'
  assert line.text == 'hi'
  np.testing.assert_array_equal(line.points, [[0, 1, 0], [2, 3, 1], [5, 5, 1]])
  assert line.points.dtype == np.float32


def test_a_line_without_strokes_has_no_points():
  assert pen_lines.from_strokes('a', '', []).points.shape == (0, 3)
  empty = pen_lines.from_strokes('a', '', [np.zeros((0, 2))])
  assert empty.points.shape == (0, 3)


def test_offsets_are_moves_to_a_point():
  line = pen_lines.from_strokes('a', '', [[[0, 1], [2, 3]], [[5, 5]]])
  np.testing.assert_array_equal(
    pen_lines.offsets(line.points), [[2, 2, 1], [3, 2, 1]]
  )
