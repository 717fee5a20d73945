import numpy as np
import pytest

from hyperjax.evaluation.beam_search import Beams
from hyperjax.evaluation.translate import WIDTH, translate


class Letters:
  """A piece for each letter."""

  PAD, BEGIN, END = 0, 2, 3

  def encode(self, texts):
    return [[ord(c) for c in text] for text in texts]

  def decode(self, ids):
    return ''.join(chr(k) for k in ids if k > 3)

  def names(self, ids):
    return [chr(k) if k > 3 else '.' for k in ids]


def upper(shapes, attention=False):
  """A search that writes capitals; it notes the shapes that it sees."""

  def search(source):
    shapes.append(source.shape)
    symbols = np.where(source > 3, source - 32, source)[:, None]
    lengths = (source > 0).sum(1)[:, None]
    scores = np.zeros(lengths.shape) - lengths
    eye = np.eye(source.shape[1])[None, None].repeat(len(source), 0)
    return Beams(symbols, scores, scores, lengths, eye if attention else None)

  return search


def test_the_order_is_that_of_the_sentences():
  sentences = ['abcdefghij', 'a', '', 'ab', 'abc', 'x']
  shapes = []
  found = translate(upper(shapes), Letters(), sentences, 2)
  assert [t.text for t in found] == [s.upper() for s in sentences]
  assert [t.score for t in found] == [-11, -2, 0, -3, -4, -2]
  assert len(shapes) == 3
  assert {rows for rows, _ in shapes} == {2}
  assert all(width % WIDTH == 0 for _, width in shapes)
  assert sorted(width for _, width in shapes) == [WIDTH, WIDTH, 2 * WIDTH]


def test_pieces_and_attention_are_of_the_sentence_alone():
  [short, _] = translate(
    upper([], attention=True), Letters(), ['ab', 'abcdefgh'], 2
  )
  assert short.source == ['a', 'b', '.']
  assert short.target == ['A', 'B', '.']
  np.testing.assert_array_equal(short.attention, np.eye(3))


@pytest.mark.parametrize('count', [0, 1, 5])
def test_any_number_of_sentences(count):
  found = translate(upper([]), Letters(), ['ab'] * count, 4)
  assert [t.text for t in found] == ['AB'] * count
