import pathlib
import string
from xml.etree import ElementTree

import numpy as np
import pytest

from hyperjax.data import pen_font
from hyperjax.errors import UserError

SIZES = {'num_train': 150, 'num_valid': 10, 'num_test': 9}
LISTS = {'trainset': 150, 'testset_v': 10, 'testset_t': 10, 'testset_f': 9}


@pytest.fixture(scope='module')
def drawn():
  return pen_font.lines(**SIZES)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('raw') / 'new'
  pen_font.write_raw(folder, **SIZES)
  return folder


def same(a, b):
  return a[:2] == b[:2] and np.array_equal(a.points, b.points)


def every(drawn):
  return [line for of_list in drawn.values() for line in of_list]


def moves(line):
  """Lengths of the moves within strokes, and of those between them."""
  lengths = np.hypot(*np.diff(line.points[:, :2], axis=0).T)
  lifted = line.points[:-1, 2] == 1
  return lengths[~lifted], lengths[lifted]


def one_line(error):
  message = str(error.value)
  assert message and '\n' not in message
  return message


# Texts.


def test_the_lists_have_the_lines_asked_for(drawn):
  assert {name: len(of_list) for name, of_list in drawn.items()} == LISTS
  names = [line.name for line in every(drawn)]
  assert len(set(names)) == len(names)


def test_no_text_comes_twice(drawn):
  texts = [line.text for line in every(drawn)]
  assert len(set(texts)) == len(texts)


def test_nothing_is_said_twice_even_with_few_words(monkeypatch):
  monkeypatch.setattr(pen_font, 'SENTENCES', ('NAME VERB the ADJ MANY.',))
  few = {kind: words[:9] for kind, words in pen_font.WORDS.items()}
  monkeypatch.setattr(pen_font, 'WORDS', few)
  seen = pen_font._Seen(set(), set())
  rng = np.random.RandomState(0)
  said = [pen_font._sentence(seen, rng) for _ in range(1_000)]
  assert len(set(said)) == 1_000
  texts = [
    text for k in range(2) for _, text in pen_font._texts(k, 500, seen, rng)
  ]
  assert len(set(texts)) == 1_000


def test_texts_are_plain_lines_of_varied_english(drawn):
  texts = [line.text for line in every(drawn)]
  assert all(15 <= len(text) <= 33 for text in texts)
  used = set(''.join(texts))
  assert used >= set(string.ascii_lowercase + string.digits + ' .,?!')
  assert len(used & set(string.ascii_uppercase)) > 15
  assert used <= set(string.ascii_letters + string.digits + ' .,;?!:()"\'-')
  # No place of a sentence was left without its word.
  kinds = {*pen_font.WORDS, 'NUM', 'YEAR'}
  assert not {word.strip('.,?!:()"') for t in texts for word in t.split()} & (
    kinds
  )


def test_every_character_of_every_sentence_has_a_glyph():
  words = [word for words in pen_font.WORDS.values() for word in words]
  needed = set(''.join([*pen_font.SENTENCES, *words]) + string.digits) - {' '}
  for face in (pen_font.PRINT, pen_font.SCRIPT):
    glyphs = pen_font._glyphs(face)
    assert all(glyphs[letter].strokes for letter in needed)


# The pen.


def test_the_same_seed_gives_the_same_lines(drawn):
  again = pen_font.lines(**SIZES)
  for a, b in zip(every(drawn), every(again), strict=True):
    assert same(a, b)


def test_another_seed_gives_others(drawn):
  others = every(pen_font.lines(num_train=20, num_valid=0, num_test=0, seed=1))
  texts = {line.text for line in every(drawn)}
  assert sum(line.text in texts for line in others) < 3


def test_the_first_lines_do_not_depend_on_how_many_there_are(drawn):
  few = pen_font.lines(num_train=10, num_valid=0, num_test=0)
  assert few['testset_f'] == []
  for a, b in zip(few['trainset'], drawn['trainset'], strict=False):
    assert same(a, b)


