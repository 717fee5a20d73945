import numpy as np
import pytest
from PIL import Image

from hyperjax.pictures.text_strips import drawable, text_strips, wrap


def lines_of(text, width):
  return [text[start:stop] for start, stop in wrap(text, width)]


@pytest.mark.parametrize(
  ('text', 'lines'),
  [
    ('ab', ['ab']),
    ('ab cd ef gh', ['ab cd ', 'ef gh']),
    ('abcdefghij', ['abcdef', 'ghij']),
    ('a\n\nb cd\n', ['a\n', '\n', 'b cd\n']),
    ('abcdef\ng', ['abcdef\n', 'g']),  # no line of an arrow alone
    ('a bcdefghi', ['a ', 'bcdefg', 'hi']),
    ('abcd efghij kl', ['abcd ', 'efghij', ' kl']),
  ],
)
def test_lines_end_at_newlines_and_between_words(text, lines):
  assert lines_of(text, 6) == lines
  assert ''.join(lines) == text


def test_what_the_font_lacks_has_a_mark():
  letters = ['a', '\n', '', '\u4e2d', '\x07', '$']
  assert [drawable(x) for x in letters] == [
    'a',
    '↵',
    ' ',
    '\ufffd',
    '\ufffd',
    '$',
  ]


def test_a_row_has_the_colours_of_its_gate(tmp_path):
  letters, changes = [*'ab $é', '', '\n'], np.zeros((7, 2))
  changes[2:4, 0] = 1
  png, svg = tmp_path / 'x.png', tmp_path / 'x.svg'

  text_strips([png, svg], letters, changes, ['i', 'h'])

  with Image.open(png) as picture:
    pixels = np.asarray(picture.convert('RGB')).astype(int)
  dark = (pixels[..., 0] > 100) & (pixels[..., 1] < 30)
  rows, columns = np.nonzero(dark[: len(dark) // 2])  # the scale is below
  height, width = 0.185 * 150, 0.086 * 150
  assert np.ptp(rows) == pytest.approx(height, abs=2)
  assert np.ptp(columns) == pytest.approx(2 * width, abs=2)
  assert columns.min() == pytest.approx((2.5 + 2) * width, abs=2)
  assert svg.read_text().count('<image') == 2 + 1  # rows and the scale


@pytest.mark.parametrize(
  ('letters', 'shape', 'words'),
  [
    ('abc', (2, 4), r'changes \[2, 4\] of 3 letters and 4 gates'),
    ('abc', (3, 1), r'changes \[3, 1\]'),
    ('', (0, 4), r'changes \[0, 4\]'),
    ('\n' * 999, (999, 4), '999 letters are too many'),
  ],
)
def test_what_can_not_be_drawn_is_an_error(tmp_path, letters, shape, words):
  with pytest.raises(ValueError, match=words):
    text_strips([tmp_path / 'x.png'], letters, np.ones(shape), 'igfo')
