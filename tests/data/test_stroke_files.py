import hashlib
import json
import re

import numpy as np
import pytest

from hyperjax.data import pen_lines, stroke_files
from hyperjax.errors import UserError

STROKES = [[[0, 0], [3, 4.5]], [[5, 6]]]


def save(folder, document, name='notes.json'):
  path = folder / name
  path.write_text(
    document if isinstance(document, str) else json.dumps(document)
  )
  return path


def one_line(error):
  message = str(error.value)
  assert message and '\n' not in message
  return message


def assert_same(a, b):
  assert a[:2] == b[:2]
  assert a.points.dtype == b.points.dtype == np.float32
  np.testing.assert_array_equal(a.points, b.points)


# Reading.


def test_y_turns_upwards(tmp_path):
  lines = [{'split': 'test', 'strokes': STROKES}]
  down = [[0, 0, 0], [3, -4.5, 1], [5, -6, 1]]
  up = [[0, 0, 0], [3, 4.5, 1], [5, 6, 1]]
  for document, expected in [
    ({'lines': lines}, down),
    ({'y_axis': 'down', 'lines': lines}, down),
    ({'y_axis': 'up', 'lines': lines}, up),
  ]:
    (line,) = stroke_files.read(save(tmp_path, document))['test']
    assert line.points.dtype == np.float32
    np.testing.assert_array_equal(line.points, expected)
    assert not np.signbit(line.points[0]).any()


def test_the_example_of_the_docstring_is_read(tmp_path):
  example = re.search(
    r'^    \{.*?^    \}$', stroke_files.__doc__, re.DOTALL | re.MULTILINE
  )[0]
  splits = stroke_files.read(save(tmp_path, example))
  (line,) = splits['train']
  assert line[:2] == ('note-1', 'Hello')
  np.testing.assert_array_equal(
    line.points, [[10, -52, 0], [11, -40.5, 1], [30, -41, 0], [31, -44, 1]]
  )


def test_what_may_be_left_out(tmp_path):
  document = {'lines': [{'strokes': STROKES}, {'strokes': STROKES}]}
  splits = stroke_files.read(save(tmp_path, document))
  assert list(splits) == ['train', 'valid', 'test']
  lines = [line for of_split in splits.values() for line in of_split]
  assert sorted(line[:2] for line in lines) == [('line-0', ''), ('line-1', '')]


def test_more_numbers_of_a_point_are_ignored(tmp_path):
  strokes = [[[1, 2, 0.25], [3, 4, 'late', None]]]
  line = stroke_files.read_line(
    save(tmp_path, {'lines': [{'strokes': strokes}]})
  )
  np.testing.assert_array_equal(line.points, [[1, -2, 0], [3, -4, 1]])


def test_empty_strokes_are_left_out(tmp_path):
  strokes = [[], STROKES[0], [], STROKES[1], []]
  line = stroke_files.read_line(
    save(tmp_path, {'lines': [{'strokes': strokes}]})
  )
  np.testing.assert_array_equal(line.points[:, 2], [0, 1, 1])


def test_a_byte_order_mark_and_other_scripts(tmp_path):
  path = tmp_path / 'notes.json'
  document = {'lines': [{'text': 'Ärger', 'strokes': STROKES}]}
  path.write_text(json.dumps(document, ensure_ascii=False), 'utf-8-sig')
  assert stroke_files.read_line(path).text == 'Ärger'


def test_lines_go_to_the_split_they_name(tmp_path):
  lines = [
    {'name': f'{split}{k}', 'split': split, 'strokes': STROKES}
    for k in range(3)
    for split in ('test', 'valid', 'train')
  ]
  splits = stroke_files.read(save(tmp_path, {'lines': lines}))
  for split in ('train', 'valid', 'test'):
    names = [line.name for line in splits[split]]
    assert names == [f'{split}{k}' for k in range(3)]


