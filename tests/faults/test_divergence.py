"""Numbers that are not finite: the run says where, and may try again."""

import pytest

from hyperjax import run
from hyperjax import workdir as files
from hyperjax.errors import RunDivergedError, UserError
from tests.faults import runs
from tests.training.test_checkpoint import (
  collect_what_orbax_left,  # noqa: F401  # a fixture
  pytestmark,  # noqa: F401
)

# At step 25 the rate becomes such that no number survives it.
BREAKS = {'boundaries': (25,), 'rates': (1e30,)}


@pytest.fixture(scope='module')
def make(make_tiny_config):
  """Makes configs of 40 steps, checkpoints at 10, 20, ... and a restart."""
  config = make_tiny_config()
  config.model.cell = 'lstm'
  config.optimizer.update(
    {
      'name': 'sgd',
      'learning_rate': 0.1,
      'warmup_steps': 0,
      'clip_norm': 0.0,
      'schedule': 'steps',
      **BREAKS,
    }
  )
  config.train.update(
    {'num_steps': 40, 'max_restarts': 1, 'restart_factor': 1e-30}
  )
  return config.copy_and_resolve_references


@pytest.fixture
def breaking(make):
  return make()


@pytest.fixture(scope='module')
def whole(make, tmp_path_factory):
  """The workdir of a run that restarted, its result, and what it said."""
  workdir = tmp_path_factory.mktemp('whole')
  return workdir, *runs.train(make(), workdir)


def test_it_stops_and_names_the_step_and_the_checkpoint(breaking, tmp_path):
  breaking.train.max_restarts = 0
  with pytest.raises(RunDivergedError) as error:
    run.train(breaking, tmp_path)
  assert error.value.checkpoint == 20
  step = error.value.steps[0]
  assert 25 <= step < 30
  assert f'not finite at step {step}; the last good' in str(error.value)
  assert 'checkpoint is that of step 20' in str(error.value)
  # It may be told later to go on.
  breaking.train.max_restarts = 1
  assert run.train(breaking, tmp_path)['step'] == 40


def test_it_goes_on_with_a_lower_rate(breaking, whole):
  workdir, result, said = whole
  assert 'restart 1 of 1: from step 20 on' in said
  assert result['step'] == 40
  assert result['restart_1/step'] == 20
  assert result['restart_1/factor'] == 1e-30
  assert 25 <= result['restart_1/diverged_at'] < 30
  rates = {
    line['step']: line['train/learning_rate']
    for line in runs.lines(workdir)
    if 'train/learning_rate' in line
  }
  assert sorted(rates) == list(range(5, 41, 5))
  assert [rates[step] for step in (5, 20)] == pytest.approx([0.1, 0.1])
  assert rates[25] == pytest.approx(1e-31)
  assert [rates[step] for step in (30, 40)] == pytest.approx([1.0, 1.0])
  assert run.train(breaking, workdir) == result


@pytest.mark.parametrize(
  'written', [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_killed_between_divergence_and_restart(
  breaking, whole, tmp_path, monkeypatch, written
):

  class KilledError(Exception):
    pass

  write = files.write_restarts

  def write_and_die(*arguments):
    if written:
      write(*arguments)
    raise KilledError

  with monkeypatch.context() as patch:
    patch.setattr(files, 'write_restarts', write_and_die)
    with pytest.raises(KilledError):
      run.train(breaking, tmp_path)
  assert run.train(breaking, tmp_path) == whole[1]
  assert runs.differences(tmp_path, whole[0]) == []


@pytest.mark.slow
def test_an_older_checkpoint_is_gone_on_from_at_its_own_rate(
  breaking, whole, tmp_path
):
  """The rate is lowered from a step on, not from a moment on."""
  short = breaking.copy_and_resolve_references()
  short.train.num_steps = 20
  run.train(short, tmp_path)
  (tmp_path / 'result.json').unlink()
  for path in (tmp_path / 'checkpoints' / '20').rglob('*'):
    if path.parent.name == 'd':
      path.write_bytes(b'')
  files.write_restarts(tmp_path, files.read_restarts(whole[0]))
  assert run.train(breaking, tmp_path) == whole[1]


@pytest.mark.slow
def test_restarts_come_to_an_end(breaking, tmp_path):
  breaking.train.update({'max_restarts': 2, 'restart_factor': 0.5})
  with pytest.raises(RunDivergedError, match=r'config\.train\.max_restarts'):
    run.train(breaking, tmp_path)
  restarts = files.read_restarts(tmp_path)
  assert [restart.step for restart in restarts] == [20, 20]


@pytest.mark.slow
def test_without_a_checkpoint_it_begins_again(breaking, tmp_path):
  breaking.train.checkpoint_every = breaking.train.eval_every = 40
  result = run.train(breaking, tmp_path)
  assert result['restart_1/step'] == 0
  other = breaking.copy_and_resolve_references()
  other.model.hidden_size += 1
  with pytest.raises(UserError, match=r'model\.hidden_size'):
    run.train(other, tmp_path)


def test_of_several_seeds_none_restarts(breaking, tmp_path):
  breaking.num_seeds = 2
  with pytest.raises(UserError, match=r'config\.train\.max_restarts is 1'):
    run.train(breaking, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('kind', runs.KINDS)
def test_the_command_says_it_in_one_line(data, tmp_path, kind):
  process = runs.start(
    kind,
    data[kind],
    tmp_path,
    '--config.optimizer.name=sgd',
    '--config.optimizer.learning_rate=1e30',
    '--config.optimizer.clip_norm=0',
  )
  code, _, err = runs.end(process)
  assert code == 2
  *_, last = err.splitlines()
  assert last.startswith(f'error: {tmp_path}: a metric is not finite at step ')
  assert 'Traceback' not in err
