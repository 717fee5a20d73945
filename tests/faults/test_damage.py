"""Damaged checkpoints: noticed, named, and the one before is taken."""

import json
import logging
import shutil

import pytest

from hyperjax import run
from hyperjax.errors import UserError
from hyperjax.training.checkpoint import Checkpointer
from tests.faults import runs
from tests.training.test_checkpoint import (
  collect_what_orbax_left,  # noqa: F401  # a fixture
  equal,
  files_of,
  make_state,
  pytestmark,  # noqa: F401
  save,
)


def truncate(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
  path.write_bytes(b'')


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(bytes(content))


def remove(path):
  path.unlink()


@pytest.fixture(scope='module')
def two(tmp_path_factory):
  """A workdir with the checkpoints 1 and 2, and their files."""
  workdir = tmp_path_factory.mktemp('two')
  writer = Checkpointer(workdir)
  save(writer, 1, length=11)
  save(writer, 2, length=22)
  writer.close()
  return workdir, [path.relative_to(workdir) for path in files_of(workdir, 2)]


@pytest.mark.parametrize('damage', [truncate, empty, flip, remove])
def test_each_file_in_turn(tmp_path, two, caplog, damage):
  """What is restored is right, whatever file it was, and says what it is."""
  workdir, names = two
  fell_back = set()
  for number, name in enumerate(names):
    copy = tmp_path / str(number)
    shutil.copytree(workdir, copy)
    damage(copy / name)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
      checkpointer = Checkpointer(copy)
      state, record = checkpointer.restore_latest(make_state(0))
      steps = checkpointer.steps()
      checkpointer.close()
    step = int(state.step)
    assert equal(state, make_state(step)), name
    assert record['metrics_length'] == 11 * step, name
    if step == 1:
      fell_back.add(name)
      assert 'checkpoint 2 is damaged (' in caplog.text, name
      assert steps == [1], name
  data = {name for name in names if name.parent.name == 'd'}
  assert {name for name in data if name.parents[1].name != 'x'} & fell_back
  assert any(name.parts[2] == 'record' for name in fell_back)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, make_tiny_config):
  config, workdir = make_tiny_config(), tmp_path_factory.mktemp('trained')
  config.model.cell = 'lstm'
  return config, workdir, run.train(config, workdir)


def damage_step(workdir, step):
  for path in files_of(workdir, step):
    if path.parent.name == 'd':
      flip(path)


def test_evaluate_and_sample_take_the_best_that_is_whole(
  tmp_path, trained, caplog
):
  config, workdir, result = trained
  copy = tmp_path / 'run'
  shutil.copytree(workdir, copy)
  best = result['best_step']
  damage_step(copy, best)
  found = run.evaluate(config, copy)
  assert found['step'] != best
  assert f'checkpoint {best} is damaged' in caplog.text
  assert run.sample(config, copy)
  config = config.copy_and_resolve_references()
  config.eval.step = best
  with pytest.raises(UserError, match=f'checkpoint {best} is damaged'):
    run.evaluate(config, copy)


def test_where_no_checkpoint_is_left_all_refuse(tmp_path, trained):
  config, workdir, _ = trained
  copy = tmp_path / 'run'
  shutil.copytree(workdir, copy)
  (copy / 'result.json').unlink()
  for step in runs.checkpoints(copy):
    damage_step(copy, step)
  before = {path: path.read_bytes() for path in copy.rglob('*.json*')}
  for action in (run.train, run.evaluate, run.sample):
    with pytest.raises(UserError, match=r'all checkpoints .* are dam') as error:
      action(config, copy)
    assert '\n' not in str(error.value)
  assert {path: path.read_bytes() for path in before} == before


def test_metrics_that_were_cut_off_are_missed(tmp_path, trained, caplog):
  config, workdir, _ = trained
  copy = tmp_path / 'run'
  shutil.copytree(workdir, copy)
  (copy / 'result.json').unlink()
  truncate(copy / 'metrics.jsonl')
  run.train(config, copy)
  assert 'metrics.jsonl: has' in caplog.text and 'lines are lost' in caplog.text
  for line in (copy / 'metrics.jsonl').read_text().splitlines():
    json.loads(line)


@pytest.mark.parametrize('name', ['config.json', 'result.json'])
def test_a_damaged_plain_file_is_named(tmp_path, trained, name):
  config, workdir, _ = trained
  copy = tmp_path / 'run'
  shutil.copytree(workdir, copy)
  truncate(copy / name)
  with pytest.raises(UserError, match=name):
    run.train(config, copy)
