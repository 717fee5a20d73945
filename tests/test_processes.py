"""Two processes on this machine that train as one, killed and resumed."""

import json
import shutil
import signal
import socket
import subprocess
import time

import pytest

from hyperjax import main
from tests.test_main import names_in, start, tiny

# Few steps between checkpoints, so that kills find one; metrics at each.
SMALL = (
  '--config.optimizer.warmup_steps=0',
  '--config.train.num_steps=50',
  '--config.train.eval_every=20',
  '--config.train.checkpoint_every=10',
  '--config.train.steps_per_dispatch=2',
  '--config.eval.num_streams=8',
  '--config.eval.quick_streams=8',
  '--config.sample.length=5',
)
ENDLESS = (*SMALL, '--config.train.num_steps=200000')


def start_two(arguments, repository, second=()):
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  return [
    start(
      *arguments,
      f'--coordinator=localhost:{port}',
      '--num_processes=2',
      f'--process_id={k}',
      *(second if k else ()),
      cwd=repository,
    )
    for k in range(2)
  ]


def wait_for_checkpoint(workdir, processes, step):
  deadline = time.monotonic() + 300
  while not any(int(n) >= step for n in names_in(workdir / 'checkpoints')):
    assert all(process.poll() is None for process in processes)
    assert time.monotonic() < deadline
    time.sleep(0.02)


def ends(processes):
  return [process.communicate(timeout=300) for process in processes]


def outcome(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  steps = [
    (json.loads(line)['step'], 'train/loss_nats' in line) for line in lines
  ]
  return steps, json.loads((workdir / 'result.json').read_text())


def test_two_processes_are_killed_and_go_on_as_two_and_as_one(
  repository, tmp_path, text_file, parse, forget, capsys
):
  one, two, alone = (tmp_path / name for name in ('one', 'two', 'alone'))
  processes = start_two(tiny(repository, two, text_file, *SMALL), repository)
  wait_for_checkpoint(two, processes, 10)
  time.sleep(0.5)  # behind the save, else it takes a minute to be noticed
  processes[1].send_signal(signal.SIGKILL)
  (_, err), _ = ends(processes)
  assert processes[0].returncode == 75, err
  assert 'process 0 of 2 has lost' in err
  assert 'goes on from the newest checkpoint' in err
  assert 'Traceback' not in err
  assert not (two / 'result.json').exists()
  shutil.copytree(two, one)

  processes = start_two(tiny(repository, two, text_file, *SMALL), repository)
  (out, err), (silent, _) = ends(processes)
  assert [process.returncode for process in processes] == [0, 0], err
  assert 'going on from step' in err and '2 devices' in err
  assert 'test/bits_per_char' in out
  assert 'bits_per_char' not in silent

  for workdir in (alone, one):  # in this process, which takes less time
    main.main(parse(*tiny(repository, workdir, text_file, *SMALL)))
    forget()
  assert f'{one}: going on from step' in capsys.readouterr().err

  steps, expected = outcome(alone)
  assert len(steps) == len(set(steps))
  for workdir in (one, two):
    again, result = outcome(workdir)
    assert again == steps  # no line is lost or doubled
    for metric in ('valid/bits_per_char', 'test/bits_per_char'):
      # In float32, summed in another order, over 50 steps.
      assert result[metric] == pytest.approx(expected[metric], rel=1e-4)


def test_a_signal_to_one_stops_both_at_the_same_step(
  repository, tmp_path, text_file
):
  processes = start_two(
    tiny(repository, tmp_path, text_file, *ENDLESS), repository
  )
  wait_for_checkpoint(tmp_path, processes, 10)
  processes[1].send_signal(signal.SIGTERM)
  (_, err), _ = ends(processes)
  assert [process.returncode for process in processes] == [143, 143], err
  newest = max(map(int, names_in(tmp_path / 'checkpoints')))
  assert f'stopped at step {newest:,}' in err


def test_processes_with_other_flags_are_refused(
  repository, tmp_path, text_file
):
  processes = start_two(
    tiny(repository, tmp_path, text_file, *SMALL),
    repository,
    second=('--config.seed=1',),
  )
  for process, (_, err) in zip(processes, ends(processes), strict=True):
    assert process.returncode == 2, err
    assert 'processes 0 and 1 of this run differ in config' in err
  assert not (tmp_path / 'config.json').exists()


@pytest.mark.slow  # tests/training/test_hosts.py has it in one process
def test_processes_with_other_folders_are_refused(
  repository, tmp_path, text_file
):
  processes = start_two(
    tiny(repository, tmp_path / 'a', text_file, *SMALL),
    repository,
    second=(f'--workdir={tmp_path}/b',),
  )
  (_, first), (_, second) = ends(processes)
  assert [process.returncode for process in processes] == [2, 2], second
  assert 'process 1: ' in first and 'that all hosts share' in first
  assert 'that all hosts share' in second


@pytest.mark.slow
def test_a_run_that_only_one_finds_finished_is_refused(
  repository, tmp_path, text_file
):
  more = (*SMALL, '--config.train.num_steps=1')
  done = start(
    *tiny(repository, tmp_path / 'a', text_file, *more), cwd=repository
  )
  _, err = done.communicate(timeout=200)
  assert done.returncode == 0, err
  processes = start_two(
    tiny(repository, tmp_path / 'a', text_file, *more),
    repository,
    second=(f'--workdir={tmp_path}/b',),
  )
  for process, (_, err) in zip(processes, ends(processes), strict=True):
    assert process.returncode == 2, err
    assert 'processes 0 and 1 of this run differ in what they find in' in err


@pytest.mark.slow
def test_a_process_that_hangs_is_not_waited_for(
  repository, tmp_path, text_file
):
  processes = start_two(
    tiny(
      repository,
      tmp_path,
      text_file,
      *ENDLESS,
      '--config.train.stall_seconds=20',
    ),
    repository,
  )
  wait_for_checkpoint(tmp_path, processes, 10)
  processes[1].send_signal(signal.SIGSTOP)
  try:
    _, err = processes[0].communicate(timeout=200)
  except subprocess.TimeoutExpired:
    processes[0].kill()
    raise
  finally:
    processes[1].kill()
    processes[1].communicate()
  assert processes[0].returncode == 75
  assert 'has waited 20 s for the others at step' in err
