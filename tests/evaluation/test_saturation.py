import numpy as np
import pytest

from hyperjax.evaluation.saturation import histogram, lstm_histograms


def test_a_sigmoid_is_saturated_within_a_tenth_of_0_and_1():
  found = histogram([0.0, 0.09, 0.11, 0.5, 0.5, 0.89, 0.91, 1.0], 0)

  assert (found.low, found.high) == (2 / 8, 2 / 8)
  assert found.edges[[0, -1]].tolist() == [0, 1]
  widths = np.diff(found.edges)
  assert (found.density * widths).sum() == pytest.approx(1)
  assert found.density[20] * widths[20] == pytest.approx(2 / 8)  # of 0.5


def test_a_tanh_is_saturated_within_a_tenth_of_minus_1_and_1():
  found = histogram(np.array([[-0.95, -0.05, 0.05, 0.85], [0.95] * 4]), -1)

  assert (found.low, found.high) == (1 / 8, 4 / 8)
  assert found.edges[[0, -1]].tolist() == [-1, 1]
  shares = found.density * np.diff(found.edges)
  assert shares[:20].sum() == pytest.approx(2 / 8)


def test_what_counts_as_saturated_is_whole_bins():
  for lowest in (0, -1):
    edges = histogram([0.5], lowest).edges
    assert (
      np.isclose(edges, lowest + 0.1).any() and np.isclose(edges, 0.9).any()
    )


def test_gates_of_an_lstm_have_their_ranges():
  gates = np.zeros((3, 2, 4, 5))
  gates[:, :, 0], gates[:, :, 1] = 0.95, -0.95
  gates[:, :, 2], gates[:, :, 3] = 0.5, 0.05

  found = lstm_histograms(gates, np.full((3, 2, 5), 0.95))

  saturated = {name: (h.low, h.high) for name, h in found.items()}
  assert saturated == {
    'i': (0, 1),
    'f': (0, 0),
    'o': (1, 0),
    'g': (1, 0),
    'tanh(c)': (0, 1),
  }
  assert [h.edges[0] for h in found.values()] == [0, 0, 0, -1, -1]
