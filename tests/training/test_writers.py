import json
import math
import os

import pytest
from tensorboardX.proto.event_pb2 import Event

from hyperjax.errors import UserError
from hyperjax.training.writers import MetricsWriter, read_metrics


def lines_of(workdir):
  return (workdir / 'metrics.jsonl').read_bytes().splitlines()


def test_lines_are_appended_and_read_back(tmp_path):
  writer = MetricsWriter(tmp_path)
  writer.write(10, {'train/loss_nats': 1.25, 'train/steps_per_second': 3})
  writer.write(20, {'valid/bits_per_char': 0.1})
  writer.close()
  assert read_metrics(tmp_path) == [
    {'step': 10, 'train/loss_nats': 1.25, 'train/steps_per_second': 3},
    {'step': 20, 'valid/bits_per_char': 0.1},
  ]
  assert lines_of(tmp_path)[1] == b'{"step": 20, "valid/bits_per_char": 0.1}'


def test_numbers_keep_all_their_digits(tmp_path):
  value = 1.0 / 3.0
  writer = MetricsWriter(tmp_path)
  writer.write(1, {'x': value, 'y': 1e-300})
  writer.close()
  assert read_metrics(tmp_path) == [{'step': 1, 'x': value, 'y': 1e-300}]


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_what_json_has_no_number_for_is_null(tmp_path, value):
  writer = MetricsWriter(tmp_path)
  writer.write(1, {'x': value, 'y': 2.0})
  writer.close()
  assert lines_of(tmp_path) == [b'{"step": 1, "x": null, "y": 2.0}']
  assert read_metrics(tmp_path) == [{'step': 1, 'x': None, 'y': 2.0}]


def test_flush_returns_the_length_of_the_file(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  writer = MetricsWriter(tmp_path)
  assert writer.flush() == 0
  for step in range(1, 4):
    writer.write(step, {'x': 0.5})
    assert writer.flush() == path.stat().st_size
    assert len(read_metrics(tmp_path)) == step  # on disk before it is closed
  writer.close()


def test_an_unfinished_run_begins_its_file_anew(tmp_path):
  for _ in range(2):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {'x': 1.0})
    writer.close()
  assert read_metrics(tmp_path) == [{'step': 1, 'x': 1.0}]


def test_resuming_keeps_the_recorded_length_and_goes_on(tmp_path):
  writer = MetricsWriter(tmp_path)
  writer.write(1, {'x': 1.0})
  writer.write(2, {'x': 2.0})
  length = writer.flush()
  writer.write(3, {'x': 3.0})
  writer.write(4, {'x': 4.0})
  writer.close()
  kept = (tmp_path / 'metrics.jsonl').read_bytes()[:length]

  writer = MetricsWriter(tmp_path, length, step=2)
  assert writer.flush() == length
  assert (tmp_path / 'metrics.jsonl').read_bytes() == kept
  writer.write(3, {'x': 30.0})
  writer.close()
  assert (tmp_path / 'metrics.jsonl').read_bytes().startswith(kept)
  assert read_metrics(tmp_path) == [
    {'step': 1, 'x': 1.0},
    {'step': 2, 'x': 2.0},
    {'step': 3, 'x': 30.0},
  ]


def test_a_file_shorter_than_recorded_is_not_filled_up(tmp_path):
  writer = MetricsWriter(tmp_path)
  writer.write(1, {'x': 1.0})
  length = writer.flush()
  writer.close()
  writer = MetricsWriter(tmp_path, length + 1_000, step=1)
  assert writer.flush() == length
  writer.close()
  assert b'\0' not in (tmp_path / 'metrics.jsonl').read_bytes()


def test_a_file_that_is_gone_is_begun(tmp_path):
  writer = MetricsWriter(tmp_path, length=100, step=5)
  writer.write(6, {'x': 1.0})
  writer.close()
  assert read_metrics(tmp_path) == [{'step': 6, 'x': 1.0}]


def test_a_last_line_that_is_cut_off_is_left_out(tmp_path):
  first, second = b'{"step": 1, "x": 1.0}\n', b'{"step": 2, "x": 2.0}\n'
  path = tmp_path / 'metrics.jsonl'
  expected = [{'step': 1, 'x': 1.0}]
  for cut in range(len(second)):
    path.write_bytes(first + second[:cut])
    assert read_metrics(tmp_path) == expected
  path.write_bytes(first + second)
  assert read_metrics(tmp_path) == [*expected, {'step': 2, 'x': 2.0}]


def test_an_empty_file_has_no_metrics(tmp_path):
  (tmp_path / 'metrics.jsonl').touch()
  assert read_metrics(tmp_path) == []


def test_each_line_is_an_object_of_its_own(tmp_path):
  writer = MetricsWriter(tmp_path)
  for step in range(100):
    writer.write(step, {'train/loss_nats': step / 7})
  writer.close()
  parsed = [json.loads(line) for line in lines_of(tmp_path)]
  assert [line['step'] for line in parsed] == list(range(100))


def test_tensorboard_gets_the_same_numbers(tmp_path):
  writer = MetricsWriter(tmp_path)
  writer.write(7, {'train/loss_nats': 0.5, 'train/grad_norm': 2.0})
  writer.close()
  (path,) = tmp_path.glob('events.out.tfevents.*')
  content, events = path.read_bytes(), []
  while content:  # length, its checksum (4 bytes), event, its checksum
    size = int.from_bytes(content[:8], 'little')
    events.append(Event.FromString(content[12 : 12 + size]))
    content = content[16 + size :]
  values = [(e.step, v) for e in events for v in e.summary.value]
  assert {(step, v.tag, v.simple_value) for step, v in values} == {
    (7, 'train/loss_nats', 0.5),
    (7, 'train/grad_norm', 2.0),
  }


@pytest.mark.parametrize(
  'line',
  [
    *(b'[1]', b'{"x": 1.0}', b'{"step": "1"}', b'{"step": 1, "x": "a"}'),
    *(b'{"step": true}', b'\xff', b'{', b'[' * 100_000, b''),
  ],
)
def test_a_damaged_line_is_named(tmp_path, line):
  content = b'{"step": 1, "x": 1.0}\n' + line + b'\n'
  (tmp_path / 'metrics.jsonl').write_bytes(content)
  with pytest.raises(UserError, match=r'metrics.jsonl: line 2 is damaged'):
    read_metrics(tmp_path)


def test_a_flush_reaches_the_disk(tmp_path, monkeypatch):
  writer, synced = MetricsWriter(tmp_path), []
  monkeypatch.setattr(os, 'fsync', synced.append)
  writer.write(1, {'x': 1.0})
  assert writer.flush() == os.fstat(synced[0]).st_size > 0
  writer.close()
