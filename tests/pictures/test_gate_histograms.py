import numpy as np
from PIL import Image

from hyperjax.evaluation.saturation import histogram
from hyperjax.pictures.gate_histograms import gate_histograms


def networks(*labels):
  rng = np.random.default_rng(0)
  return {
    label: {'i': histogram(rng.uniform(size=99), 0), 'g': histogram([0.5], -1)}
    for label in labels
  }


def test_each_network_has_a_row_of_what_stands_in_its_histograms(tmp_path):
  paths = [tmp_path / f'x.{ending}' for ending in ('png', 'svg')]
  gate_histograms(paths, networks('LSTM'))
  with Image.open(paths[0]) as picture:
    one = picture.size
  gate_histograms(paths, networks('LSTM', 'HyperLSTM', 'LN'))
  with Image.open(paths[0]) as picture:
    assert picture.size[0] == one[0] and picture.size[1] > 1.8 * one[1]
  text = paths[1].read_text()
  words = [f'<!-- {word} -->' for word in ('LSTM', 'HyperLSTM', 'i', 'g', '0%')]
  assert all(word in text for word in words)
