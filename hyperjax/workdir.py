"""The plain files of a workdir: config, environment, data, result."""

import json
import os
import pathlib
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

import jax
from ml_collections import ConfigDict

from hyperjax.config import flatten
from hyperjax.errors import UserError

# What may change between the sessions of one run, and what else when its model
# is only read.
MAY_DIFFER = ('sample.', 'eval.', 'train.log_every')
UNREAD = (
  'seed',
  'optimizer.',
  'train.',
  'data.dir',
  'data.path',
  'data.batch_size',
  'data.sequence_length',
)


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes a JSON file whole or not at all."""
  partial = path.with_name(path.name + '.partial')
  partial.write_text(json.dumps(content, indent=2) + '\n')
  os.replace(partial, path)


def read_json(path: pathlib.Path) -> Any:
  """Reads a JSON file; a missing or broken one is a `UserError`."""
  try:
    return json.loads(path.read_text())
  except FileNotFoundError as error:
    raise UserError(
      f'{path} does not exist; --workdir is the folder of a run'
    ) from error
  except (OSError, ValueError) as error:
    raise UserError(f'{path} can not be read: {error}') from error


def open_run(workdir: pathlib.Path, config: ConfigDict) -> None:
  """Makes the folder and writes what is known before the first step.

  Raises:
    UserError: the folder can not be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / 'config.json', config.to_dict())
    write_json(workdir / 'environment.json', environment())
  except OSError as error:
    raise UserError(f'--workdir {workdir}: {error.strerror}') from error


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
  old = dict(flatten(read_json(workdir / 'config.json')))
  new = dict(flatten(config))
  absent = object()
  changes = [
    f'{path} (was {old.get(path, "absent")!r}, is {new.get(path, "absent")!r})'
    for path in sorted(old.keys() | new.keys())
    if old.get(path, absent) != new.get(path, absent)
    and not path.startswith(MAY_DIFFER + UNREAD * reading)
    and not (path == 'train.num_steps' and new[path] > old[path])
  ]
  if changes:
    raise UserError(
      f'--workdir {workdir} holds a run with another config: '
      f'{", ".join(changes)}; take these back or choose another workdir'
    )


def read_config(workdir: pathlib.Path) -> ConfigDict:
  """The config of a run."""
  return ConfigDict(read_json(workdir / 'config.json'))


def environment() -> dict[str, Any]:
  """Revision, versions and devices, as far as they can be told."""
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'orbax-checkpoint')
  return {
    'command': ' '.join(sys.argv),
    'git': _git_revision(),
    'python': platform.python_version(),
    'versions': {name: metadata.version(name) for name in packages},
    'devices': [str(device.device_kind) for device in jax.devices()],
    'machine': f'{platform.machine()}, {os.cpu_count()} cores',
  }


def _git_revision():
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
