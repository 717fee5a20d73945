import os
import pathlib
import signal
import subprocess
import sys
import time

from hyperjax.sweeps.child import TETHER, Child

WAITS = 200.0  # seconds; a machine may be busy


def wait_for(condition):
  deadline = time.monotonic() + WAITS
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def run(sweep, number, claim, **environ):
  child = Child(sweep, number, sweep.point(number), claim, environ)
  wait_for(lambda: not child.running())
  return child


def test_a_run_tells_each_evaluation_once(claimed):
  sweep, number, claim = claimed
  child = run(sweep, number, claim)
  assert child.news() == [(step, 1.0 * (1 + 1 / step)) for step in range(1, 6)]
  assert child.news() == []
  assert child.error() is None


def test_the_command_is_the_one_that_is_printed(claimed):
  """The words of `/proc` are those that --dry_run prints."""
  sweep, number, claim = claimed
  child = Child(sweep, number, {'x': 2.0, 'pause': 60}, claim)
  wait_for((sweep.workdir(number) / 'starts').exists)
  words = pathlib.Path(f'/proc/{child._process.pid}/cmdline').read_text()
  assert words.split('\0')[:-1] == sweep.command(
    number, {'x': 2.0, 'pause': 60}
  )
  child.stop()
  assert child.was_stopped()


def test_a_run_sees_the_environment_that_it_is_given(claimed):
  sweep, number, claim = claimed
  run(sweep, number, claim, CUDA_VISIBLE_DEVICES='3')
  path = sweep.workdir(number) / 'environment.json'
  assert '"gpus": "3"' in path.read_text()


def test_an_error_is_the_runs_own_line(make_sweep):
  sweep = make_sweep((13, 99))
  with sweep.claim(0) as claim:
    assert run(sweep, 0, claim).error() == 'config.x is unlucky'
  with sweep.claim(1) as claim:
    child = run(sweep, 1, claim)
    assert child.error() == 'killed by SIGKILL'
    assert not child.was_stopped()


PARENT = """
import pathlib, sys, subprocess, os
subprocess.Popen([
  sys.executable, sys.argv[1], str(os.getpid()), sys.executable, '-c',
  '''
import pathlib, signal, sys, time
def stop(*_):
  pathlib.Path(sys.argv[1], 'saved').touch()
  sys.exit(143)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1], 'ready').touch()
time.sleep(600)
''',
  sys.argv[2],
], process_group=0).wait()
"""


def test_a_run_is_stopped_when_its_parent_is_killed(tmp_path):
  parent = subprocess.Popen(
    [sys.executable, '-c', PARENT, str(TETHER), str(tmp_path)],
    start_new_session=True,
  )
  wait_for((tmp_path / 'ready').exists)
  os.killpg(parent.pid, signal.SIGKILL)
  parent.wait()
  wait_for((tmp_path / 'saved').exists)
