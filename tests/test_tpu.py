"""The launcher for TPUs, with a gcloud that only notes what it is asked."""

import json
import os
import pathlib
import runpy
import shlex
import subprocess
import sys
import tempfile

import pytest

from hyperjax.errors import UserError

FAKE = """#!{python}
import json, os, pathlib, sys
log = pathlib.Path({log!r})
calls = log.read_text().splitlines() if log.exists() else []
with log.open('a') as file:
  file.write(json.dumps(['gcloud', *sys.argv[1:]]) + '\\n')
asked = sum('"describe"' in call for call in calls)
if 'describe' in sys.argv:
  print(os.environ.get('STATES', 'ACTIVE').split(',')[asked])
if 'ssh' in sys.argv:
  print('from a worker')
if os.environ.get('FAILS_AT', 'nothing') in sys.argv:
  sys.exit(3)
"""
TPU = ('--name=hyper', '--zone=us-central1-a')
TRAIN = ('python', '-m', 'hyperjax.main', '--config=a.py:b', '--workdir=/mnt/r')


@pytest.fixture
def launch(repository, tmp_path, monkeypatch, forget, capfd):
  """Runs the script with the fake gcloud; returns how it ended.

  In this process, or with `started` in one of its own.
  """
  folder = tmp_path / 'bin'
  folder.mkdir()
  fake = folder / 'gcloud'
  log = str(tmp_path / 'calls')
  fake.write_text(FAKE.format(python=sys.executable, log=log))
  fake.chmod(0o755)
  monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')
  monkeypatch.setenv('TMPDIR', str(tmp_path))
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))

  def run(*arguments: str, started: bool = False, **environment: str):
    for name, value in environment.items():
      monkeypatch.setenv(name, value)
    command = [f'{repository}/scripts/tpu.py', *arguments]
    if started:
      words = [sys.executable, *command]
      return subprocess.run(words, capture_output=True, text=True, timeout=300)
    code = 0
    forget()
    script = runpy.run_path(command[0])
    try:
      script['main'](script['parse'](command))
    except UserError as error:  # as in `command_line.launch`
      print(f'error: {error}', file=sys.stderr)
      code = error.exit_code
    return subprocess.CompletedProcess(command, code, *capfd.readouterr())

  yield run
  forget()


def calls(tmp_path: pathlib.Path) -> list[list[str]]:
  path = tmp_path / 'calls'
  lines = path.read_text().splitlines() if path.exists() else []
  return [json.loads(line) for line in lines]


def printed(text: str) -> list[list[str]]:
  """The commands in what the script prints."""
  commands = [shlex.split(line, comments=True) for line in text.splitlines()]
  return [words for words in commands if words[:1] in (['gcloud'], ['git'])]


def test_what_is_printed_is_what_is_run(launch, tmp_path):
  arguments = (*TPU, '--project=p', '--setup=mount "a b"')
  shown = launch(*arguments, '--', *TRAIN, started=True)
  assert shown.returncode == 0, shown.stderr
  assert not calls(tmp_path)
  done = launch(*arguments, '--execute', '--', *TRAIN)
  assert done.returncode == 0, done.stderr
  assert printed(done.stdout) == printed(shown.stdout)
  asked = [words for words in printed(shown.stdout) if words[0] == 'gcloud']
  assert calls(tmp_path) == asked
  assert [words[3:6] for words in asked] == [
    ['tpu-vm', 'create', 'hyper'],
    ['tpu-vm', 'scp', f'{tmp_path}/hyper.tar.gz'],
    *[['tpu-vm', 'ssh', 'hyper']] * 3,
  ]
  for words in asked:
    assert '--zone=us-central1-a' in words and '--project=p' in words
    assert ('--worker=all' in words) == (words[4] != 'create')
  assert '--accelerator-type=v5litepod-8' in asked[0]
  assert '--version=v2-alpha-tpuv5-lite' in asked[0]
  assert '--spot' not in asked[0]
  assert "-e '.[tpu]'" in asked[2][7]
  assert '--command=mount "a b"' in asked[3]
  assert (tmp_path / 'hyper.tar.gz').stat().st_size > 10_000
  assert done.stdout.count('from a worker') == 3