def test_the_other_lines_are_split_by_their_names(tmp_path):
  names = [f'n{k}' for k in range(2_000)]
  lines = [{'name': name, 'strokes': STROKES} for name in names]
  splits = stroke_files.read(save(tmp_path, {'lines': lines}))
  shares = {split: len(found) / 2_000 for split, found in splits.items()}
  assert shares == pytest.approx(
    {'train': 0.9, 'valid': 0.05, 'test': 0.05}, abs=0.015
  )
  for split, low, high in (
    ('train', 0, 90),
    ('valid', 90, 95),
    ('test', 95, 100),
  ):
    for line in splits[split]:
      digest = hashlib.sha256(line.name.encode()).hexdigest()
      assert low <= int(digest[:16], 16) % 100 < high
  # Other lines beside it, in another order: a line stays where it was.
  again = stroke_files.read(save(tmp_path, {'lines': lines[1_000:0:-1]}))
  for split, found in again.items():
    assert {a.name for a in found} <= {a.name for a in splits[split]}


def test_one_line_by_its_place_in_the_file(tmp_path):
  lines = [
    {'name': name, 'split': split, 'strokes': STROKES}
    for name, split in [('a', 'test'), ('b', 'train'), ('c', 'valid')]
  ]
  path = save(tmp_path, {'lines': lines})
  assert stroke_files.read_line(path).name == 'a'
  assert [stroke_files.read_line(path, k).name for k in range(3)] == [*'abc']
  assert stroke_files.read_line(str(path), 2).name == 'c'
  for index in (3, -1):
    with pytest.raises(UserError) as error:
      stroke_files.read_line(path, index)
    assert one_line(error) == (
      f'{path}: no line {index}; the index must be from 0 to 2'
    )


# Writing.


def random_lines(count):
  rng = np.random.default_rng(0)
  return [
    pen_lines.from_strokes(
      f'ä {k}',
      f'"text"\n{k}',
      [rng.normal(0, 10.0**k, (n, 2)) for n in (3, 1, 7)],
    )
    for k in range(count)
  ]


@pytest.mark.parametrize('y_axis', ['down', 'up'])
def test_lines_are_read_as_they_were_written(tmp_path, y_axis):
  path, lines = tmp_path / 'notes.json', random_lines(8)
  stroke_files.write(path, lines, y_axis)
  assert json.loads(path.read_text())['y_axis'] == y_axis
  for k, line in enumerate(lines):
    assert_same(stroke_files.read_line(path, k), line)


def test_splits_are_read_as_they_were_written(tmp_path):
  path, lines = tmp_path / 'notes.json', random_lines(6)
  splits = {'train': lines[:1], 'valid': lines[1:3], 'test': lines[3:]}
  stroke_files.write(path, splits)
  again = stroke_files.read(path)
  assert list(again) == list(splits)
  for split, of_split in splits.items():
    for a, b in zip(again[split], of_split, strict=True):
      assert_same(a, b)


def test_writing_downward_turns_y(tmp_path):
  path = tmp_path / 'notes.json'
  line = pen_lines.from_strokes('a', 'b', [np.array([[1, 0], [2, -0.1]])])
  stroke_files.write(path, [line])
  assert json.loads(path.read_text()) == {
    'y_axis': 'down',
    'lines': [{'name': 'a', 'text': 'b', 'strokes': [[[1, 0], [2, 0.1]]]}],
  }
  assert line.points[1, 1] == np.float32(-0.1)  # not altered by it


def test_what_could_not_be_read_is_not_written(tmp_path):
  path = tmp_path / 'notes.json'
  good = random_lines(1)
  stroke_files.write(path, good)
  before = path.read_bytes()
  broken = good[0]._replace(points=good[0].points * np.float32(np.nan))
  empty = pen_lines.from_strokes('a', '', [])
  for lines, part in [
    (good * 2, 'line 1: its name'),
    ([broken], 'stroke 0, point 0: a number that is not finite'),
    ([*good, empty], 'line 1: it has no points'),
    ([], '"lines" is an empty list'),
    ({'tests': good}, "did you mean 'test'?"),
  ]:
    with pytest.raises(UserError) as error:
      stroke_files.write(path, lines)
    assert str(path) in one_line(error) and part in one_line(error)
  with pytest.raises(UserError) as error:
    stroke_files.write(path, good, y_axis='upp')
  assert "did you mean 'up'?" in one_line(error)
  assert path.read_bytes() == before


