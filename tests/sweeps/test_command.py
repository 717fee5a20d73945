"""scripts/sweep.py, as a user meets it."""

import functools
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
import textwrap
import time

import jax
import pytest

from hyperjax import command_line
from hyperjax.errors import UserError
from hyperjax.sweeps import sweep

CONFIG = """
  from hyperjax.config import load
  from hyperjax.sweeps.space import choice, log_uniform, product


  def get_config():
    config = load({text!r})
    config.data.update(path={data!r}, batch_size=4, sequence_length=16)
    config.model.hidden_size = 12
    config.optimizer.warmup_steps = 5
    config.train.update(
      num_steps=20, eval_every=20, checkpoint_every=10, log_every=5
    )
    config.eval.update(num_streams=16, quick_streams=16)
    config.sample.update(prompt='the ', length=20)
    return config


  def sweep():
    return [
      {{'optimizer.learning_rate': 3e-2}},
      {{'optimizer.learning_rate': 1e30, 'model.hidden_size': 8}},
      {{'optimizer.learning_rate': 1e-2}},
    ]
"""
RANGES = """
  from hyperjax.sweeps.space import log_uniform


  def sweep():
    return log_uniform('optimizer.learning_rate', 1e-3, 1e-1)
"""


@pytest.fixture
def words(repository, tmp_path, text_file, monkeypatch):
  """The script and its first arguments: a config file in `tmp_path`."""
  config, ranges = tmp_path / 'tiny.py', tmp_path / 'ranges.py'
  config.write_text(
    textwrap.dedent(CONFIG).format(
      text=f'{repository}/configs/text.py:lstm', data=str(text_file)
    )
  )
  ranges.write_text(textwrap.dedent(RANGES))
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('PYTHONPATH', str(repository))
  return (
    *(f'{repository}/scripts/sweep.py', f'--config={config}'),
    f'--sweepdir={tmp_path}/sweep',
  )


