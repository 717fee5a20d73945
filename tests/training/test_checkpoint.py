import gc
import json
import logging
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperjax.errors import UserError
from hyperjax.training import hosts
from hyperjax.training.checkpoint import Checkpointer
from hyperjax.types import TrainState, Variables

# orbax 0.12 leaves coroutines unawaited when a file can't be read.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)

OPTIMIZER = optax.adam(1e-3)


def make_state(step):
  params = {'layers': {0: {'kernel': jnp.full((3, 4), step / 7)}}}
  return TrainState(
    jnp.int32(step),
    params,
    {'mean': jnp.arange(3.0) * step},
    ((jnp.ones((2, 3)) * step, jnp.zeros((2, 3))), ()),
    OPTIMIZER.init(params),
    jnp.int32(-1),
  )


def save(checkpointer, step, best=None, length=0):
  best = best and {'step': best, 'value': 1.5}
  checkpointer.save(
    make_state(step),
    metrics_length=length,
    best=[best],
    seconds=1.5,
    data={'name': 'toy'},
  )


def equal(first, second):
  same = jax.tree.map(
    lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), first, second
  )
  return jax.tree.all(same)


@pytest.fixture(autouse=True, scope='module')  # it takes as long as the heap
def collect_what_orbax_left():
  """Here, where it is expected, and not in some later file."""
  yield
  gc.collect()


@pytest.fixture
def checkpointer(tmp_path):
  checkpointer = Checkpointer(tmp_path)
  yield checkpointer
  checkpointer.close()


def test_a_state_comes_back_as_it_was(tmp_path, checkpointer):
  save(checkpointer, 7, best=5, length=123)
  checkpointer.close()
  state, record = Checkpointer(tmp_path).restore_latest(
    jax.eval_shape(lambda: make_state(0))
  )
  assert equal(state, make_state(7))
  assert jax.tree.structure(state) == jax.tree.structure(make_state(7))
  assert record['metrics_length'] == 123
  assert record['best'] == [{'step': 5, 'value': 1.5}]
  assert record['seconds'] == 1.5
  assert record['data'] == {'name': 'toy'}


def test_nothing_there(checkpointer):
  assert checkpointer.restore_latest(make_state(0)) is None
  assert checkpointer.restore_best(VARIABLES) is None


def test_the_state_may_be_donated_while_it_is_saved(tmp_path):
  checkpointer = Checkpointer(tmp_path)
  state = make_state(3)
  checkpointer.save(
    state, metrics_length=0, best=[None], seconds=0.0, data=None
  )
  advance = jax.jit(
    lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0
  )
  jax.block_until_ready(advance(state))
  checkpointer.close()
  restored, _ = Checkpointer(tmp_path).restore_latest(make_state(0))
  assert equal(restored, make_state(3))


def test_the_newest_and_the_best_are_kept(tmp_path, checkpointer):
  for step in range(1, 8):
    save(checkpointer, step, best=min(step, 2))
  checkpointer.wait()
  steps = checkpointer.steps()
  assert 2 in steps
  assert steps[-2:] == [6, 7]
  assert len(steps) <= 4


VARIABLES = Variables(make_state(0).params, make_state(0).state)


def save_three(tmp_path):
  """Step 1 is the best, then 2 is no better, then 3 is."""
  writer = Checkpointer(tmp_path)
  for step, best in ((1, 1), (2, 1), (3, 3)):
    save(writer, step, best=best)
  writer.close()


def test_the_best_step_is_restored(tmp_path):
  save_three(tmp_path)
  reader = Checkpointer(tmp_path, read_only=True)
  variables, step = reader.restore_best(VARIABLES)
  assert step == 3
  assert equal(variables.params, make_state(3).params)
  assert reader.record(3)['data'] == {'name': 'toy'}


