"""How often gates are nearly open or shut (paper, Fig. 5)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

BINS = 40  # so that none is half saturated
NEARLY = 0.1  # how close to the end of its range a saturated activation is


class Histogram(NamedTuple):
  """The activations of a gate.

  Attributes:
    edges: [BINS + 1], over the gate's whole range.
    density: [BINS], whose integral over the edges is 1.
    low: share of the activations within `NEARLY` of the lower end.
    high: the same of the upper end.
  """

  edges: np.ndarray
  density: np.ndarray
  low: float
  high: float


def histogram(values: np.ndarray, lowest: float) -> Histogram:
  """The histogram of activations between `lowest`, 0 or -1, and 1.

  Args:
    values: any shape; at least one.
    lowest: 0 for a sigmoid, -1 for a tanh.
  """
  values = np.asarray(values, np.float64).ravel()
  density, edges = np.histogram(
    values, bins=BINS, range=(lowest, 1), density=True
  )
  return Histogram(
    edges,
    density,
    low=float(np.mean(values < lowest + NEARLY)),
    high=float(np.mean(values > 1 - NEARLY)),
  )


def lstm_histograms(
  gates: np.ndarray, memory: np.ndarray
) -> Mapping[str, Histogram]:
  """The histograms of an LSTM, by what they are of.

  Args:
    gates: [..., 4, H], i, g, f and o after their sigmoids and tanh.
    memory: [..., H], tanh(c).
  """
  i, g, f, o = np.moveaxis(np.asarray(gates), -2, 0)
  return {
    'i': histogram(i, 0),
    'f': histogram(f, 0),
    'o': histogram(o, 0),
    'g': histogram(g, -1),
    'tanh(c)': histogram(memory, -1),
  }
