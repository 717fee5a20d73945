import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time

import optuna
import pytest

from hyperjax.errors import UserError
from hyperjax.sweeps import records
from hyperjax.sweeps.engines import local
from hyperjax.sweeps.space import choice, integers, log_uniform, product
from hyperjax.training.loop import SignalledError

RUN = """
import pickle, sys
from hyperjax.sweeps.engines import local
local.build(workers=2)(pickle.load(open(sys.argv[1], 'rb')))
"""


def start(sweep, tmp_path):
  """Runs a sweep in a process group of its own."""
  path = tmp_path / 'sweep.pickle'
  path.write_bytes(pickle.dumps(sweep))
  return subprocess.Popen(
    [sys.executable, '-c', RUN, str(path)],
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    start_new_session=True,
  )


def wait_for(condition):
  deadline = time.monotonic() + 200
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def values(sweep):
  return [record['value'] for record in records.read_all(sweep)]


def trials(sweep):
  storage = optuna.storages.JournalStorage(
    optuna.storages.journal.JournalFileBackend(
      str(sweep.folder / 'journal.log')
    )
  )
  return optuna.load_study(study_name='sweep', storage=storage).trials


def states(sweep):
  return sorted(
    (trial.user_attrs['point'], trial.state.name) for trial in trials(sweep)
  )


def test_all_points_run_once_and_a_failed_one_again_with_retry(
  make_sweep, starts
):
  sweep = make_sweep((13, 1.0, 99, 2.0))
  engine = local.build(workers=3)
  engine(sweep)
  assert values(sweep) == [None, 1.0, None, 2.0]
  engine(sweep)
  assert starts(sweep) == {0: [], 1: ['0'], 2: [], 3: ['0']}
  (sweep.folder / 'points' / 'mended').touch()
  records.forget_failed(sweep, range(4))
  engine(sweep)
  assert values(sweep) == [13, 1.0, None, 2.0]
  assert starts(sweep) == {0: ['0'], 1: ['0'], 2: [], 3: ['0']}


def test_nothing_runs_twice_after_a_kill_of_everything(
  make_sweep, starts, tmp_path
):
  sweep = make_sweep((1.0, 2.0, 3.0, 4.0, 5.0), pause=0.1)
  parent = start(sweep, tmp_path)
  wait_for(lambda: len(records.read_all(sweep)) >= 2)
  before = records.read_all(sweep)
  wait_for(lambda: sum(map(bool, starts(sweep).values())) >= 4)
  os.killpg(parent.pid, signal.SIGKILL)
  parent.wait()
  local.build(workers=2)(sweep)
  assert values(sweep) == [1.0, 2.0, 3.0, 4.0, 5.0]
  found = starts(sweep)
  for record in before:
    assert records.read(sweep, record['point']) == record
    assert len(found[record['point']]) == 1
  assert max(map(len, found.values())) == 2
  # No step was taken twice, either.
  for number in range(sweep.num_points):
    lines = (sweep.workdir(number) / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == [1, 2, 3, 4, 5]
  assert [k for k, state in states(sweep) if state == 'COMPLETE'] == [*range(5)]
  assert not any(state == 'RUNNING' for _, state in states(sweep))


def test_two_parents_share_a_folder(make_sweep, starts, tmp_path):
  sweep = make_sweep((1.0, 2.0, 3.0, 4.0), pause=0.1)
  other = start(sweep, tmp_path)
  local.build(workers=2)(sweep)
  assert other.wait() == 0
  assert values(sweep) == [1.0, 2.0, 3.0, 4.0]
  assert all(found == ['0'] for found in starts(sweep).values())


def test_a_signal_stops_the_runs_and_ends_with_its_code(make_sweep, starts):
  sweep = make_sweep(pause=60)
  before = signal.getsignal(signal.SIGTERM)

  def send():
    wait_for(lambda: sum(map(bool, starts(sweep).values())) == 2)
    os.kill(os.getpid(), signal.SIGTERM)

  thread = threading.Thread(target=send)
  thread.start()
  with pytest.raises(SignalledError) as error:
    local.build(workers=2)(sweep)
  thread.join()
  assert error.value.signum == signal.SIGTERM
  assert records.read_all(sweep) == []
  assert signal.getsignal(signal.SIGTERM) is before


SPACE = product(
  log_uniform('x', 1e-3, 1.0), integers('n', 1, 9), choice('c', ('a', 'b'))
)


def test_points_of_ranges_are_chosen_and_learnt_from(make_sweep):
  sweep = make_sweep(space=SPACE, num_points=3)
  local.build(workers=1)(sweep)
  points = [record['overrides'] for record in records.read_all(sweep)]
  assert len({point['x'] for point in points}) == 3
  for point, trial in zip(points, trials(sweep), strict=True):
    assert trial.params['x'] == point['x'] == trial.value
    assert trial.params['n'] == point['n']
    assert trial.params['c'] == f'c={point["c"]}'


def test_a_killed_point_stays_what_it_is(make_sweep, starts, tmp_path):
  sweep = make_sweep(space=SPACE, num_points=3, pause=0.1)
  parent = start(sweep, tmp_path)
  wait_for(lambda: len([x for x in starts(sweep).values() if x]) == 2)
  chosen = [sweep.point(0), sweep.point(1)]
  os.killpg(parent.pid, signal.SIGKILL)
  parent.wait()
  local.build(workers=2)(sweep)
  found = [record['overrides'] for record in records.read_all(sweep)]
  assert found[:2] == chosen
  assert sorted(t.value for t in trials(sweep) if t.value) == sorted(
    values(sweep)
  )


def test_optuna_learns_of_points_that_ran_without_it(make_sweep):
  sweep = make_sweep(space=SPACE, num_points=2)
  local.build(workers=1)(sweep)
  pathlib.Path(sweep.folder / 'journal.log').unlink()
  local.build(workers=1)(sweep)
  assert [trial.value for trial in trials(sweep)] == values(sweep)


def test_runs_that_do_worse_are_pruned(make_sweep):
  sweep = make_sweep((1.0, 1.1, 1.2, 1.3, 50.0), pause=0.2)
  local.build(workers=1, prune=True)(sweep)
  found = [record['status'] for record in records.read_all(sweep)]
  assert found == ['finished'] * 4 + ['pruned']
  assert states(sweep)[-1] == (4, 'PRUNED')


def test_workers_take_turns_with_gpus(make_sweep):
  sweep = make_sweep(pause=0.1)
  local.build(gpus=('4', '7'))(sweep)
  seen = {
    json.loads((sweep.workdir(k) / 'environment.json').read_text())['gpus']
    for k in range(4)
  }
  assert seen == {'4', '7'}


def test_a_number_of_workers_is_positive():
  with pytest.raises(UserError, match='--workers is -1'):
    local.build(workers=-1)
