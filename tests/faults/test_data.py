"""Data that fails under the run, workers that die, clocks that jump."""

import itertools
import multiprocessing
import os
import random
import shutil
import time

import numpy as np
import pytest

from hyperjax import run
from hyperjax.data import cached, whiteboard
from hyperjax.data.encoded_pairs import SOURCE, EncodedPairs
from hyperjax.errors import DiskError, UserError
from hyperjax.training.feed import Feed
from hyperjax.training.session import Session
from tests.data.test_whiteboard import xml
from tests.faults import runs
from tests.test_run import alike, lines
from tests.training.test_checkpoint import (
  collect_what_orbax_left,  # noqa: F401  # a fixture
  pytestmark,  # noqa: F401
)


def test_a_file_with_a_read_error(tmp_path, small_images):
  """Reading /proc/self/mem from its start is such an error."""
  folder = tmp_path / 'images'
  shutil.copytree(small_images, folder)
  path = folder / 'train' / 'dark' / '7.png'
  path.unlink()
  path.symlink_to('/proc/self/mem')
  with pytest.raises(UserError) as error:
    runs.finish('images', folder, tmp_path / 'run')
  assert str(error.value) == f'{path}: Input/output error'


def test_a_mapped_file_that_is_cut_off_is_noticed(tmp_path, monkeypatch):
  monkeypatch.setenv('HYPERJAX_CACHE_DIR', str(tmp_path))

  def write(open_file):
    with open_file('numbers') as file:
      file.write(bytes(range(100)))
    return {}

  entry = cached.fetch('test', [], write)
  pieces = entry.array('numbers', np.uint16)
  pairs = EncodedPairs(
    pieces, np.array([0]), np.array([[3, 2]], np.int32), {}, ''
  )
  place = np.array([0])
  assert pairs.rows(SOURCE, place, 3).tolist() == [pieces[:3].tolist()]
  os.truncate(entry.files['numbers'], 20)
  with pytest.raises(UserError, match='numbers: cut off while it was read'):
    pairs.rows(SOURCE, place, 3)
  # Those who come later have it made anew.
  again = cached.fetch('test', [], write).array('numbers', np.uint16)
  assert len(again) == 50


@pytest.mark.slow
def test_encoded_text_that_is_cut_off_under_the_run(
  tmp_path, make_translation_config, monkeypatch
):
  config = make_translation_config()
  monkeypatch.setenv('HYPERJAX_CACHE_DIR', str(tmp_path / 'cache'))
  expected = run.train(config, tmp_path / 'whole')
  call = Feed.__call__

  def cut_and_call(self, count):
    if self._step >= 12:
      for path in (tmp_path / 'cache').glob('pairs-train-*/pieces'):
        os.truncate(path, 100)
    return call(self, count)

  with monkeypatch.context() as patch:
    patch.setattr(Feed, '__call__', cut_and_call)
    with pytest.raises(UserError, match='pieces: cut off while it was read'):
      run.train(config, tmp_path / 'run')
  assert runs.checkpoints(tmp_path / 'run')[-1] == 12
  assert run.train(config, tmp_path / 'run') == expected


def test_workers_that_die_are_done_without(monkeypatch):
  monkeypatch.setattr(whiteboard.os, 'cpu_count', lambda: 2)
  contents = [xml([[(k, 0)]]) for k in range(2000)]
  parsed = whiteboard.parse_all(contents)
  points = [next(parsed).points[0, 0]]
  workers = multiprocessing.active_children()
  for worker in workers:
    worker.kill()
  points += [recording.points[0, 0] for recording in parsed]
  assert workers
  assert points == list(range(2000))


@pytest.mark.slow
def test_a_clock_that_jumps_between_saves_changes_nothing(
  tmp_path, make_tiny_config, monkeypatch
):
  config = make_tiny_config()
  config.model.cell = 'lstm'
  expected = run.train(config, tmp_path / 'whole')
  now, jumps, rng = time.time, [0.0], random.Random(0)
  evaluate = Session._evaluate

  def jump_and_evaluate(self, step, state):
    self._checkpointer.wait()
    jumps.append(rng.uniform(-86_400, 86_400))
    evaluate(self, step, state)

  with monkeypatch.context() as patch:
    patch.setattr(Session, '_evaluate', jump_and_evaluate)
    patch.setattr(time, 'time', lambda: now() + jumps[-1])
    assert run.train(config, tmp_path / 'run') == expected
  assert len(jumps) == 4
  alike(lines(tmp_path / 'run'), lines(tmp_path / 'whole'))


def test_a_clock_that_leaps_in_a_save_loses_nothing(
  tmp_path, make_tiny_config, monkeypatch
):
  """Orbax takes the time by it, and gives up."""
  config = make_tiny_config()
  config.model.cell = 'lstm'
  config.train.num_steps = 20
  expected = run.train(config, tmp_path / 'whole')
  now, looks = time.time, itertools.count()
  with monkeypatch.context() as patch:
    patch.setattr(time, 'time', lambda: now() + 86_400 * next(looks))
    with pytest.raises(DiskError, match='not written in time; mend that'):
      run.train(config, tmp_path / 'run')
  assert run.train(config, tmp_path / 'run') == expected
  alike(lines(tmp_path / 'run'), lines(tmp_path / 'whole'))
