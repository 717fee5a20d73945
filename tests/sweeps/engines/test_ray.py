import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from hyperjax.errors import UserError
from hyperjax.sweeps import records
from hyperjax.sweeps.engines import ray

RUN = """
import pickle, sys
from hyperjax.sweeps.engines import ray
options = dict(word.split('=') for word in sys.argv[2:])
ray.build(
  workers=int(options['workers']), prune='prune' in options,
)(pickle.load(open(sys.argv[1], 'rb')))
"""


@pytest.fixture
def start(tmp_path, repository):
  """Runs a sweep on a cluster of its own."""

  def begin(sweep, *options):
    path = tmp_path / 'sweep.pickle'
    path.write_bytes(pickle.dumps(sweep))
    return subprocess.Popen(
      [sys.executable, '-c', RUN, str(path), 'workers=2', *options],
      cwd=tmp_path,
      env={**os.environ, 'PYTHONPATH': str(repository)},
      start_new_session=True,
      stderr=subprocess.PIPE,
      text=True,
    )

  return begin


def wait_for(condition):
  deadline = time.monotonic() + 200
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.05)


def values(sweep):
  return [record['value'] for record in records.read_all(sweep)]


@pytest.mark.parametrize('words', ['[1]', '{"CPU": 0}', '{}', 'CPU', '3'])
def test_resources_that_are_none_are_refused(words):
  with pytest.raises(UserError, match='--ray_resources'):
    ray.build(ray_resources=words)


def test_without_ray_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'ray.tune', None)
  with pytest.raises(UserError, match=r"pip install 'hyperjax\[ray\]'"):
    ray.build()


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_nothing_runs_twice(
  make_sweep, starts, start
):
  sweep = make_sweep((1.0, 13, 2.0, 3.0), pause=0.5)
  parent = start(sweep)
  wait_for(lambda: len(records.read_all(sweep)) >= 2)
  wait_for(lambda: sum(map(bool, starts(sweep).values())) >= 2)
  before = records.read_all(sweep)
  os.killpg(parent.pid, signal.SIGKILL)
  parent.communicate()
  parent = start(sweep)
  _, err = parent.communicate(timeout=300)
  assert parent.returncode == 0, err
  assert values(sweep) == [1.0, None, 2.0, 3.0]
  found = starts(sweep)
  for record in before:
    assert records.read(sweep, record['point']) == record
    assert len(found[record['point']]) <= 1
  assert max(map(len, found.values())) <= 2
  # A failed one again, in an experiment of its own.
  (sweep.folder / 'points' / 'mended').touch()
  records.forget_failed(sweep, range(4))
  parent = start(sweep)
  _, err = parent.communicate(timeout=300)
  assert values(sweep) == [1.0, 13, 2.0, 3.0], err
  assert starts(sweep)[0] == found[0]


@pytest.mark.slow
def test_asha_stops_runs(make_sweep, start):
  sweep = make_sweep((1.0, 1.1, 50.0, 60.0, 70.0, 80.0), pause=0.5)
  parent = start(sweep, 'prune=yes')
  _, err = parent.communicate(timeout=300)
  found = [record['status'] for record in records.read_all(sweep)]
  assert found[0] == 'finished', err
  assert 'pruned' in found and 'failed' not in found
  assert all(
    record['step'] < 5
    for record in records.read_all(sweep)
    if record['status'] == 'pruned'
  )


@pytest.mark.slow
def test_a_signal_stops_the_runs(make_sweep, starts, start):
  sweep = make_sweep(pause=20)
  parent = start(sweep)
  wait_for(lambda: any(starts(sweep).values()))
  parent.send_signal(signal.SIGTERM)
  _, err = parent.communicate(timeout=300)
  assert 'signal 15' in err
  assert records.read_all(sweep) == []
