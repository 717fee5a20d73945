import types

import numpy as np
from PIL import Image

from hyperjax.pictures.attention import AttentionPictures, attention_map


def test_the_darkest_cell_is_where_the_most_attention_is(tmp_path):
  attention = np.zeros((2, 3))
  attention[0, 2] = attention[1, 0] = 1.0
  path = tmp_path / 'map.png'
  attention_map([path], ['a', '$b$', 'c_1'], ['x', 'y'], attention)
  grey = np.asarray(Image.open(path).convert('L'), float)
  # The cells are the only large black areas.
  dark = grey < 20
  rows, columns = np.nonzero(dark)
  upper = rows < np.median(rows)
  assert columns[upper].mean() > columns[~upper].mean()


def test_an_empty_translation_has_no_picture(tmp_path):
  full = types.SimpleNamespace(
    text='x', source=['a'], target=['x'], attention=np.ones((1, 1))
  )
  empty = types.SimpleNamespace(text='', source=[], target=[], attention=None)
  drawn = AttentionPictures('translation', [empty, full]).draw(tmp_path, 's')
  assert [path.name for path in drawn] == ['s.txt', 's-2.png', 's-2.svg']
  assert drawn[0].read_text() == '\nx\n'
  assert b'<svg' in drawn[2].read_bytes()[:1000]
