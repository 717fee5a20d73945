import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.errors import UserError
from hyperjax.training import optimizer

PARAMS = {'w': np.array([1.0, -2.0, 0.5]), 'b': np.array([[3.0]])}
GRADS = [
  {'w': np.array([0.3, -0.1, 2.0]), 'b': np.array([[-1.5]])},
  {'w': np.array([-0.7, 0.2, 0.0]), 'b': np.array([[4.0]])},
  {'w': np.array([0.1, 0.1, -3.0]), 'b': np.array([[0.5]])},
  {'w': np.array([1.1, -5.0, 0.4]), 'b': np.array([[-0.2]])},
]


def updates_of(grads=GRADS, **options):
  """The updates that a few steps give, and the parameters before each."""
  options = {'learning_rate': 0.1, 'num_steps': 100, **options}
  transform, _ = optimizer.build(**options)
  params = jax.tree.map(jnp.float32, PARAMS)
  state = transform.init(params)
  update = jax.jit(transform.update)
  for grad in grads:
    updates, state = update(jax.tree.map(jnp.float32, grad), state, params)
    before = jax.tree.map(np.asarray, params)
    params = jax.tree.map(jnp.add, params, updates)
    yield jax.tree.map(np.asarray, updates), before


def adam(grads, rate, weight_decay=0.0, params=None):
  """The updates of one parameter, with optax's defaults."""
  m = v = 0.0
  for t, grad in enumerate(grads, start=1):
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    decay = weight_decay * params[t - 1] if weight_decay else 0.0
    yield -rate(t - 1) * (step + decay)


def sgd(grads, rate):
  velocity = 0.0
  for t, grad in enumerate(grads):
    velocity = 0.9 * velocity + grad
    yield -rate(t) * velocity


def warm_then_linear(step):
  return 0.1 * (step + 1) / 2 if step < 2 else 0.1 * (1 - (step - 2) / 6)


SCHEDULES = [
  ({}, lambda step: 0.1),
  (
    {'schedule': 'linear', 'warmup_steps': 2, 'num_steps': 8},
    warm_then_linear,
  ),
]


@pytest.mark.parametrize(('options', 'rate'), SCHEDULES)
@pytest.mark.parametrize('name', ['adam', 'adamw', 'sgd'])
def test_steps_are_those_of_the_equations(name, options, rate):
  decay = 0.3 if name == 'adamw' else 0.0
  got = list(updates_of(name=name, weight_decay=decay, **options))
  for leaf in PARAMS:
    grads = [grad[leaf] for grad in GRADS]
    if name == 'sgd':
      expected = list(sgd(grads, rate))
    else:
      before = [params[leaf] for _, params in got]
      expected = list(adam(grads, rate, decay, before))
    for (updates, _), value in zip(got, expected, strict=True):
      # In float32 the moments' digits cancel.
      np.testing.assert_allclose(updates[leaf], value, rtol=2e-5, atol=2e-6)


def test_weights_decay_even_without_a_gradient():
  zero = jax.tree.map(np.zeros_like, PARAMS)
  options = {'name': 'adamw', 'weight_decay': 0.5}
  ((updates, _),) = updates_of([zero], **options)
  for leaf, value in PARAMS.items():
    np.testing.assert_allclose(updates[leaf], -0.1 * 0.5 * value, rtol=1e-6)


# Momentum SGD's first update is -rate * the clipped gradient.


@pytest.mark.parametrize('scale', [0.01, 0.5, 1.0, 100.0])
def test_the_global_norm_is_clipped(scale):
  grad = jax.tree.map(lambda x: scale * x, GRADS[0])
  norm = np.sqrt(sum((x**2).sum() for x in grad.values()))
  ((updates, _),) = updates_of([grad], name='sgd', clip_norm=1.0)
  factor = min(1.0, 1.0 / norm)
  for leaf, value in grad.items():
    np.testing.assert_allclose(updates[leaf], -0.1 * factor * value, rtol=1e-5)
  clipped = np.sqrt(sum((x**2).sum() for x in updates.values())) / 0.1
  assert clipped == pytest.approx(min(norm, 1.0), rel=1e-5)


