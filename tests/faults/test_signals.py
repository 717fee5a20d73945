"""SIGTERM and Ctrl-C: the run saves, says so, and goes on."""

import signal
import time

import pytest

from hyperjax.errors import UserError
from hyperjax.training.loop import ECHO_SECONDS
from tests.faults import runs


def stop(kind, data, workdir, signum):
  """Sends a signal while the run trains; returns (exit code, stderr)."""
  process = runs.start(kind, data[kind], workdir)
  assert runs.wait_for(lambda: runs.checkpoints(workdir), process)
  process.send_signal(signum)
  code, _, err = runs.end(process)
  assert 'Traceback' not in err
  return code, err


@pytest.mark.parametrize(
  ('kind', 'signum'),
  [
    ('language', signal.SIGTERM),
    pytest.param('language', signal.SIGINT, marks=pytest.mark.slow),
    pytest.param('images', signal.SIGTERM, marks=pytest.mark.slow),
    pytest.param('images', signal.SIGINT, marks=pytest.mark.slow),
  ],
)
def test_a_signal_saves_and_changes_nothing(
  data, whole, tmp_path, kind, signum
):
  code, err = stop(kind, data, tmp_path, signum)
  assert code == 128 + signum, err
  newest = runs.checkpoints(tmp_path)[-1]
  assert f'stopped at step {newest}; the same command goes on' in err
  said = runs.finish(kind, data[kind], tmp_path)
  assert f'going on from step {newest}' in said
  assert runs.differences(tmp_path, whole(kind)) == []


def test_a_second_process_is_kept_out_and_a_second_signal_leaves_at_once(
  data, tmp_path
):
  """Here the first ones wait for a disk that never answers."""
  process = runs.start(
    'language', data['language'], tmp_path, fault='stuck saving 2'
  )
  assert runs.wait_for(lambda: runs.checkpoints(tmp_path), process)
  assert runs.wait_for(lambda: runs.unfinished(tmp_path), process)
  with pytest.raises(UserError) as error:
    runs.finish('language', data['language'], tmp_path)
  assert str(error.value) == f'{tmp_path}: another process trains here'
  process.send_signal(signal.SIGTERM)
  time.sleep(ECHO_SECONDS + 1)
  assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  code, _, err = runs.end(process)
  assert code == 143, err
  assert 'stopped at once' in err and 'Traceback' not in err
  assert runs.checkpoints(tmp_path) == [10]