@pytest.fixture
def start(words):
  """Starts a sweep in a process of its own."""
  return lambda *arguments: subprocess.Popen(
    [sys.executable, *words, *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )


@pytest.fixture
def run(words, monkeypatch, forget, capsys):
  """Runs a sweep in this process; returns its exit code and what it prints."""
  # Other tests may want the accelerator, which a sweep leaves to its runs.
  monkeypatch.setattr(jax.config, 'update', lambda name, value: None)

  def run(*arguments):
    command = [*words, *arguments]
    monkeypatch.setattr(sys, 'argv', command)
    monkeypatch.setattr(sys, 'path', [*sys.path])  # to which configs add
    forget()
    main = runpy.run_path(command[0])['main']
    try:
      code = main(command_line.parse_with_config(command))
    except UserError as error:  # as in `command_line.launch`
      print(f'error: {error}', file=sys.stderr)
      code = error.exit_code
    return code, *capsys.readouterr()

  yield run
  forget()


def records(tmp_path):
  paths = sorted((tmp_path / 'sweep' / 'records').glob('*.json'))
  return [json.loads(path.read_text()) for path in paths]


BAD = [
  (['--space=none.py'], "--space: no file 'none.py'"),
  (['--trials=3'], '--trials: the space has no ranges'),
  (['--space=ranges.py'], '--trials: the space has ranges'),
  (['--engine=lokal'], "did you mean 'local'"),
  (['--gpus=0', '--engine=slurm'], "the engine 'slurm' has no use of it"),
  (['--point=3'], '--point is 3; it must be from 0 to 2'),
  (['--config.optimizer.learning_rate=1'], 'learning_rate is given too'),
  (['--config.model.hidden_size=0'], 'point 0 (optimizer.learning_rate=0.03)'),
  (['--workers=-1'], '--workers is -1'),
  (['--config.modle=3'], 'no field config.modle'),
]


@pytest.mark.parametrize(('arguments', 'message'), BAD)
def test_bad_command_lines_end_in_one_line(run, tmp_path, arguments, message):
  code, out, err = run(*arguments)
  assert code == 2 and out == ''
  assert err.startswith('error: ') and message in err
  assert len(err.strip().splitlines()) == 1
  assert records(tmp_path) == []


def test_a_bad_point_starts_nothing(start, tmp_path):
  (tmp_path / 'bad.py').write_text(
    'def sweep():\n'
    "  return [{'model.hidden_size': size} for size in range(9, -1, -1)]\n"
  )
  process = start('--space=bad.py')
  out, err = process.communicate(timeout=300)
  assert process.returncode == 2 and out == ''
  assert len(err.strip().splitlines()) == 1
  assert err.startswith(
    'error: point 9 (model.hidden_size=0): config.model.hidden_size'
  )
  assert not (tmp_path / 'sweep').exists()


def test_a_dry_run_prints_the_commands_and_writes_nothing(run, tmp_path):
  code, out, err = run('--dry_run', '--config.seed=3')
  assert code == 0, err
  commands = [shlex.split(line) for line in out.splitlines()]
  assert commands[1] == [
    *(sys.executable, '-m', 'hyperjax.main'),
    f'--config={tmp_path}/tiny.py',
    '--config.seed=3',
    '--config.optimizer.learning_rate=1e+30',
    '--config.model.hidden_size=8',
    f'--workdir={tmp_path}/sweep/points/0001',
  ]
  assert len(commands) == 3
  assert not (tmp_path / 'sweep').exists()


def test_a_sweep_of_real_runs(start, run, tmp_path):
  """Two points, one of which diverges; then that one again."""
  (tmp_path / 'two.py').write_text(
    'def sweep():\n'
    "  return [{'optimizer.learning_rate': rate} for rate in (3e-2, 1e30)]\n"
  )
  process = start('--space=two.py', '--workers=2')
  out, err = process.communicate(timeout=300)
  assert process.returncode == 1, err
  found = records(tmp_path)
  assert [record['status'] for record in found] == ['finished', 'failed']
  assert 'a metric is not finite' in found[1]['error']
  best, failed = out.splitlines()[1:3]
  assert best.split()[0] == f'{found[0]["value"]:.4f}'
  assert failed.startswith('failed: point 1 (learning_rate=1e+30')
  assert found[0]['objective'] == 'valid/bits_per_char'
  assert found[0]['step'] == 20 and found[0]['versions']['jax']
  code, again, err = run('--space=two.py')
  assert code == 1 and again == out and 'starts' not in err
  code, _, err = run('--space=two.py', '--retry', '--point=1')
  assert code == 1
  assert 'error: ' in err and 'point 1 ends' in err  # the run's own words, too
  now = records(tmp_path)
  assert now[1].pop('engine') == 'point'
  assert now[0] == found[0]


def test_a_task_of_a_slurm_array_is_a_point(run, tmp_path, monkeypatch):
  # In the place of its run, what one leaves.
  result = {'step': 20, 'best_step': 20, 'valid/bits_per_char': 2.0}
  write = (
    'import pathlib, sys\n'
    "folder = pathlib.Path(sys.argv[-1].removeprefix('--workdir='))\n"
    'folder.mkdir(parents=True)\n'
    f"(folder / 'result.json').write_text({json.dumps(result)!r})\n"
  )
  program = (sys.executable, '-c', write)
  made = functools.partial(sweep.Sweep, program=program)
  monkeypatch.setattr(sweep, 'Sweep', made)
  monkeypatch.setenv('SLURM_ARRAY_TASK_ID', '1')
  code, _, err = run('--space=ranges.py', '--trials=2')
  assert code == 0, err
  assert 'point 1, by SLURM_ARRAY_TASK_ID' in err
  assert [record['point'] for record in records(tmp_path)] == [1]


@pytest.mark.slow
@pytest.mark.parametrize('engine', ['local', 'ray', 'slurm'])
def test_a_killed_sweep_of_real_runs_goes_on(start, tmp_path, engine):
  more = [f'--engine={engine}', '--config.train.num_steps=3000']
  more += ['--config.train.checkpoint_every=100']
  if engine == 'slurm':
    more += ['--slurm_cluster=local', '--wait']
  process = start(*more)
  deadline = time.monotonic() + 300
  while len(records(tmp_path)) < 2 and process.poll() is None:
    assert time.monotonic() < deadline
    time.sleep(0.1)
  before = records(tmp_path)
  os.killpg(process.pid, signal.SIGKILL)
  process.communicate()
  process = start(*more)
  _, err = process.communicate(timeout=600)
  assert process.returncode == 1, err  # one diverges
  found = {record['point']: record for record in records(tmp_path)}
  assert sorted(found) == [0, 1, 2]
  for record in before:
    assert found[record['point']] == record
  for number in (0, 2):
    path = tmp_path / 'sweep' / 'points' / f'{number:04d}' / 'metrics.jsonl'
    lines = path.read_text().splitlines()
    steps = [json.loads(line)['step'] for line in lines]
    evaluations = [step for step in steps if step % 20 == 0]
    assert steps == sorted(steps)
    assert max(map(evaluations.count, evaluations)) == 2  # train and valid
