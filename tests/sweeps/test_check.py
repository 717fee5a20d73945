import jax
import pytest

from hyperjax import parts
from hyperjax.errors import UserError
from hyperjax.sweeps.check import check
from hyperjax.sweeps.space import (
  as_space,
  choice,
  grid,
  log_uniform,
  product,
  uniform,
)
from hyperjax.sweeps.sweep import Sweep

SMALL = ('--config.model.hidden_size=8', '--config.model.hyper_size=4')


@pytest.fixture
def make(repository, tmp_path):
  """Makes sweeps of a config file, nothing of which is written."""

  def make(space, flags=SMALL, row='ln_hyper_lstm'):
    return Sweep(
      folder=tmp_path / 'sweep',
      config=f'{repository}/configs/text.py:{row}',
      flags=flags,
      space=space,
      num_points=3 if space.ranges else len(space.points()),
    )

  return make


def test_points_of_one_model_build_it_once(make, monkeypatch):
  built = []
  build_task = parts.build_task
  monkeypatch.setattr(
    parts, 'build_task', lambda c: built.append(c) or build_task(c)
  )
  rates = [k * 1e-4 for k in range(1, 101)]
  space = grid({'model.z_size': (2, 3), 'optimizer.learning_rate': rates})
  assert check(make(space)) == ('bits_per_char', 3_600)
  assert len(built) == 2


BAD = [
  ({'model.hiden_size': 3}, 'config.model.hidden_size'),
  ({'model': 3}, 'config.model'),
  ({'model.z_size': 2.5}, 'config.model.z_size'),
  ({'model.z_size': 'four'}, 'config.model.z_size'),
  ({'model.z_size': 0}, 'config.model.z_size is 0'),
  ({'optimizer.learning_rate': -1.0}, 'config.optimizer.learning_rate'),
  ({'optimizer.name': 'adma'}, "did you mean 'adam'"),
  ({'model.cell': 'ln_hyper_lsmt'}, 'config.model.cell'),
  ({'data.name': 'txet'}, 'config.data.name'),
  ({'dtype': 'float16'}, 'config.dtype'),
]


@pytest.mark.parametrize(
  ('point', 'message'), BAD, ids=[next(iter(p)) for p, _ in BAD]
)
def test_a_bad_point_is_named_with_its_field(make, point, message):
  points = [{'seed': seed} for seed in range(7)] + [point]
  with pytest.raises(UserError) as error:
    check(make(as_space(points)))
  assert str(error.value).startswith('point 7 (')
  assert message in str(error.value)
  assert '\n' not in str(error.value)


def test_both_ends_of_a_range_are_checked(make):
  good = product(
    log_uniform('optimizer.learning_rate', 1e-4, 1e-2),
    uniform('model.recurrent_keep_prob', 0.5, 1.0),
  )
  check(make(good))
  bad = product(good, uniform('model.zoneout_c', 0.5, 1.5))
  with pytest.raises(UserError, match=r'an edge of the space .*zoneout_c'):
    check(make(bad))


def test_a_field_that_is_swept_may_not_be_given(make):
  with pytest.raises(UserError, match=r'--config\.seed is given too'):
    check(make(choice('seed', (1,)), (*SMALL, '--config.seed=1')))


def test_whatever_a_model_raises_is_one_line(make, monkeypatch):
  def broken(config):
    raise ValueError('no such shape\nsecond line')

  monkeypatch.setattr(parts, 'build_task', broken)
  with pytest.raises(UserError, match='can not be built: ValueError: no such'):
    check(make(choice('seed', (1,))))


def test_nothing_is_allocated(make, monkeypatch):
  monkeypatch.setattr(jax, 'device_put', None)
  check(make(choice('model.hidden_size', (100_000,)), flags=()))
