"""Starts small runs as a user does, and tells how two of them differ."""

import contextlib
import io
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np

from hyperjax import run
from hyperjax import workdir as files
from hyperjax.config import load
from hyperjax.training.checkpoint import Checkpointer

REPOSITORY = pathlib.Path(__file__).parents[2]
KINDS = ('language', 'images')
PATIENCE = 300.0  # seconds until a child is given up
# The metrics of a line are sums in float32 over each dispatch, and a resumed
# run deals its steps out to other dispatches.
ROUNDING = 1e-5


def start(kind, data, workdir, *more, fault='', wrap=(), **options):
  """Starts the command on a small run; its config is `config.py`'s."""
  return subprocess.Popen(
    [
      *wrap,
      sys.executable,
      '-m',
      'hyperjax.main',
      f'--config=tests/faults/config.py:{kind}',
      f'--config.data.path={data}',
      f'--workdir={workdir}',
      *more,
    ],
    cwd=REPOSITORY,
    env={**os.environ, 'FAULT': fault},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def end(process):
  """(exit code, stdout, stderr) of a command that ends by itself."""
  try:
    out, err = process.communicate(timeout=PATIENCE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.communicate()
    raise
  return process.returncode, out, err


def finish(kind, data, workdir):
  """Trains to a good end in this process, which costs a third of a start.

  Returns:
    What was said.
  """
  config = load(f'{REPOSITORY}/tests/faults/config.py:{kind}')
  config.data.path = str(data)
  return train(config, workdir)[1]


def train(config, workdir):
  """(the result, what was said) of a run in this process."""
  with contextlib.redirect_stderr(io.StringIO()) as said:
    return run.train(config, workdir), said.getvalue()


def wait_for(condition, process, seconds=PATIENCE):
  """Until it holds, the process has ended, or it is late: whether it holds."""
  deadline = time.monotonic() + seconds
  while not (holds := condition()) and process.poll() is None:
    if time.monotonic() > deadline:
      break
    time.sleep(0.001)
  return bool(holds)


def kill(process):
  """SIGKILL, and waits until it is gone."""
  process.send_signal(signal.SIGKILL)
  process.communicate()


def checkpoints(workdir):
  """The steps of the checkpoints that are there, in order."""
  folder = workdir / 'checkpoints'
  paths = folder.iterdir() if folder.exists() else ()
  return sorted(int(path.name) for path in paths if path.name.isdigit())


def unfinished(workdir):
  """The checkpoints that are being written."""
  return list((workdir / 'checkpoints').glob('*orbax-checkpoint-tmp*'))


def lines(workdir):
  """metrics.jsonl, but for what the clock decides."""
  text = (workdir / 'metrics.jsonl').read_text()
  assert text.endswith('\n')
  return [
    {k: v for k, v in json.loads(line).items() if 'per_second' not in k}
    for line in text.splitlines()
  ]


def last_state(workdir):
  """The newest checkpoint: its parameters, and its record but for times."""
  config = files.read_config(workdir)
  config.eval.step = checkpoints(workdir)[-1]
  _, found, *_ = run.restore(config, workdir)
  reader = Checkpointer(workdir, read_only=True)
  record = reader.record(config.eval.step)
  reader.close()
  del record['seconds'], record['metrics_length']
  return found, record


def differences(workdir, whole):
  """In what a finished run differs from one that nothing happened to.

  Parameters, model state, the checksums of all that a checkpoint holds, the
  result and the sample must be the same bit for bit; of metrics, the steps and
  names, and the numbers up to rounding.
  """
  found = []
  ours, theirs = last_state(workdir), last_state(whole)
  if not jax.tree.all(jax.tree.map(np.array_equal, ours[0], theirs[0])):
    found.append('parameters')
  if ours[1] != theirs[1]:
    found.append('record')
  for name in ('result.json', 'sample.txt'):
    contents = [
      path.read_bytes() if (path := folder / name).exists() else None
      for folder in (workdir, whole)
    ]
    if contents[0] != contents[1]:
      found.append(name)
  ours, theirs = lines(workdir), lines(whole)
  if [list(line) for line in ours] != [list(line) for line in theirs]:
    found.append('names of metrics')
  elif [line['step'] for line in ours] != [line['step'] for line in theirs]:
    found.append('steps of metrics')
  elif not all(map(_alike, ours, theirs)):
    found.append('metrics')
  return found


def _alike(first, second):
  return all(
    a == b or (a and b and math.isclose(a, b, rel_tol=ROUNDING))
    for a, b in zip(first.values(), second.values(), strict=True)
  )