def test_elements_are_clipped_each_by_itself():
  ((updates, _),) = updates_of(GRADS[:1], name='sgd', clip_value=0.2)
  np.testing.assert_allclose(updates['w'], [-0.02, 0.01, -0.02], rtol=1e-6)
  np.testing.assert_allclose(updates['b'], [[0.02]], rtol=1e-6)


def test_the_norm_is_clipped_before_the_elements():
  grad = {'w': np.array([3.0, 0.0, 0.0]), 'b': np.array([[4.0]])}
  options = {'name': 'sgd', 'clip_norm': 1.0, 'clip_value': 0.7}
  ((updates, _),) = updates_of([grad], **options)
  np.testing.assert_allclose(updates['w'], [-0.06, 0, 0], rtol=1e-5)
  np.testing.assert_allclose(updates['b'], [[-0.07]], rtol=1e-5)


def test_zero_means_no_clipping():
  grad = jax.tree.map(lambda x: 1e4 * x, GRADS[0])
  options = {'name': 'sgd', 'clip_norm': 0.0, 'clip_value': 0.0}
  ((updates, _),) = updates_of([grad], **options)
  np.testing.assert_allclose(updates['w'], -0.1 * grad['w'], rtol=1e-6)


@pytest.mark.parametrize('name', ['adam', 'adamw'])
def test_a_clipped_gradient_goes_into_the_moments(name):
  got = list(updates_of(name=name, clip_value=0.2))
  grads = [np.clip(grad['w'], -0.2, 0.2) for grad in GRADS]
  for (updates, _), value in zip(got, adam(grads, lambda _: 0.1), strict=True):
    np.testing.assert_allclose(updates['w'], value, rtol=2e-5, atol=2e-6)


# Schedules.


def rates(schedule, num_steps, warmup_steps=0, peak=0.5):
  _, rate = optimizer.build(
    name='adam',
    learning_rate=peak,
    num_steps=num_steps,
    schedule=schedule,
    warmup_steps=warmup_steps,
  )
  steps = jnp.arange(num_steps + 1)
  return np.array([np.asarray(rate(step)) for step in steps], np.float64)


def expected_rate(schedule, step, num_steps, warmup_steps, peak=0.5):
  if step < warmup_steps:
    return peak * (step + 1) / warmup_steps
  done = (step - warmup_steps) / (num_steps - warmup_steps)
  return {
    'constant': peak,
    'linear': peak * (1 - done),
    'cosine': peak * (1 + np.cos(np.pi * done)) / 2,
  }[schedule]


@pytest.mark.parametrize('schedule', ['constant', 'linear', 'cosine'])
@pytest.mark.parametrize(
  ('num_steps', 'warmup_steps'),
  [(1, 0), (10, 0), (10, 1), (10, 2), (10, 5), (10, 9)],
)
def test_rates_by_step(schedule, num_steps, warmup_steps):
  got = rates(schedule, num_steps, warmup_steps)
  expected = [
    expected_rate(schedule, step, num_steps, warmup_steps)
    for step in range(num_steps + 1)
  ]
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
  assert (got[:-1] > 0).all()  # no step of the run is lost
  assert got[max(warmup_steps - 1, 0)] == pytest.approx(0.5)
  assert got[warmup_steps] == pytest.approx(
    0.5 if num_steps > warmup_steps else 0
  )
  if schedule != 'constant':
    assert got[num_steps] == pytest.approx(0, abs=1e-7)


def test_constant_is_the_default_without_warm_up():
  _, rate = optimizer.build(name='sgd', learning_rate=0.25, num_steps=5)
  assert [float(rate(step)) for step in range(6)] == [0.25] * 6


# What is refused.


