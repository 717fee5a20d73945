"""Recordings of pen strokes, and how errors in them are mended."""

import os
import subprocess
import sys

import numpy as np
import pytest

from hyperjax.data import whiteboard
from hyperjax.data.whiteboard import Damage, mend, parse, parse_all, shorten
from tests.iam_layout import xml


def mended(*points):
  strokes, errors = mend(np.array(points, np.float64))
  return [stroke.tolist() for stroke in strokes], errors


def test_points_are_as_recorded_with_y_upwards():
  recording = parse(xml([[(5, 7), (6, 9)], [(8, 0)]]))
  np.testing.assert_array_equal(
    recording.points, [[5, -7, 0], [6, -9, 1], [8, 0, 1]]
  )
  assert recording.points.dtype == np.float32
  assert not np.signbit(recording.points[2, 1])
  assert recording[1:] == (0, 0, 0, 0)


def test_the_declared_encoding_is_read():
  content = xml([[(1, 2)]]).replace(b'"black"', b'"\xe9"')
  assert len(parse(content).points) == 1


def test_an_empty_stroke_is_dropped_and_counted():
  recording = parse(xml([[], [(1, 2)], [], [(3, 4)]]))
  assert recording.points.tolist() == [[1, -2, 1], [3, -4, 1]]
  assert recording.empty_strokes == 2


@pytest.mark.parametrize('count', [1, 2, 3])
def test_a_few_points_far_away_are_errors(count):
  bad = [(5_000, -4_000), (9_000, 0), (5_000, 5_000)][:count]
  strokes, errors = mended((-10, 0), (0, 0), *bad, (120, 240), (130, 240))
  assert errors == count
  ((*head, _, _),) = strokes
  between = [
    [120 * k / (count + 1), 240 * k / (count + 1)] for k in range(1, count + 1)
  ]
  np.testing.assert_allclose(head, [[-10, 0], [0, 0], *between])
  assert len(strokes[0]) == 4 + count


def test_more_points_far_away_are_a_stroke():
  away = [(1_000 + k, 0) for k in range(4)]
  assert mended((0, 0), *away, (10, 0)) == (
    [[[0, 0]], [[x, 0] for x, _ in away], [[10, 0]]],
    0,
  )


def test_points_far_away_at_the_end_are_no_errors():
  assert mended((0, 0), (10, 0), (1_000, 0)) == (
    [[[0, 0], [10, 0]], [[1_000, 0]]],
    0,
  )


def test_the_way_back_is_measured_from_the_last_good_point():
  # It comes back near the bad point, and not near the good one.
  assert mended((0, 0), (310, 0), (320, 0))[0] == [
    [[0, 0]],
    [[310, 0], [320, 0]],
  ]
  # A stroke may go far by small steps, and errors are far from where it is.
  strokes, errors = mended((0, 0), (300, 0), (600, 0), (0, 0), (700, 0))
  assert strokes == [[[0, 0], [300, 0], [600, 0], [650, 0], [700, 0]]]
  assert errors == 1


def test_a_move_of_exactly_the_limit_is_good():
  assert mended((0, 0), (180, 240), (180, 540)) == (
    [[[0, 0], [180, 240], [180, 540]]],
    0,
  )
  assert len(mended((0, 0), (0, 300.5))[0]) == 2


def test_errors_one_after_the_other_are_all_found():
  strokes, errors = mended((0, 0), (999, 0), (20, 0), (0, 999), (40, 0))
  assert strokes == [[[0, 0], [10, 0], [20, 0], [30, 0], [40, 0]]]
  assert errors == 2


def test_a_long_move_of_the_lifted_pen_is_shortened():
  strokes = [
    np.array(stroke, np.float64)
    for stroke in (
      [[0, 0], [5, 5]],
      [[1_505, 1_005]],  # x is 500 too far, y is just right
      [[1_505, 0], [1_506, 0]],
      [[6, -2_000]],  # 500 too far to the left, 1,000 too far up
      [[7, -2_000]],
    )
  ]
  shortened, count = shorten(strokes)
  assert count == 3
  assert [stroke.tolist() for stroke in shortened] == [
    [[0, 0], [5, 5]],
    [[1_005, 1_005]],
    [[1_005, 5], [1_006, 5]],
    [[6, -995]],
    [[7, -995]],
  ]
  assert shorten([np.zeros((1, 2))])[1] == 0


def test_a_recording_is_mended_and_counts_it():
  recording = parse(
    xml([[(0, 0), (900, 0), (10, 0)], [(20, 0), (3_020, 0)], [(3_030, 0)]])
  )
  assert recording.points.tolist() == [
    [0, 0, 0],
    [5, 0, 0],
    [10, 0, 1],
    [20, 0, 1],
    [1_020, 0, 1],
    [1_030, 0, 1],
  ]
  assert recording.errors_interpolated == 1
  assert recording.strokes_split == 1
  assert recording.pen_up_moves_shortened == 1


