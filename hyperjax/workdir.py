"""The plain files of a workdir: config, environment, data, result."""

import functools
import hashlib
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from hyperjax.config import flatten, restore
from hyperjax.errors import UserError
from hyperjax.training import checkpoint

# What may change between the sessions of one run. `data.dir` may, since the
# data's own checksum tells whether another folder holds the same; `unroll` and
# `mesh` are about speed and memory.
MAY_DIFFER = (
  'sample.',
  'eval.',
  'mesh.',
  'train.log_every',
  'train.stall_seconds',
  'train.max_restarts',
  'train.restart_factor',
  'data.dir',
  'unroll.',
)
# What may differ besides where a run's model is only read.
UNREAD = (
  'seed',
  'num_seeds',
  'dtype',
  'optimizer.',
  'train.',
  'data.path',
  'data.batch_size',
  'data.sequence_length',
)


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes a JSON file whole or not at all."""
  partial = path.with_name(path.name + '.partial')
  text = json.dumps(content, indent=2, allow_nan=False) + '\n'
  with partial.open('w', encoding='utf-8') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())  # else a crash may leave an empty file
  os.replace(partial, path)


def digest(content: Any) -> bytes:
  """The sha256 of what JSON can hold."""
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()


def read_json(path: pathlib.Path, *keys: str) -> dict[str, Any]:
  """Reads a JSON object.

  Args:
    path: of the file.
    *keys: that it must have.

  Raises:
    UserError: the file is missing or broken.
  """
  try:
    content = json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError as error:
    raise UserError(
      f'{path} does not exist; --workdir is the folder of a run'
    ) from error
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'{path} can not be read: {error}') from error
  missing = [
    key for key in keys if not isinstance(content, dict) or key not in content
  ]
  if missing or not isinstance(content, dict):
    raise UserError(f'{path} is damaged: it has no {", ".join(missing)}')
  return content


def make_folder(workdir: pathlib.Path) -> None:
  """Makes the folder of a run."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f'--workdir {workdir}: {error.strerror}') from error


class Restart(NamedTuple):
  """A divergence that a run went on from, with a lower learning rate.

  Attributes:
    diverged_at: the step with the number that was not finite.
    step: of the checkpoint that it went on from; 0 is the beginning.
    factor: of the learning rate, from that step on.
  """

  diverged_at: int
  step: int
  factor: float


def read_restarts(workdir: pathlib.Path) -> list[Restart]:
  """The restarts of a run so far, in order; most often none."""
  path = workdir / 'restarts.json'
  if not path.exists():
    return []
  try:
    return [
      Restart(**entry) for entry in read_json(path, 'restarts')['restarts']
    ]
  except TypeError as error:
    raise UserError(f'{path} is damaged: {error}') from error


def write_restarts(workdir: pathlib.Path, restarts: list[Restart]) -> None:
  """Keeps the restarts, before the run goes on from the last of them."""
  content = {'restarts': [restart._asdict() for restart in restarts]}
  write_json(workdir / 'restarts.json', content)


def has_checkpoints(workdir: pathlib.Path) -> bool:
  """Whether a run has come as far as to save its state."""
  folder = workdir / checkpoint.FOLDER
  return folder.is_dir() and any(p.name.isdigit() for p in folder.iterdir())


def config_json(config: ConfigDict) -> dict[str, Any]:
  """The config as it comes back from its file: with lists for tuples.

  Raises:
    UserError: a field is nothing that JSON can hold.
  """
  for path, value in flatten(config):
    try:
      json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
      raise UserError(f'config.{path} can not be saved: {error}') from error
  return json.loads(json.dumps(config.to_dict()))


def check_config(
  workdir: pathlib.Path, config: ConfigDict, *, reading: bool = False
) -> None:
  """Checks that a folder's run has this config.

  Args:
    workdir: of a run.
    config: of the command line.
    reading: whether only the model is wanted, not to train it further.

  Raises:
    UserError: names the fields that differ, or says that there is no run.
  """
  path = workdir / 'config.json'
  stored = read_json(path, 'model', 'task', 'data', 'train')
  old = dict(flatten(config_json(restore(stored, path))))
  new = dict(flatten(config_json(config)))
  absent = object()
  changes = [
    f'{path} (was {old.get(path, "absent")!r}, is {new.get(path, "absent")!r})'
    for path in sorted(old.keys() | new.keys())
    if old.get(path, absent) != new.get(path, absent)
    and not path.startswith(MAY_DIFFER + UNREAD * reading)
    and not (path == 'train.num_steps' and _is_larger(old, new))
  ]
  if changes:
    raise UserError(
      f'--workdir {workdir} holds a run with another config: '
      f'{", ".join(changes)}; take these back or choose another workdir'
    )


def _is_larger(old, new):
  steps = old.get('train.num_steps')
  return isinstance(steps, int) and new['train.num_steps'] > steps


def read_config(workdir: pathlib.Path) -> ConfigDict:
  """The config of a run."""
  path = workdir / 'config.json'
  return restore(read_json(path, 'model', 'task', 'data', 'eval'), path)


def environment() -> dict[str, Any]:
  """Revision, versions and devices, as far as they can be told."""
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'orbax-checkpoint')
  return {
    'command': shlex.join(sys.argv),
    'git': git_revision(),
    'python': platform.python_version(),
    'versions': {name: metadata.version(name) for name in packages},
    'devices': [str(device.device_kind) for device in jax.devices()],
    'machine': f'{_processor()}, {os.cpu_count()} cores',
  }


def _processor():
  """The processor's name where Linux tells it, else its architecture."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    return next(
      line.partition(':')[2].strip()
      for line in lines
      if line.startswith('model name')
    )
  except (OSError, StopIteration):
    return platform.machine()


@functools.cache  # of the code that was loaded, whatever is committed later
def git_revision() -> str | None:
  """The commit of the checkout that this code runs from, if it is one."""
  try:
    return subprocess.run(
      ['git', 'describe', '--always', '--dirty', '--abbrev=12'],
      cwd=pathlib.Path(__file__).parent,
      capture_output=True,
      check=True,
      text=True,
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None
