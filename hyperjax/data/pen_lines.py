"""A line of handwriting as the points of a pen."""

from typing import NamedTuple

import numpy as np


class Line(NamedTuple):
  """What a pen wrote.

  Attributes:
    name: of the line, for messages; unique in its data set.
    text: what it says; empty if that is not known.
    points: float32 [N, 3]: x to the right and y upwards, both in the units of
      the recording, and 1 where a stroke ends, else 0; the last is 1.
  """

  name: str
  text: str
  points: np.ndarray


def from_strokes(name: str, text: str, strokes: list[np.ndarray]) -> Line:
  """A line of strokes, each [n, 2] with y upwards; empty ones are left out."""
  strokes = [np.asarray(stroke, np.float32) for stroke in strokes]
  strokes = [stroke for stroke in strokes if len(stroke)]
  if not strokes:
    return Line(name, text, np.zeros((0, 3), np.float32))
  points = np.zeros((sum(map(len, strokes)), 3), np.float32)
  points[:, :2] = np.concatenate(strokes)
  points[np.cumsum([len(stroke) for stroke in strokes]) - 1, 2] = 1
  return Line(name, text, points)


def offsets(points: np.ndarray) -> np.ndarray:
  """Points [N, 3] as moves from the one before, float32 [N - 1, 3].

  The third column is that of the point moved to.
  """
  moves = np.diff(points[:, :2].astype(np.float64), axis=0)
  return np.concatenate([moves, points[1:, 2:]], axis=1).astype(np.float32)