def test_a_file_that_cannot_be_written(tmp_path):
  for path in (tmp_path, tmp_path / 'missing' / 'notes.json'):
    with pytest.raises(UserError) as error:
      stroke_files.write(path, random_lines(1))
    assert str(path) in one_line(error)


# Errors.


def line_with(**keys):
  return {'lines': [{'strokes': STROKES}, {'strokes': STROKES, **keys}]}


def point(value):
  return line_with(strokes=[[], [[0, 0], value]])


NOT_FINITE = 'line 1, stroke 1, point 1: a number that is not finite'


@pytest.mark.parametrize(
  ('document', 'part'),
  [
    ('{"lines": [', 'not JSON (Expecting value: line 1 column 12'),
    pytest.param('[' * 100_000, 'not JSON (', id='deep'),
    ('[]', 'an empty list where an object with "lines" should be'),
    ('3', 'a number where an object'),
    ({}, '"lines" is missing; it must be a list'),
    ({'lines': []}, '"lines" is an empty list; it must be'),
    ({'lines': {}}, '"lines" is an object; it must be'),
    ({'lines': None}, '"lines" is null; it must be'),
    ({'line': []}, "no key 'line'; did you mean 'lines'?"),
    ({**line_with(), 'a\nb': 1}, "no key 'a\\nb'; known: lines, y_axis"),
    ({**line_with(), 'y_axis': 'Down'}, "'Down'; did you mean 'down'?"),
    ({**line_with(), 'y_axis': 1}, '"y_axis" is a number; known: down, up'),
    ({'lines': [STROKES]}, 'line 0: a list where an object'),
    (line_with(stroke=[]), "line 1: no key 'stroke'; did you mean 'strokes'?"),
    (line_with(name=''), 'line 1: "name" is an empty string; give'),
    (line_with(name=7), 'line 1: "name" is a number; give'),
    (line_with(name='line-0'), "line 1: its name 'line-0' is that of line 0"),
    (line_with(text=None), 'line 1: "text" is null; give'),
    (line_with(split='vaild'), 'line 1: "split" is \'vaild\'; did you mean'),
    (line_with(split=['train']), 'line 1: "split" is a list; known: train'),
    (line_with(strokes=None), 'line 1: "strokes" is null; it must be'),
    ({'lines': [{'text': 'a'}]}, 'line 0: "strokes" is missing; it must be'),
    (line_with(strokes=[]), 'line 1: it has no points; take the line away'),
    (line_with(strokes=[[], []]), 'line 1: it has no points; take'),
    (line_with(strokes=[[], 'ab']), 'line 1, stroke 1: a string where a list'),
    (line_with(strokes=[[1, 2]]), 'line 1, stroke 0, point 0: a number where'),
    (point([1]), 'line 1, stroke 1, point 1: 1 numbers where at least 2'),
    (point({'x': 1}), 'stroke 1, point 1: an object where a list should be'),
    (point([1, '2']), 'stroke 1, point 1: a string where a number should be'),
    (point([True, 2]), 'stroke 1, point 1: true where a number should be'),
    (point([None, 2]), 'stroke 1, point 1: null where a number should be'),
    (point([[1, 2], 2]), 'stroke 1, point 1: a list where a number should be'),
    (point([1, float('nan')]), NOT_FINITE),
    (point([float('-inf'), 1]), NOT_FINITE),
    (point([1e39, 1]), NOT_FINITE),
    (point([1, -(10**400)]), NOT_FINITE),
  ],
)
def test_a_bad_file(tmp_path, document, part):
  path = save(tmp_path, document)
  for function in (stroke_files.read, stroke_files.read_line):
    with pytest.raises(UserError) as error:
      function(path)
    message = one_line(error)
    assert message.startswith(str(path)) and part in message


def test_a_file_that_is_no_text(tmp_path):
  path = tmp_path / 'notes.json'
  path.write_bytes(b'\xff\xfe\x00{')
  with pytest.raises(UserError, match='not JSON'):
    stroke_files.read(path)


def test_a_file_that_is_missing_or_empty(tmp_path):
  empty = tmp_path / 'empty.json'
  empty.write_bytes(b'')
  for path in (tmp_path / 'none.json', empty, tmp_path):
    with pytest.raises(UserError) as error:
      stroke_files.read(path)
    assert str(path) in one_line(error)
