"""Trains on a Cloud TPU: creates it, installs hyperjax, runs one command.

python scripts/tpu.py --name=hyper --zone=us-central1-a \
      --accelerator_type=v5litepod-16 [--queued] [--spot] [--execute] -- \
      python -m hyperjax.main --config=configs/ptb.py:ln_hyper_lstm \
      --workdir=/mnt/runs/ptb --distributed

prints the commands of gcloud; --execute runs them, and stops at the first that
fails. What follows `--` runs in the checkout on all workers of the TPU, and its
output is shown. Give `--action=run` to go on with a run that was stopped, and
`--action=delete` at the end, for a TPU costs money until then.

The workers of a slice share no disk, and a workdir is a folder, not a gs://
address: --setup mounts one that all workers see, such as a Filestore or, by
gcsfuse, a bucket.
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence

from absl import flags

from hyperjax import command_line
from hyperjax.errors import UserError
from hyperjax.training.loop import Interruption

ACTIONS = ('create', 'install', 'run', 'delete')

_NAME = flags.DEFINE_string('name', '', 'Of the TPU.')
_ZONE = flags.DEFINE_string('zone', '', 'Such as us-central1-a.')
_PROJECT = flags.DEFINE_string('project', '', "Empty is gcloud's own.")
_ACCELERATOR_TYPE = flags.DEFINE_string(
  'accelerator_type', 'v5litepod-8', 'Kind and size of the TPU.'
)
_RUNTIME_VERSION = flags.DEFINE_string(
  'runtime_version', 'v2-alpha-tpuv5-lite', 'Must suit the kind of TPU.'
)
_SPOT = flags.DEFINE_bool('spot', False, 'Cheaper; may be taken away.')
_QUEUED = flags.DEFINE_bool('queued', False, 'Waits until there is one.')
_POLL_SECONDS = flags.DEFINE_float(
  'poll_seconds', 30.0, 'Between looks at a queue.', lower_bound=0
)
_REPOSITORY = flags.DEFINE_string(
  'repository', '', 'To fetch; empty takes this checkout, as committed.'
)
_REVISION = flags.DEFINE_string(
  'revision', 'HEAD', 'Whole commit hash, branch or tag.'
)
_SETUP = flags.DEFINE_string(
  'setup', '', 'Shell command for all workers, such as a mount.'
)
_ACTION = flags.DEFINE_list(
  'action', 'create,install,run', f'Some of {", ".join(ACTIONS)}.'
)
_EXECUTE = flags.DEFINE_bool('execute', False, 'Runs what is printed.')


def gcloud(group: str, *words: str) -> list[str]:
  """A command of `gcloud compute tpus`."""
  where = [f'--zone={_ZONE.value}']
  if _PROJECT.value:
    where.append(f'--project={_PROJECT.value}')
  return ['gcloud', 'compute', 'tpus', group, *words, *where]


def create() -> list[list[str]]:
  """Asks for a TPU."""
  kind = f'--accelerator-type={_ACCELERATOR_TYPE.value}'
  spot = ['--spot'] * _SPOT.value
  if _QUEUED.value:
    version = f'--runtime-version={_RUNTIME_VERSION.value}'
    options = [f'--node-id={_NAME.value}', kind, version, *spot]
    return [gcloud('queued-resources', 'create', _NAME.value, *options)]
  options = [kind, f'--version={_RUNTIME_VERSION.value}', *spot]
  return [gcloud('tpu-vm', 'create', _NAME.value, *options)]


def state() -> list[str]:
  """Asks how far a queued TPU has come."""
  form = '--format=value(state.state)'
  return gcloud('queued-resources', 'describe', _NAME.value, form)


def ssh(command: str) -> list[str]:
  """A shell command on all workers at once."""
  options = ('--worker=all', f'--command={command}')
  return gcloud('tpu-vm', 'ssh', _NAME.value, *options)


def install() -> list[list[str]]:
  """Brings the code to all workers and makes an environment there.

  uv brings a Python that is new enough; the one of the TPU's image is not.
  """
  if _REPOSITORY.value:
    commands = []
    wanted = shlex.join([_REPOSITORY.value, _REVISION.value])
    fetch = (
      f'git init --quiet hyperjax && cd hyperjax && '
      f'git fetch --quiet {wanted} && git checkout --quiet --force FETCH_HEAD'
    )
  else:
    here = str(pathlib.Path(__file__).resolve().parent.parent)
    packed = os.path.join(tempfile.gettempdir(), f'{_NAME.value}.tar.gz')
    commands = [
      ['git', '-C', here, 'archive', f'--output={packed}', _REVISION.value],
      gcloud(
        *('tpu-vm', 'scp', packed, f'{_NAME.value}:hyperjax.tar.gz'),
        '--worker=all',
      ),
    ]
    fetch = (
      'mkdir -p hyperjax && tar -xzf hyperjax.tar.gz -C hyperjax && cd hyperjax'
    )
  commands.append(
    ssh(
      f'{fetch} && python3 -m pip install --quiet --user uv && '
      'python3 -m uv venv --quiet --clear --python=3.12 .venv && '
      "python3 -m uv pip install --quiet --python=.venv -e '.[tpu]'"
    )
  )
  if _SETUP.value:
    commands.append(ssh(_SETUP.value))
  return commands


def delete() -> list[list[str]]:
  """Gives the TPU back."""
  if _QUEUED.value:
    options = ('--force', '--quiet')
    return [gcloud('queued-resources', 'delete', _NAME.value, *options)]
  return [gcloud('tpu-vm', 'delete', _NAME.value, '--quiet')]


def plan(
  actions: Sequence[str], training: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
  """Yields (action, command) in order; 'wait' is the one to be repeated."""
  steps = {
    'create': create,
    'install': install,
    'run': lambda: [
      ssh(f'cd hyperjax && . .venv/bin/activate && {shlex.join(training)}')
    ],
    'delete': delete,
  }
  for action in ACTIONS:
    if action in actions:
      for command in steps[action]():
        yield action, command
      if action == 'create' and _QUEUED.value:
        yield 'wait', state()


def execute(action: str, command: Sequence[str]) -> None:
  """Runs a command to its end; its output goes straight through."""
  code = subprocess.run(command).returncode
  if code:
    raise UserError(
      f'--action={action}: exit code {code} of {shlex.join(command)}'
    )


def wait(command: Sequence[str]) -> None:
  """Asks for a queued TPU's state until it is there."""
  before = ''
  while True:
    asked = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    found = asked.stdout.strip()
    if asked.returncode:
      raise UserError(
        f'--queued: exit code {asked.returncode} of {shlex.join(command)}'
      )
    if found in ('FAILED', 'SUSPENDING', 'SUSPENDED', 'DELETING'):
      raise UserError(
        f'--queued: the request for {_NAME.value} is {found}; delete it by '
        f'--queued --action=delete, and ask again'
      )
    if found == 'ACTIVE':
      return
    if found != before:
      print(f'# {found}', flush=True)
    before = found
    time.sleep(_POLL_SECONDS.value)


