"""Pen data of your own: a file of lines in a simple JSON format.

One JSON object holds the lines of a data set, or a few as samples of a style:

    {
      "y_axis": "down",
      "lines": [
        {
          "name": "note-1",
          "text": "Hello",
          "split": "train",
          "strokes": [[[10, 52], [11, 40.5]], [[30, 41], [31, 44]]]
        }
      ]
    }

- `y_axis`: 'down' if y grows downward, as on a screen, or 'up'; 'down' if it
  is left out.
- `lines`: at least one. Of a line only `strokes` must be there:

  - `name`: unique in the file; the k-th line, from 0, is else `line-<k>`.
  - `text`: what the line says; empty if that is not known.
  - `split`: 'train', 'valid' or 'test'. A line without one goes to 90, 5 or 5
    of 100 by a hash of its name, so that it stays where it is as others come.
  - `strokes`: in the order of writing, each a list of points from pen down to
    pen up. A point is [x, y], in any unit; what may follow, such as a time,
    is ignored. A stroke without points is left out. For a sample of a style
    the unit, and the time between two points, are those of the data that the
    model was trained on: in IAM-OnDB, a pen moves by about 18 between two.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hyperjax.data import pen_lines
from hyperjax.data.files import read_bytes
from hyperjax.data.pen_lines import Line
from hyperjax.errors import UserError, did_you_mean

SPLITS = ('train', 'valid', 'test')
Y_AXES = ('down', 'up')
FILE_KEYS = ('y_axis', 'lines')
LINE_KEYS = ('name', 'text', 'split', 'strokes')
LARGEST = float(np.finfo(np.float32).max)


class _Entry(NamedTuple):
  """A line and its split, which is 'train', 'valid' or 'test'."""

  split: str
  line: Line


def read(path: str | os.PathLike) -> dict[str, list[Line]]:
  """Reads a file of lines.

  Returns:
    The lines of 'train', 'valid' and 'test', each in the order of the file,
    with points float32 [N, 3] and y upwards. A small file may leave a split
    empty.

  Raises:
    UserError: names the file, and the line and stroke that is wrong.
  """
  splits = {split: [] for split in SPLITS}
  for split, line in _read_entries(pathlib.Path(path)):
    splits[split].append(line)
  return splits


def read_line(path: str | os.PathLike, index: int = 0) -> Line:
  """Reads one line, as a sample of a style.

  Args:
    path: the file; all of it must be right.
    index: of the line in the file, from 0, whatever its split.

  Raises:
    UserError: see `read`; or there is no such line.
  """
  entries = _read_entries(pathlib.Path(path))
  if not 0 <= index < len(entries):
    raise UserError(
      f'{path}: no line {index}; the index must be from 0 to {len(entries) - 1}'
    )
  return entries[index].line


def write(
  path: str | os.PathLike,
  lines: Sequence[Line] | Mapping[str, Sequence[Line]],
  y_axis: str = 'down',
) -> None:
  """Writes lines so that `read` gives the same ones.

  Args:
    path: of the file, which is replaced if it is there.
    lines: in their order, or by their split.
    y_axis: of the file: 'down' or 'up'. The lines have y upwards in any case.

  Raises:
    UserError: an argument is what `read` would not take, or the file cannot be
      written.
  """
  path = pathlib.Path(path)
  _check_y_axis(path, y_axis)
  if isinstance(lines, Mapping):
    entries = [
      {'split': split, **_to_json(line, y_axis)}
      for split, of_split in lines.items()
      for line in of_split
    ]
  else:
    entries = [_to_json(line, y_axis) for line in lines]
  document = {'y_axis': y_axis, 'lines': entries}
  _parse(path, document)  # before anything is overwritten
  # A line of the file for each line of writing.
  rows = ',\n'.join(json.dumps(entry) for entry in entries)
  content = f'{{"y_axis": "{y_axis}", "lines": [\n{rows}\n]}}\n'
  try:
    path.write_text(content, encoding='utf-8')
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}') from error


def _read_entries(path) -> list[_Entry]:
  content = read_bytes(path)
  try:
    document = json.loads(content.decode('utf-8-sig'))
  except (ValueError, RecursionError) as error:
    reason = str(error).split('\n')[0]
    raise UserError(
      f'{path}: not JSON ({reason}); the format is described in '
      f'hyperjax/data/stroke_files.py'
    ) from error
  return _parse(path, document)


def _parse(path, document) -> list[_Entry]:
  if not isinstance(document, dict):
    raise UserError(
      f'{path}: {_kind(document)} where an object with "lines" should be'
    )
  _check_keys(path, document, FILE_KEYS)
  y_axis = document.get('y_axis', 'down')
  _check_y_axis(path, y_axis)
  lines = document.get('lines')
  if not isinstance(lines, list) or not lines:
    found = _kind(lines) if 'lines' in document else 'missing'
    raise UserError(
      f'{path}: "lines" is {found}; it must be a list of at least one line'
    )
  entries, places = [], {}
  for index, line in enumerate(lines):
    where = f'{path}, line {index}'
    entry = _parse_line(where, line, index, y_axis)
    first = places.setdefault(entry.line.name, index)
    if first != index:
      raise UserError(
        f'{where}: its name {entry.line.name!r} is that of line {first}, too; '
        f'give each line a name of its own'
      )
    entries.append(entry)
  return entries


def _parse_line(where, line, index, y_axis) -> _Entry:
  if not isinstance(line, dict):
    raise UserError(
      f'{where}: {_kind(line)} where an object with "strokes" should be'
    )
  _check_keys(where, line, LINE_KEYS)
  name = line.get('name', f'line-{index}')
  if not isinstance(name, str) or not name:
    raise UserError(
      f'{where}: "name" is {_kind(name)}; give a string, or leave it out'
    )
  text = line.get('text', '')
  if not isinstance(text, str):
    raise UserError(
      f'{where}: "text" is {_kind(text)}; give a string, or leave it out'
    )
  split = line.get('split', _hashed_split(name))
  if split not in SPLITS:
    raise UserError(f'{where}: "split" {_not_one_of(split, SPLITS)}')
  strokes = _parse_strokes(where, line, y_axis)
  return _Entry(split, pen_lines.from_strokes(name, text, strokes))


def _parse_strokes(where, line, y_axis) -> list[np.ndarray]:
  """The strokes, [n, 2] with y upwards; at least one has points."""
  strokes = line.get('strokes')
  if not isinstance(strokes, list):
    found = _kind(strokes) if 'strokes' in line else 'missing'
    raise UserError(
      f'{where}: "strokes" is {found}; it must be a list of lists of points'
    )
  arrays = []
  for number, stroke in enumerate(strokes):
    if not isinstance(stroke, list):
      raise UserError(
        f'{where}, stroke {number}: {_kind(stroke)} where a list of points '
        f'should be'
      )
    for place, point in enumerate(stroke):
      fault = _fault(point)
      if fault:
        raise UserError(
          f'{where}, stroke {number}, point {place}: {fault}; a point is '
          f'[x, y] of finite numbers'
        )
    xy = np.array([point[:2] for point in stroke], float).reshape(-1, 2)
    # Taken from 0 so that there is no -0.
    arrays.append(
      xy if y_axis == 'up' else np.stack([xy[:, 0], 0 - xy[:, 1]], 1)
    )
  if not any(map(len, arrays)):
    raise UserError(f'{where}: it has no points; take the line away')
  return arrays


def _fault(point) -> str:
  """What is wrong with a point; empty if nothing is."""
  if not isinstance(point, list):
    return f'{_kind(point)} where a list should be'
  if len(point) < 2:
    return f'{len(point)} numbers where at least 2 should be'
  for value in point[:2]:
    if isinstance(value, bool) or not isinstance(value, int | float):
      return f'{_kind(value)} where a number should be'
    # Compared as it is: a whole number may be too large for a float.
    if not -LARGEST <= value <= LARGEST:
      return 'a number that is not finite, or too large'
  return ''


def _hashed_split(name) -> str:
  """A split by the name alone, so that it is the same on every machine."""
  digest = hashlib.sha256(name.encode('utf-8', 'surrogatepass')).digest()
  share = int.from_bytes(digest[:8], 'big') % 100
  return 'train' if share < 90 else 'valid' if share < 95 else 'test'


def _check_keys(where, found, known):
  for key in found:
    if key not in known:
      raise UserError(f'{where}: no key {key!r}{did_you_mean(key, known)}')


def _check_y_axis(path, y_axis):
  if y_axis not in Y_AXES:
    raise UserError(f'{path}: "y_axis" {_not_one_of(y_axis, Y_AXES)}')


def _not_one_of(value, known):
  if isinstance(value, str):
    return f'is {value!r}{did_you_mean(value, known)}'
  return f'is {_kind(value)}; known: {", ".join(known)}'


def _kind(value) -> str:
  """What a value of JSON is, for messages: never the long value itself."""
  if value is None:
    return 'null'
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, int | float):
    return 'a number'
  if isinstance(value, str):
    return 'a string' if value else 'an empty string'
  if isinstance(value, list):
    return 'a list' if value else 'an empty list'
  return 'an object'


def _to_json(line, y_axis):
  points = np.array(line.points, np.float32)
  if y_axis == 'down':
    points[:, 1] = 0 - points[:, 1]
  lifts = np.flatnonzero(points[:, 2]) + 1
  strokes = np.split(points[:, :2], lifts)
  return {
    'name': line.name,
    'text': line.text,
    'strokes': [
      [[_number(x), _number(y)] for x, y in stroke]
      for stroke in strokes
      if len(stroke)
    ],
  }


def _number(value: np.float32) -> int | float:
  """The shortest number that is read as the same float32."""
  shortest = float(str(value))
  return int(shortest) if shortest.is_integer() else shortest