def test_texts_and_hands_stay_what_they_were(drawn):
  """Results on these lines can be compared only while they are the same."""
  first = drawn['trainset'][0]
  assert first.text == 'In 1726 the yard of Oxford was'
  # Another machine's sine may change a coordinate by one unit.
  np.testing.assert_allclose(
    first.points[:3],
    [[1092, -1156, 0], [1079, -1147, 0], [1065, -1130, 0]],
    atol=1,
  )


def test_points_are_whole_numbers_with_a_lift_at_the_end(drawn):
  for line in every(drawn):
    points = line.points
    assert points.dtype == np.float32 and points.shape[1] == 3
    assert np.array_equal(points, np.rint(points))
    assert set(points[:, 2]) == {0, 1} and points[-1, 2] == 1


def test_points_lie_as_close_as_those_of_iam_ondb(drawn):
  within = np.concatenate([moves(line)[0] for line in every(drawn)])
  assert 16 < np.median(within) < 20
  assert np.percentile(within, 10) < 14  # slower at bends
  assert within.max() < 60
  between = np.concatenate([moves(line)[1] for line in every(drawn)])
  assert 80 < np.median(between) < 250


def test_lines_are_as_long_as_those_of_iam_ondb(drawn):
  counts = np.array([len(line.points) for line in every(drawn)])
  assert 450 < np.median(counts) < 650
  assert np.mean((counts > 300) & (counts < 900)) > 0.9
  widths = np.array([np.ptp(line.points[:, 0]) for line in every(drawn)])
  assert np.mean((widths > 2_500) & (widths < 5_500)) > 0.9


def test_a_full_stop_is_at_the_right_and_below():
  for k in range(20):
    line = pen_font._draw('x', 'hhh .', np.random.RandomState(k))
    strokes = np.split(line.points, np.flatnonzero(line.points[:, 2])[:-1] + 1)
    letters, stop = np.concatenate(strokes[:-1]), strokes[-1]
    assert stop[:, 0].min() > letters[:, 0].max()
    assert stop[:, 1].max() < np.median(letters[:, 1])


def test_hands_differ():
  """The same text takes another shape with each hand."""
  drawn = [
    pen_font._draw('x', 'the quick fox', np.random.RandomState(k)).points
    for k in range(30)
  ]
  heights = [np.ptp(points[:, 1]) for points in drawn]
  widths = [np.ptp(points[:, 0]) for points in drawn]
  lifts = {int(points[:, 2].sum()) for points in drawn}
  assert np.std(heights) > 0.1 * np.mean(heights)
  assert np.std(widths) > 0.1 * np.mean(widths)
  assert max(lifts) - min(lifts) >= 4


def test_a_pen_stays_down_where_it_was():
  stem = np.array([[0.0, 0.0], [0.0, 10.0]])
  arch = np.array([[0.5, 5.0], [5.0, 8.0]])
  bar = np.array([[-5.0, 14.0], [5.0, 14.0]])
  assert [len(group) for group in pen_font._join([stem, arch], 1.0)] == [2]
  groups = pen_font._join([stem, bar, arch], 1.0)
  assert [len(group) for group in groups] == [1, 1, 1]


# Files.


def test_files_are_the_same_lines(drawn, folder):
  for name, of_list in drawn.items():
    forms = (folder / f'{name}.txt').read_text().split()
    assert forms == sorted({line.name[:-3] for line in of_list})
    for line in of_list:
      path = f'{line.name[:3]}/{line.name[:7]}'
      root = ElementTree.parse(
        folder / 'lineStrokes' / path / f'{line.name}.xml'
      ).getroot()
      assert root.tag == 'WhiteboardCaptureSession'
      points, texts = [], (folder / 'ascii' / path / f'{line.name[:-3]}.txt')
      for stroke in root.findall('StrokeSet/Stroke'):
        found = stroke.findall('Point')
        points += [
          [int(p.get('x')), -int(p.get('y')), p is found[-1]] for p in found
        ]
        assert stroke.get('start_time') == found[0].get('time')
        assert stroke.get('end_time') == found[-1].get('time')
      np.testing.assert_array_equal(points, line.points)
      heading, _, rows = texts.read_text('iso-8859-1').partition('\nCSR:\n\n')
      assert heading.startswith('OCR:\n\n')
      assert rows.splitlines()[int(line.name[-2:]) - 1] == line.text


