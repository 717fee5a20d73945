import os
import signal
import time

import pytest

from hyperjax.errors import UserError
from hyperjax.sweeps import records
from hyperjax.sweeps.engines import slurm


@pytest.fixture(autouse=True)
def path_of_jobs(repository, monkeypatch):
  monkeypatch.setenv('PYTHONPATH', str(repository))
  # It would close what pytest catches the output with.
  monkeypatch.setenv('SUBMITIT_LOG_LEVEL', 'NOCONFIG')


def test_jobs_run_the_points_that_lack(make_sweep, starts, capsys):
  sweep = make_sweep((13, 1.0, 2.0))
  engine = slurm.build(slurm_cluster='local', wait=True, slurm=['partition=x'])
  engine(sweep)
  assert [record['value'] for record in records.read_all(sweep)] == [
    *(None, 1.0, 2.0),
  ]
  assert 'point 2 is job ' in capsys.readouterr().err
  engine(sweep)
  assert 'is job' not in capsys.readouterr().err
  assert starts(sweep) == {0: [], 1: ['0'], 2: ['0']}


def test_a_preempted_job_stops_its_run_and_goes_on(make_sweep, starts):
  sweep = make_sweep((1.0,), pause=0.4)
  job = slurm.Job(sweep)
  old = signal.signal(
    signal.SIGALRM, lambda *_: again.append(job.checkpoint(0))
  )
  again = []
  signal.setitimer(signal.ITIMER_REAL, 1.0)
  try:
    job(0)
  finally:
    signal.signal(signal.SIGALRM, old)
  assert records.read(sweep, 0) is None
  again[0].function(*again[0].args)
  assert records.read(sweep, 0)['status'] == 'finished'
  first, second = map(int, starts(sweep)[0])
  assert first == 0 and second >= 1


def test_a_point_that_others_run_is_left_alone(make_sweep, monkeypatch, capsys):
  monkeypatch.setattr(slurm, 'PATIENCE', 0.0)
  sweep = make_sweep()
  with sweep.claim(0):
    time.sleep(0.01)
    slurm.Job(sweep)(0)
  assert 'another process' in capsys.readouterr().err
  assert records.unfinished(sweep) == [0, 1, 2, 3]


def test_bad_options_are_one_line(make_sweep, monkeypatch):
  with pytest.raises(UserError, match="--slurm: 'gpu' is not NAME=VALUE"):
    slurm.build(slurm=['gpu'])
  engine = slurm.build(slurm_cluster='local', slurm=['timeout_min=soon'])
  with pytest.raises(UserError, match='timeout_min'):
    engine(make_sweep())
  monkeypatch.setenv('PATH', os.devnull)
  with pytest.raises(UserError, match='--engine=slurm: '):
    slurm.build()(make_sweep())
