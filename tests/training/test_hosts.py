"""What one process can tell; tests/test_processes.py has two."""

import contextlib
import queue

import numpy as np
import pytest

from hyperjax import config as configs
from hyperjax import run
from hyperjax import workdir as files
from hyperjax.errors import LostHostError, UserError
from hyperjax.training import hosts, session
from hyperjax.training.session import Session
from hyperjax.training.writers import NoWriter


@pytest.fixture
def joined(monkeypatch):
  """What `jax.distributed.initialize` is asked, if it is."""
  calls = []
  monkeypatch.setattr(
    'jax.distributed.initialize', lambda *given, **_: calls.append(given)
  )
  updates = {}
  monkeypatch.setattr('jax.config.update', updates.__setitem__)
  for names in hosts.LAUNCHERS.values():
    for name in names:
      monkeypatch.delenv(name, raising=False)
  return calls


def test_a_process_alone_joins_nobody(joined, monkeypatch):
  hosts.join()
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '1')  # as in an array of runs
  monkeypatch.setenv('SLURM_PROCID', '0')
  hosts.join()
  assert joined == []


def test_launchers_are_detected_by_jax(joined, monkeypatch):
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '4')
  monkeypatch.setenv('SLURM_PROCID', '2')
  hosts.join()
  hosts.join(detect=True)
  assert joined == [(None, None, None)] * 2


def test_open_mpi_tells_the_numbers_where_the_coordinator_is_given(
  joined, monkeypatch
):
  monkeypatch.setenv('OMPI_COMM_WORLD_SIZE', '3')
  monkeypatch.setenv('OMPI_COMM_WORLD_RANK', '1')
  hosts.join('node1:1234')
  hosts.join('node1:1234', 8, 5)
  assert joined == [('node1:1234', 3, 1), ('node1:1234', 8, 5)]


def test_processes_that_do_not_meet(monkeypatch, joined):
  def fail(*_, **__):
    raise ValueError('coordinator_address should be defined.')

  monkeypatch.setattr('jax.distributed.initialize', fail)
  with pytest.raises(UserError, match=r'should be defined.*--coordinator'):
    hosts.join(detect=True)


def test_one_process_decides_alone():
  assert hosts.count() == 1 and hosts.is_primary()
  assert hosts.gather([3, 4]).tolist() == [[3, 4]]
  assert hosts.agree(7, 15) == (7, 15)
  assert hosts.primary_first(lambda: 5) == 5
  hosts.check_same('config', b'any')
  with pytest.raises(UserError, match='mine'), hosts.shared_fate():
    raise UserError('mine')
  with pytest.raises(ValueError, match='Gloo'), hosts.losing_none():
    raise ValueError('Gloo failed')


@pytest.fixture
def second_of_two(monkeypatch):
  """This process is the second; returns a list for the first one's words."""
  first = []
  monkeypatch.setattr(hosts, 'count', lambda: 2)
  monkeypatch.setattr(hosts, 'index', lambda: 1)
  monkeypatch.setattr(
    hosts,
    'gather',
    lambda numbers: np.array([first.pop(0) or numbers, numbers], np.int32),
  )
  return first


def said(text):
  return list(text.encode().ljust(hosts.MESSAGE_BYTES, b'\0'))


def test_the_error_of_one_is_the_error_of_all(second_of_two):
  second_of_two += [said('no file ä'), said('')]
  with (
    pytest.raises(UserError, match='process 0: no file ä'),
    hosts.shared_fate(),
  ):
    pass
  with pytest.raises(UserError, match=r'^mine$'), hosts.shared_fate():
    raise UserError('mine')


def test_the_first_decides_on_sizes_and_anybody_on_signals(second_of_two):
  second_of_two += [[8, 15], [8, 0]]
  assert hosts.agree(3, 0) == (8, 15)
  assert hosts.agree(3, 2) == (8, 2)


def test_processes_with_other_configs(second_of_two):
  second_of_two += [[1, 2], None]
  with pytest.raises(UserError, match='0 and 1 of this run differ in config'):
    hosts.check_same('config', b'\1\3')
  hosts.check_same('config', b'\1\3')


def test_losing_another_process_is_told_from_other_errors(second_of_two):
  with (
    pytest.raises(
      LostHostError, match=r'process 1 of 2.*same command'
    ) as error,
    hosts.losing_none(),
  ):
    raise ValueError('UNKNOWN: Gloo all-reduce failed: reset by peer\nmore')
  assert error.value.exit_code == 75
  assert '\n' not in str(error.value)
  with pytest.raises(ValueError, match='shapes'), hosts.losing_none():
    raise ValueError('incompatible shapes')


