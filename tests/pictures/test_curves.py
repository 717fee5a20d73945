import numpy as np
from PIL import Image

from hyperjax.pictures.curves import learning_curve


def test_each_seed_has_a_thin_line_and_one_without_numbers_has_none(tmp_path):
  lines = [
    {'step': k, 'train/bits': 4 / k, 'seed_0/train/bits': 3 / k}
    for k in range(1, 50)
  ]
  with_seed, without = tmp_path / 'with.png', tmp_path / 'without.png'
  learning_curve(with_seed, lines, 'bits', {})
  for line in lines:
    line['seed_0/train/bits'] = None
  learning_curve(without, lines, 'bits', {})
  with Image.open(with_seed) as a, Image.open(without) as b:
    assert not np.array_equal(a, b)


def test_a_learning_curve_is_drawn(tmp_path):
  lines = [{'step': k, 'train/bits': 4 / k} for k in range(1, 50)]
  lines += [{'step': k, 'valid/bits': 5 / k} for k in (10, 20)]
  lines += [{'step': 30, 'train/bits': None, 'train/other': 3.0}]
  blank, full = tmp_path / 'blank.png', tmp_path / 'full.png'
  learning_curve(full, lines, 'bits', {'a bar': 2.0})
  learning_curve(blank, lines, 'bits', {})
  with Image.open(full) as a, Image.open(blank) as b:
    assert a.size[0] > 800
    assert (np.asarray(a.convert('L')) < 250).sum() > 5000  # not a white page
    assert not np.array_equal(a, b)