def test_each_file_of_strokes_is_in_a_list_and_has_a_row_of_text(folder):
  counts = []
  for texts in folder.glob('ascii/*/*/*.txt'):
    rows = texts.read_text().partition('\nCSR:\n\n')[2].splitlines()
    place = folder / 'lineStrokes' / texts.parent.relative_to(folder / 'ascii')
    assert sorted(place.glob(f'{texts.stem}-*.xml')) == [
      place / f'{texts.stem}-{k + 1:02}.xml' for k in range(len(rows))
    ]
    counts.append(len(rows))
  assert sum(counts) == sum(LISTS.values())
  assert set(counts) >= {6, 7, 8} and max(counts) == 8
  assert len(list(folder.glob('lineStrokes/*/*/*'))) == sum(counts)


def test_a_file_is_laid_out_as_those_of_iam_ondb(drawn, folder):
  first = folder / 'lineStrokes' / 's00' / 's00-000' / 's00-000a-01.xml'
  content = first.read_text('iso-8859-1')
  assert content.startswith('<?xml version="1.0" encoding="ISO-8859-1"?>\n')
  root = ElementTree.fromstring(content.encode('iso-8859-1'))
  about = root.find('WhiteboardDescription')
  assert about.find('SensorLocation').get('corner') == 'top_left'
  x, y, _ = (drawn['trainset'][0].points * [1, -1, 1]).T
  assert min(x) > 0 and min(y) > 0
  for tag, right, low in (
    ('Diagonally', x.max(), y.max()),
    ('Vertically', x.min(), y.max()),
    ('Horizontally', x.max(), y.min()),
  ):
    coords = about.find(f'{tag}OppositeCoords')
    assert (int(coords.get('x')), int(coords.get('y'))) == (right, low)
  assert root.find('StrokeSet/Stroke').get('colour') == 'black'
  times = [float(p.get('time')) for p in root.iter('Point')]
  np.testing.assert_allclose(np.diff(times), 0.01, atol=1e-9)


def test_the_folder_says_that_nobody_wrote_it(folder):
  assert 'no person wrote' in (folder / 'SYNTHETIC').read_text()


# Errors.


def test_a_folder_with_files_is_left_alone(tmp_path):
  (tmp_path / 'trainset.txt').write_text('a01-000')
  with pytest.raises(UserError) as error:
    pen_font.write_raw(tmp_path, num_train=1)
  assert str(tmp_path) in one_line(error)
  assert (tmp_path / 'trainset.txt').read_text() == 'a01-000'
  assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made(tmp_path):
  file = tmp_path / 'file'
  file.write_text('')
  for folder in (file, file / 'inside'):
    with pytest.raises(UserError) as error:
      pen_font.write_raw(folder, num_train=1, num_valid=0, num_test=0)
    assert str(file) in one_line(error)


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('num_train', -1),
    ('num_valid', 100_001),
    ('num_test', -5),
    ('seed', -1),
    ('seed', 2**32),
  ],
)
def test_a_number_out_of_range(name, value):
  with pytest.raises(UserError) as error:
    pen_font.lines(**{**SIZES, name: value})
  assert one_line(error).startswith(f'{name} is {value}; ')


def test_nothing_is_written_for_a_bad_number(tmp_path):
  with pytest.raises(UserError):
    pen_font.write_raw(tmp_path / 'new', num_train=-1)
  assert not pathlib.Path(tmp_path / 'new').exists()