def test_the_best_before_a_damaged_best_is_kept_and_restored(tmp_path, caplog):
  save_three(tmp_path)
  for path in data_files(tmp_path, 3, 'model'):
    damage(path)
  variables, step = Checkpointer(tmp_path).restore_best(VARIABLES)
  assert step == 1
  assert equal(variables.params, make_state(1).params)
  assert 'checkpoint 3 is damaged' in caplog.text


def test_a_damaged_older_best_gives_way_to_a_sound_step(tmp_path, caplog):
  writer = Checkpointer(tmp_path)
  for step in (1, 2, 3):
    save(writer, step, best=1)
  writer.close()
  for path in data_files(tmp_path, 1, 'model'):
    damage(path)
  _, step = Checkpointer(tmp_path).restore_best(VARIABLES)
  assert step == 3
  assert 'checkpoint 1 is damaged' in caplog.text


def test_the_best_survives_a_restart(tmp_path):
  with_best = Checkpointer(tmp_path)
  for step in (1, 2, 3):
    save(with_best, step, best=1)
  with_best.close()
  again = Checkpointer(tmp_path)
  again.restore_latest(make_state(0))
  for step in (4, 5, 6):
    save(again, step, best=1)
  again.wait()
  assert 1 in again.steps()
  again.close()


def test_each_seed_has_a_best_step_of_its_own(tmp_path):
  writer = Checkpointer(tmp_path)
  for step, best in ((1, (1, 1)), (2, (2, 1)), (3, (2, 1)), (4, (2, None))):
    writer.save(
      make_state(step),
      metrics_length=0,
      best=[b and {'step': b, 'value': 0.0} for b in best],
      seconds=0.0,
      data=None,
    )
  writer.close()
  reader = Checkpointer(tmp_path, read_only=True)
  assert {1, 2} <= set(reader.steps())
  assert reader.restore_best(VARIABLES, 0)[1] == 2
  assert reader.restore_best(VARIABLES, 1)[1] == 1


def files_of(tmp_path, step):
  folder = tmp_path / 'checkpoints' / str(step)
  return sorted(path for path in folder.rglob('*') if path.is_file())