@pytest.fixture
def leaving(monkeypatch):
  """Exit codes, and what jax's service was asked before."""
  calls = []

  class Client:
    def wait_at_barrier(self, name, milliseconds):
      calls.append((name, milliseconds))

    def key_value_set(self, key, value):
      calls.append((key, value))

    def blocking_key_value_get(self, key, milliseconds):
      assert 9_000 < milliseconds <= 10_000
      calls.append(key)

  monkeypatch.setattr(hosts.multihost, 'get_jax_distributed_client', Client)
  monkeypatch.setattr('os._exit', calls.append)
  monkeypatch.setattr(hosts, 'gather', lambda _: pytest.fail('a collective'))
  monkeypatch.setattr(hosts, 'SECONDS_TO_END', 0.0)
  return calls, Client


def test_leaving_waits_at_a_barrier_that_no_collective_is_taken_for(
  second_of_two, leaving
):
  calls, _ = leaving
  hosts.leave(75, together=False)
  hosts.leave(143, together=True)
  assert calls == [75, ('leave', 10_000), ('left/1', ''), 143]


def test_process_0_leaves_last(second_of_two, leaving, monkeypatch):
  calls, _ = leaving
  monkeypatch.setattr(hosts, 'index', lambda: 0)
  monkeypatch.setattr(hosts, 'count', lambda: 3)
  hosts.leave(143, together=True)
  assert calls == [('leave', 10_000), 'left/1', 'left/2', 143]


def test_leaving_does_not_hang_on_one_that_has_gone(
  second_of_two, leaving, monkeypatch
):
  calls, client = leaving

  def wait_at_barrier(*_):
    raise RuntimeError('the first has gone')

  monkeypatch.setattr(client, 'wait_at_barrier', wait_at_barrier)
  hosts.leave(143, together=True)
  assert calls == [143]


def test_a_run_that_only_one_finds_finished_is_refused(
  second_of_two, make_tiny_config, tmp_path
):
  second_of_two += [said(''), None, list(files.digest({'step': 20}))]
  with pytest.raises(UserError, match='0 and 1 of this run differ in what the'):
    run.train(make_tiny_config(), tmp_path)
  assert second_of_two == []


def test_processes_with_other_folders_are_refused(
  second_of_two, monkeypatch, tmp_path
):
  monkeypatch.setattr(session, 'SECONDS_UNTIL_SEEN', 0.0)
  token = [7] * 8
  second_of_two += [token, said(''), said('')]
  with (
    contextlib.ExitStack() as stack,
    pytest.raises(UserError, match='that all hosts share'),
  ):
    session._lock(tmp_path, stack)
  (tmp_path / 'lock').write_bytes(bytes(token))
  second_of_two += [token, said(''), said('')]
  session._lock(tmp_path, stack)
  assert second_of_two == []


def test_a_session_that_lost_a_process_does_not_wait_for_its_save(
  second_of_two,
):
  lost, closed = object.__new__(Session), []
  lost._writer = NoWriter()
  lost._closing = contextlib.ExitStack()
  lost._closing.callback(closed.append, 'checkpoints')
  with pytest.raises(ValueError, match='Gloo'), lost:
    raise ValueError('Gloo all-reduce failed')
  assert not closed
  lost._closing.callback(closed.append, 'checkpoints')
  with pytest.raises(ValueError, match='shapes'), lost:
    raise ValueError('incompatible shapes')
  assert closed == ['checkpoints']


def test_a_lost_process_is_noticed_where_it_is_waited_for(monkeypatch, capsys):
  class Client:
    def get_live_nodes(self, nodes):
      assert nodes == [0, 1, 2]
      return {1: None, 2: None}

  ends = queue.Queue()
  monkeypatch.setattr(hosts, 'count', lambda: 3)
  monkeypatch.setattr(hosts, 'index', lambda: 1)
  monkeypatch.setattr(hosts.multihost, 'get_jax_distributed_client', Client)
  monkeypatch.setattr('os._exit', ends.put)
  with hosts.Watchdog(0) as watchdog:
    with pytest.raises(queue.Empty):  # nobody waits, so nothing is amiss
      ends.get(timeout=1.5)
    with watchdog.over('step 5'):
      assert ends.get(timeout=30) == 75
  said = capsys.readouterr().err.splitlines()[0]
  assert said.startswith('error: process 1 of 3 has lost process 0 at step 5;')


def test_configs_of_older_runs_get_the_new_defaults():
  config = configs.base_config()
  old = config.copy_and_resolve_references()
  with old.unlocked():
    del old['mesh']
    del old.train['accumulate_steps']
    old.train.num_steps = 7
  full = configs.complete(old)
  assert full.mesh.to_dict() == config.mesh.to_dict()
  assert full.train.accumulate_steps == 1 and full.train.num_steps == 7
  assert 'mesh' not in old