@pytest.mark.parametrize(
  ('options', 'field', 'words'),
  [
    ({'name': 'adan'}, 'config.optimizer.name', "did you mean 'adam'?"),
    ({'name': 'lion'}, 'config.optimizer.name', 'known: adam, adamw, sgd'),
    (
      {'schedule': 'cosin'},
      'config.optimizer.schedule',
      "did you mean 'cosine'?",
    ),
    (
      {'schedule': 'x', 'warmup_steps': 3},
      'config.optimizer.schedule',
      'known: constant, cosine, linear',
    ),
    ({'weight_decay': 0.1}, 'config.optimizer.weight_decay', 'adamw'),
    (
      {'name': 'sgd', 'weight_decay': 1e-9},
      'config.optimizer.weight_decay',
      'adamw',
    ),
    ({'warmup_steps': 10}, 'config.optimizer.warmup_steps 10', 'num_steps 10'),
    ({'warmup_steps': 11}, 'config.optimizer.warmup_steps 11', 'num_steps 10'),
  ],
)
def test_a_bad_option_is_refused(options, field, words):
  options = {'name': 'adam', 'learning_rate': 0.1, 'num_steps': 10, **options}
  with pytest.raises(UserError) as error:
    optimizer.build(**options)
  message = str(error.value)
  assert message.startswith(field)
  assert words in message
  assert '\n' not in message


def test_adamw_may_leave_weights_alone():
  plain = updates_of(name='adam')
  decayed = updates_of(name='adamw', weight_decay=0.0)
  for (first, _), (second, _) in zip(plain, decayed, strict=True):
    np.testing.assert_allclose(first['w'], second['w'], rtol=1e-6)


def test_rates_in_steps_change_at_their_boundaries():
  _, rate = optimizer.build(
    name='sgd',
    learning_rate=0.1,
    num_steps=100,
    schedule='steps',
    boundaries=(3, 7),
    rates=(0.02, 0.004),
  )
  rates = [float(rate(step)) for step in range(9)]
  np.testing.assert_allclose(rates, [0.1] * 3 + [0.02] * 4 + [0.004] * 2)


def test_boundaries_count_from_the_first_step_after_a_warm_up_too():
  _, rate = optimizer.build(
    name='adam',
    learning_rate=0.1,
    num_steps=100,
    schedule='steps',
    warmup_steps=2,
    boundaries=(5,),
    rates=(0.01,),
  )
  rates = [float(rate(step)) for step in range(7)]
  np.testing.assert_allclose(rates, [0.05, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_nesterov_looks_ahead():
  steps = list(updates_of(name='sgd', nesterov=True))
  trace = 0.0
  for (update, _), grad in zip(steps, GRADS, strict=True):
    trace = grad['w'] + 0.9 * trace
    expected = -0.1 * (grad['w'] + 0.9 * trace)
    np.testing.assert_allclose(update['w'], expected, rtol=1e-5)


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'schedule': 'steps'}, 'boundaries has 0 steps'),
    (
      {'schedule': 'steps', 'boundaries': (5,), 'rates': (0.1, 0.2)},
      'boundaries has 1 steps and config.optimizer.rates 2 rates',
    ),
    (
      {'schedule': 'steps', 'boundaries': (5, 4), 'rates': (0.1, 0.2)},
      'boundaries (5, 4) must ascend from 1',
    ),
    (
      {'schedule': 'steps', 'boundaries': (5,), 'rates': (0.0,)},
      'rates (0.0,) must be above 0',
    ),
    ({'boundaries': (5,), 'rates': (0.1,)}, "the schedule is 'constant'"),
    (
      {
        'schedule': 'steps',
        'warmup_steps': 5,
        'boundaries': (5,),
        'rates': (0.1,),
      },
      'boundaries begin at 5, within the 5 steps of warm-up',
    ),
    ({'nesterov': True}, 'nesterov: only sgd has momentum'),
  ],
)
def test_bad_steps_are_refused(options, words):
  with pytest.raises(UserError) as error:
    optimizer.build(name='adam', learning_rate=0.1, num_steps=10, **options)
  assert words in str(error.value)


def test_a_factor_holds_from_its_step_on():
  _, rate = optimizer.build(
    name='sgd', learning_rate=1.0, num_steps=9, factors=((3, 0.5), (5, 0.1))
  )
  found = [float(rate(step)) for step in range(7)]
  np.testing.assert_allclose(found, [1, 1, 1, 0.5, 0.5, 0.05, 0.05])
