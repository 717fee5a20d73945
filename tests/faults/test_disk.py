"""Disks that are full, or can not be written: said, and nothing is lost."""

import errno
import os
import pathlib
import subprocess

import pytest

from hyperjax import run
from hyperjax.errors import DiskError
from hyperjax.training import disk
from hyperjax.training.checkpoint import Checkpointer
from tests.faults import runs
from tests.training.test_checkpoint import (
  collect_what_orbax_left,  # noqa: F401  # a fixture
  pytestmark,  # noqa: F401
)


def mount(*options):
  done = subprocess.run(['mount', *options], capture_output=True, text=True)
  if done.returncode:
    pytest.skip(f'can not mount here: {done.stderr.strip()}')


@pytest.fixture
def small_disk(tmp_path):
  """A disk of 500 KB, and what gives it another size or makes it read-only."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  mount('-t', 'tmpfs', '-o', 'size=500k', 'tmpfs', folder)
  yield folder, lambda options: mount('-o', f'remount,{options}', folder)
  # A save that failed may have files open still.
  subprocess.run(['umount', '--lazy', folder], check=True)


@pytest.mark.parametrize(
  'kind',
  ['language', pytest.param('images', marks=pytest.mark.slow)],
)
def test_a_full_disk_ends_the_run_and_loses_nothing(
  data, whole, small_disk, kind
):
  folder, remount = small_disk
  workdir = folder / 'run'
  code, _, err = runs.end(runs.start(kind, data[kind], workdir))
  assert code == 74, err
  *_, last = err.splitlines()  # tensorstore may print frames before
  assert last.startswith(f'error: {workdir}')
  assert 'No space left on device; mend that' in last
  before = runs.checkpoints(workdir)
  with pytest.raises(DiskError, match='No space left on device; mend that'):
    runs.finish(kind, data[kind], workdir)  # it stays full
  # An unfinished one was removed, so there may be room for another.
  kept = runs.checkpoints(workdir)
  assert before and set(before) <= set(kept)
  runs.last_state(workdir)  # is whole
  remount('size=50m')
  said = runs.finish(kind, data[kind], workdir)
  assert f'going on from step {kept[-1]}' in said
  assert runs.differences(workdir, whole(kind)) == []


def test_an_unwritable_save_is_found(data, whole, tmp_path):
  """The same without a disk of one's own; orbax fails behind the run's back."""
  process = runs.start(
    'language', data['language'], tmp_path, fault='full saving 3'
  )
  code, _, err = runs.end(process)
  assert code == 74, err
  # Orbax's threads may have printed frames of their own before.
  assert 'No space left on device; mend' in err.splitlines()[-1]
  # The save before may have been under way.
  assert runs.checkpoints(tmp_path) in ([10], [10, 20])
  runs.finish('language', data['language'], tmp_path)
  assert runs.differences(tmp_path, whole('language')) == []


def test_no_room_for_plain_files(tmp_path, make_tiny_config):
  config = make_tiny_config()
  config.model.cell = 'lstm'
  config.train.num_steps = 20
  # In the order in which they are written.
  names = ('config.json.partial', 'sample.txt', 'result.json.partial')
  for name in names:
    (tmp_path / name).symlink_to('/dev/full')
  for name in names:
    with pytest.raises(DiskError, match='No space left on device; mend'):
      run.train(config, tmp_path)
    (tmp_path / name).unlink()
  assert run.train(config, tmp_path)['step'] == 20


@pytest.fixture
def lock(tmp_path):
  """Commands that make the folder of checkpoints read-only, and undo it."""
  folder = tmp_path / 'checkpoints'
  folder.mkdir()
  # Root writes in spite of permissions, so an attribute is set instead.
  root = os.geteuid() == 0
  commands = [
    [*command.split(), str(folder)]
    for command in (
      ('chattr +i', 'chattr -i') if root else ('chmod a-w', 'chmod u+w')
    )
  ]
  for command in commands:
    if subprocess.run(command).returncode:
      pytest.skip(f'{command[0]} does not work here')
  yield commands
  subprocess.run(commands[1], check=True)


def test_checkpoints_that_become_read_only(
  lock, tmp_path, make_tiny_config, monkeypatch
):
  config, save = make_tiny_config(), Checkpointer.save
  config.model.cell = 'lstm'
  config.train.update({'num_steps': 20, 'checkpoint_every': 5})

  def save_and_lock(self, state, **options):
    if state.step == 15:
      subprocess.run(lock[0], check=True)
    save(self, state, **options)

  monkeypatch.setattr(Checkpointer, 'save', save_and_lock)
  with pytest.raises(DiskError, match=r'not permitted|denied'):
    run.train(config, tmp_path)
  subprocess.run(lock[1], check=True)
  monkeypatch.undo()
  assert runs.checkpoints(tmp_path) in ([5], [5, 10])
  assert run.train(config, tmp_path)['step'] == 20


@pytest.mark.slow
def test_a_workdir_that_becomes_read_only(lock, data, whole, tmp_path):
  process = runs.start(
    'language',
    data['language'],
    tmp_path,
    fault=f'command saving 3 {" ".join(lock[0])}',
  )
  code, _, err = runs.end(process)
  subprocess.run(lock[1], check=True)
  assert code == 74, err
  assert f'error: {tmp_path}' in err and 'Traceback' not in err
  assert runs.checkpoints(tmp_path) in ([10], [10, 20])
  runs.finish('language', data['language'], tmp_path)
  assert runs.differences(tmp_path, whole('language')) == []


def test_a_read_only_disk(small_disk, make_tiny_config):
  folder, remount = small_disk
  remount('size=50m')
  config, workdir = make_tiny_config(), folder / 'run'
  config.model.cell = 'lstm'
  config.train.num_steps = 20
  result = run.train(config, workdir)
  remount('ro')
  assert run.train(config, workdir) == result  # is finished
  name = 'test/bits_per_char'
  assert run.evaluate(config, workdir)[name] == result[name]
  assert run.sample(config, workdir)
  longer = config.copy_and_resolve_references()
  longer.train.num_steps = 30
  longer.optimizer.schedule = config.optimizer.schedule
  with pytest.raises(DiskError, match='Read-only file system'):
    run.train(longer, workdir)
  remount('rw')
  assert run.train(longer, workdir)['step'] == 30


@pytest.mark.parametrize(
  ('error', 'message'),
  [
    (OSError(errno.ENOSPC, 'full', '/a/b'), '/a/b: No space left on device; '),
    (
      ValueError("RESOURCE_EXHAUSTED: 'x': No space left on device [28]"),
      '/run: No space left on device; ',
    ),
    (OSError(errno.EIO, 'bad'), '/run: Input/output error; '),
    (TimeoutError('after 99 s'), '/run: a checkpoint was not written in time'),
  ],
)
def test_the_fault_is_named(error, message):
  with (
    pytest.raises(DiskError) as found,
    disk.faults_named(pathlib.Path('/run')),
  ):
    raise error
  assert str(found.value).startswith(message)


def test_other_errors_are_left_alone():
  with (
    pytest.raises(FileNotFoundError),
    disk.faults_named(pathlib.Path('/run')),
  ):
    pathlib.Path('/no/such/file').read_bytes()