def test_odd_arguments_reach_the_workers_whole(launch, tmp_path):
  odd = (
    'python',
    '-c',
    'print("it\'s $HOME")',
    '',
    'a b;c',
    '--x=*',
    '--',
    'ä',
  )
  done = launch(*TPU, '--execute', '--action=run', '--', *odd)
  assert done.returncode == 0, done.stderr
  ((*_, command, _),) = calls(tmp_path)
  remote = command.removeprefix('--command=cd hyperjax && ')
  activate, _, rest = remote.partition(' && ')
  assert activate == '. .venv/bin/activate'
  # What a shell makes of it.
  code = 'import json, sys; print(json.dumps(sys.argv[1:]))'
  words = f'{sys.executable} -c {shlex.quote(code)} {rest}'
  seen = subprocess.run(
    ['bash', '-c', words], capture_output=True, text=True, check=True
  )
  assert tuple(json.loads(seen.stdout)) == odd


def test_a_queued_spot_slice_is_waited_for(launch, tmp_path):
  done = launch(
    *(*TPU, '--queued', '--spot', '--execute', '--poll_seconds=0'),
    *('--repository=https://x.y/z.git', '--revision=v 1', '--', *TRAIN),
    STATES='WAITING_FOR_RESOURCES,PROVISIONING,ACTIVE',
  )
  assert done.returncode == 0, done.stderr
  asked = calls(tmp_path)
  verbs = [words[4] for words in asked]
  assert verbs == ['create', *['describe'] * 3, 'ssh', 'ssh']
  create, describe, *_, install, _ = asked
  assert create[3:6] == ['queued-resources', 'create', 'hyper']
  assert {'--node-id=hyper', '--spot'} < set(create)
  assert '--runtime-version=v2-alpha-tpuv5-lite' in create
  assert '--format=value(state.state)' in describe
  assert "git fetch --quiet https://x.y/z.git 'v 1'" in install[7]
  assert '# PROVISIONING' in done.stdout


@pytest.mark.parametrize('state', ['FAILED', 'SUSPENDED'])
def test_a_request_that_is_refused_ends_in_one_line(launch, tmp_path, state):
  done = launch(*TPU, '--queued', '--execute', '--', *TRAIN, STATES=state)
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith('error: --queued') and state in line
  assert calls(tmp_path)[-1][4] == 'describe'


@pytest.mark.parametrize(
  ('verb', 'action', 'started'),
  [('create', 'create', False), ('scp', 'install', True)],
)
def test_the_first_failure_stops_all(launch, tmp_path, verb, action, started):
  arguments = (*TPU, '--execute', '--', *TRAIN)
  done = launch(*arguments, started=started, FAILS_AT=verb)
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith(f'error: --action={action}: exit code 3 of gcloud')
  assert calls(tmp_path)[-1][4] == verb


@pytest.mark.parametrize(
  ('queued', 'words'),
  [
    ([], ['tpu-vm', 'delete', 'hyper']),
    (['--queued'], ['queued-resources', 'delete', 'hyper', '--force']),
  ],
)
def test_it_is_deleted_only_when_asked(launch, queued, words):
  done = launch(*TPU, *queued, '--action=delete')
  (command,) = printed(done.stdout)
  assert command[3:-1] == [*words, '--quiet']


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--zone=z', '--', 'x'], '--name is missing'),
    (['--name=n', '--', 'x'], '--zone is missing'),
    ([*TPU], 'behind --'),
    ([*TPU, '--action=creat', '--', 'x'], "no 'creat'"),
    ([*TPU, '--action=', '--', 'x'], '--action is empty'),
    ([*TPU, 'x'], "'x' is not a flag"),
    ([*TPU, '--', 'x', '--workdir=gs://b/r'], '--workdir=gs://b/r'),
    ([*TPU, '--poll_seconds=-1', '--', 'x'], 'poll_seconds'),
  ],
)
def test_a_bad_command_line_ends_in_one_line(launch, arguments, words):
  done = launch(*arguments)
  assert done.returncode == 2 and done.stdout == ''
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith('error: ') and words in line


def test_without_gcloud(launch, tmp_path):
  done = launch(*TPU, '--execute', '--', *TRAIN, PATH=str(tmp_path))
  assert done.returncode == 2
  assert done.stderr.startswith('error: --execute: there is no gcloud')