def parse(argv: Sequence[str]) -> list[str]:
  """Parses our flags; what follows `--` is left as it is."""
  place = argv.index('--') if '--' in argv else len(argv)
  return [*command_line.parse(argv[:place]), *argv[place + 1 :]]


def check(training: Sequence[str]) -> None:
  """Checks the command line.

  Raises:
    UserError: names what is missing or wrong.
  """
  for name, value in (('name', _NAME.value), ('zone', _ZONE.value)):
    if not value:
      raise UserError(f'--{name} is missing')
  for action in _ACTION.value:
    if action not in ACTIONS:
      raise UserError(
        f"--action: no '{action}'; give some of {','.join(ACTIONS)}"
      )
  if not _ACTION.value:
    raise UserError(f'--action is empty; give some of {",".join(ACTIONS)}')
  if 'run' in _ACTION.value and not training:
    raise UserError('no command to run; give it at the end, behind --')
  for word in training:
    if word.startswith('gs://') or '=gs://' in word:
      raise UserError(
        f'{word}: a folder is needed that all workers see; mount the bucket '
        f'by --setup and name its folder'
      )
  for program in ('gcloud', 'git'):
    if _EXECUTE.value and not shutil.which(program):
      raise UserError(f'--execute: there is no {program}; install it')


def main(argv: Sequence[str]) -> None:
  """Prints the commands, and with --execute runs each as it is printed."""
  training = argv[1:]
  check(training)
  with Interruption():
    for action, command in plan(_ACTION.value, training):
      note = '  # until it says ACTIVE' if action == 'wait' else ''
      print(shlex.join(command) + note, flush=True)
      if _EXECUTE.value:
        wait(command) if action == 'wait' else execute(action, command)


if __name__ == '__main__':
  command_line.launch(main, parse)
