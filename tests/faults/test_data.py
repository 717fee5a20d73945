"""Data that fails under the run, workers that die, clocks that jump."""

import multiprocessing
import os
import pathlib
import random
import shutil
import time

import pytest

from hyperjax import run
from hyperjax.data import whiteboard
from hyperjax.errors import UserError
from hyperjax.training.feed import Feed
from tests.data.test_whiteboard import xml
from tests.faults import runs
from tests.test_run import lines


def test_a_file_with_a_read_error(tmp_path, small_images, repository):
  """Reading /proc/self/mem from its start is such an error."""
  folder = tmp_path / 'images'
  shutil.copytree(small_images, folder)
  path = folder / 'train' / 'dark' / '7.png'
  path.unlink()
  path.symlink_to('/proc/self/mem')
  code, _, err = runs.end(runs.start('images', folder, tmp_path / 'run'))
  assert code == 2
  assert err.splitlines()[-1] == f'error: {path}: Input/output error'
  assert 'Traceback' not in err


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


def test_a_clock_that_jumps_changes_nothing(
  tmp_path, make_tiny_config, monkeypatch
):
  config = make_tiny_config()
  config.model.cell = 'lstm'
  expected = run.train(config, tmp_path / 'whole')
  now, rng = time.time, random.Random(0)
  with monkeypatch.context() as patch:
    patch.setattr(time, 'time', lambda: now() + rng.uniform(-86400, 86400))
    assert run.train(config, tmp_path / 'run') == expected
  assert lines(tmp_path / 'run') == lines(tmp_path / 'whole')
  environment = pathlib.Path(tmp_path / 'run' / 'environment.json').read_text()
  assert '"seconds": ' in environment


@pytest.mark.slow
def test_a_clock_that_jumps_under_the_command(data, whole, tmp_path):
  process = runs.start('images', data['images'], tmp_path, fault='clock')
  code, _, err = runs.end(process)
  assert code == 0, err
  assert runs.differences(tmp_path, whole('images')) == []