def test_any_flipped_byte_is_named_or_harmless(tmp_path, caplog):
  """Damage to any file of a checkpoint never restores a wrong number."""
  writer = Checkpointer(tmp_path / 'run')
  save(writer, 1)
  save(writer, 2)
  writer.close()
  found = 0
  for path in files_of(tmp_path / 'run', 2):
    content = path.read_bytes()
    if not content:
      continue
    for place in {0, len(content) // 2, len(content) - 1}:
      flipped = bytearray(content)
      flipped[place] ^= 0x10
      path.write_bytes(bytes(flipped))
      caplog.clear()
      reader = Checkpointer(tmp_path / 'run', read_only=True)
      like = Variables(make_state(0).params, make_state(0).state)
      try:
        variables = reader.restore_model(2, like)
      except UserError as error:
        found += 1
        assert 'checkpoint 2 is damaged' in str(error)
      else:
        assert equal(variables.params, make_state(2).params), path
        assert equal(variables.state, make_state(2).state), path
      path.write_bytes(content)
      reader.close()
  assert found > 5


def damage(path: pathlib.Path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(bytes(content))


def data_files(tmp_path, step, part):
  """The files with arrays' bytes."""
  return [
    path
    for path in files_of(tmp_path, step)
    if part in path.parts and path.parent.name == 'd'
  ]


def test_other_numbers_of_the_same_shape_are_damage(tmp_path):
  """The arrays of another checkpoint, as orbax finds them whole."""
  writer = Checkpointer(tmp_path)
  save(writer, 1)
  save(writer, 2)
  writer.close()
  folders = [tmp_path / 'checkpoints' / step / 'model' for step in '12']
  shutil.rmtree(folders[1])
  shutil.copytree(*folders)
  reader = Checkpointer(tmp_path, read_only=True)
  like = Variables(make_state(0).params, make_state(0).state)
  with pytest.raises(UserError, match=r'2 is damaged .*checksum'):
    reader.restore_model(2, like)
  reader.close()


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
  tmp_path, caplog
):
  writer = Checkpointer(tmp_path)
  save(writer, 1, length=11)
  save(writer, 2, length=22)
  writer.close()
  for path in data_files(tmp_path, 2, 'rest'):
    damage(path)
  checkpointer = Checkpointer(tmp_path)
  with caplog.at_level(logging.WARNING):
    state, record = checkpointer.restore_latest(make_state(0))
  assert 'checkpoint 2 is damaged' in caplog.text
  assert equal(state, make_state(1))
  assert record['metrics_length'] == 11
  # The run that goes on from 1 writes 2 again.
  save(checkpointer, 2)
  checkpointer.close()
  state, _ = Checkpointer(tmp_path).restore_latest(make_state(0))
  assert equal(state, make_state(2))


def test_an_empty_step_folder_is_skipped(tmp_path, caplog):
  writer = Checkpointer(tmp_path)
  save(writer, 1)
  writer.close()
  os.mkdir(tmp_path / 'checkpoints' / '5')
  state, _ = Checkpointer(tmp_path).restore_latest(make_state(0))
  assert int(state.step) == 1
  assert 'checkpoint 5 is damaged' in caplog.text


def test_a_record_with_another_number_is_damaged(tmp_path, caplog):
  writer = Checkpointer(tmp_path)
  save(writer, 1)
  save(writer, 2, best=2)
  writer.close()
  (path,) = (
    path
    for path in files_of(tmp_path, 2)
    if 'record' in path.parts and b'metrics_length' in path.read_bytes()
  )
  content = json.loads(path.read_text())
  content['content']['best'][0]['step'] = 1
  path.write_text(json.dumps(content))
  state, _ = Checkpointer(tmp_path).restore_latest(make_state(0))
  assert int(state.step) == 1
  assert 'checkpoint 2 is damaged' in caplog.text


def test_a_lost_process_is_no_damage(tmp_path, monkeypatch):
  save_three(tmp_path)
  checkpointer = Checkpointer(tmp_path)
  steps = checkpointer.steps()

  def fail(*_, **__):
    raise ValueError('Gloo AllGather failed: Connection closed by peer')

  with monkeypatch.context() as patch:
    patch.setattr(checkpointer._manager, 'restore', fail)
    patch.setattr(hosts, 'count', lambda: 2)
    with pytest.raises(ValueError, match='Gloo'):
      checkpointer.restore_latest(make_state(0))
    with pytest.raises(ValueError, match='Gloo'):
      checkpointer.restore_best(Variables(*make_state(0)[1:3]))
  assert checkpointer.steps() == steps
  checkpointer.close()


def test_all_damaged(tmp_path):
  writer = Checkpointer(tmp_path)
  save(writer, 1)
  writer.close()
  for path in files_of(tmp_path, 1):
    damage(path) if path.stat().st_size else None
  with pytest.raises(UserError, match='all checkpoints'):
    Checkpointer(tmp_path).restore_latest(make_state(0))


def test_a_state_of_another_shape_is_no_match(tmp_path, caplog):
  writer = Checkpointer(tmp_path)
  save(writer, 1)
  writer.close()
  like = make_state(0)._replace(state={'mean': jnp.zeros(5)})
  with pytest.raises(UserError, match='all checkpoints'):
    Checkpointer(tmp_path).restore_latest(like)


def test_reading_changes_nothing(tmp_path):
  writer = Checkpointer(tmp_path)
  save(writer, 1)
  writer.close()
  before = {path: path.read_bytes() for path in files_of(tmp_path, 1)}
  reader = Checkpointer(tmp_path, read_only=True)
  reader.restore_model(1, Variables(make_state(0).params, make_state(0).state))
  with pytest.raises(UserError, match=r'config\.eval\.step.*there: 1'):
    reader.restore_model(3, Variables({}, {}))
  reader.close()
  assert {path: path.read_bytes() for path in files_of(tmp_path, 1)} == before