@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    (xml([[(1, 2)]])[:-9], 'is malformed XML'),
    (b'', 'is malformed XML'),
    (b'<Other><StrokeSet/></Other>', 'is not a WhiteboardCaptureSession'),
    (b'<WhiteboardCaptureSession/>', 'is not a WhiteboardCaptureSession'),
    (xml([[(1, 'two')]]), "has a point at x='1' y='two'"),
    (xml([[('nan', 2)]]), "has a point at x='nan'"),
    (xml([[('1e9', 2)]]), "has a point at x='1e9'"),
    (xml([[(1, 2)]]).replace(b' y="2"', b''), "has a point at x='1' y=None"),
    (xml([[], []]), 'has no point'),
    (xml([]), 'has no point'),
    (b'<?xml version="1.0" encoding="none"?><a/>', 'none'),
  ],
)
def test_what_is_no_recording_is_damage(content, reason):
  damage = parse(content)
  assert isinstance(damage, Damage)
  assert reason in damage.reason
  assert '\n' not in damage.reason


def test_a_file_that_can_not_be_read_is_damage(tmp_path):
  assert parse(tmp_path / 'none.xml') == Damage(
    'can not be read (No such file or directory)'
  )


def test_few_files_start_no_processes(monkeypatch):
  monkeypatch.setattr(whiteboard, 'ProcessPoolExecutor', None)
  contents = [xml([[(k, 0)]]) for k in range(200)]
  points = [recording.points[0, 0] for recording in parse_all(contents)]
  assert points == list(range(200))


def test_many_files_are_parsed_by_processes_in_their_order(monkeypatch):
  def here(content):
    raise AssertionError('parsed in this process')

  monkeypatch.setattr(whiteboard.os, 'cpu_count', lambda: 2)
  monkeypatch.setattr(whiteboard, 'parse', here)
  contents = [xml([[(k, 0)]]) for k in range(700)]
  points = [recording.points[0, 0] for recording in parse_all(contents)]
  assert points == list(range(700))


def test_a_script_without_a_guard_is_served_too(tmp_path, repository):
  # Each process that it starts runs it anew, and must not start more.
  script = tmp_path / 'script.py'
  script.write_text(
    'from hyperjax.data import whiteboard\n'
    'whiteboard.os.cpu_count = lambda: 2\n'
    f'xml = {xml([[(123, 0)]])!r}\n'
    'contents = [xml.replace(b"123", b"%d" % k) for k in range(700)]\n'
    'points = [r.points[0, 0] for r in whiteboard.parse_all(contents)]\n'
    'print(points == list(range(700)))\n'
  )
  done = subprocess.run(
    [sys.executable, script],
    env={**os.environ, 'PYTHONPATH': str(repository)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == 'True\n'


def test_where_no_processes_can_be_had_it_goes_on(monkeypatch):
  def none(*_):
    raise OSError('no semaphores')

  monkeypatch.setattr(whiteboard.os, 'cpu_count', lambda: 2)
  monkeypatch.setattr(whiteboard, 'ProcessPoolExecutor', none)
  contents = [xml([[(k, 0)]]) for k in range(600)]
  points = [recording.points[0, 0] for recording in parse_all(contents)]
  assert points == list(range(600))


def test_the_workers_import_neither_jax_nor_tfds(repository):
  code = (
    'import sys, hyperjax.data.whiteboard, hyperjax.data.iam_files\n'
    'print({"jax", "tensorflow_datasets"} & sys.modules.keys())'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'PYTHONPATH': str(repository)},
    capture_output=True,
    text=True,
  )
  assert done.stdout == 'set()\n'


BOMB = ''.join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 9))


@pytest.mark.parametrize(
  ('declarations', 'use'),
  [
    (f'<!ENTITY l0 "1">{BOMB}', '&l8;'),
    ('<!ENTITY x SYSTEM "file:///etc/passwd">', '&x;'),
    ('<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;', '1'),
    ('', '1'),
  ],
)
@pytest.mark.parametrize('encoding', ['latin-1', 'utf-16'])
def test_entities_are_refused_unread(declarations, use, encoding):
  text = xml([[(use, 2)], [(3, use)]]).decode()
  head, _, rest = text.partition('\n')
  head = head.replace('ISO-8859-1', encoding)
  text = f'{head}<!DOCTYPE a [{declarations}]>{rest}'
  damage = parse(text.encode(encoding))
  assert isinstance(damage, Damage)
  assert damage.reason.startswith('declares a DOCTYPE')


def test_strokes_within_strokes_do_not_count_twice():
  # Each would else have all points of those in it: the square of the file.
  depth = 2_000
  content = xml([]).replace(
    b'</StrokeSet>',
    b'<Stroke><Point x="1" y="2"/>' * depth
    + b'</Stroke>' * depth
    + b'</StrokeSet>',
  )
  assert len(parse(content).points) == 1


def test_a_file_that_is_far_too_long_is_damage(tmp_path, monkeypatch):
  monkeypatch.setattr(whiteboard, 'LARGEST', 100)
  content = xml([[(1, 2)]])
  (tmp_path / 'a.xml').write_bytes(content)
  for file in (content, tmp_path / 'a.xml'):
    assert 'more than the 100 bytes' in parse(file).reason


def test_a_long_coordinate_is_not_repeated():
  assert len(parse(xml([[('9' * 10**5, 2)]])).reason) < 200
