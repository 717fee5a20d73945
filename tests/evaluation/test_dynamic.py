import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import parts
from hyperjax.evaluation.dynamic import DynamicEvaluator
from hyperjax.evaluation.evaluate import Evaluator
from hyperjax.training.metrics import Mean


@pytest.fixture(scope='module')
def trained(make_tiny_config):
  config = make_tiny_config()
  config.model.cell = 'lstm'
  task, source = parts.build_task(config), parts.build_source(config)
  return task, source, jax.jit(task.init)(jax.random.key(0))


def test_a_rate_of_zero_is_the_plain_evaluation(trained):
  task, source, variables = trained
  plain = Evaluator(task, source)(*variables, 'test', 1)
  dynamic = DynamicEvaluator(task, source, 0.0)(*variables, 'test')
  assert list(dynamic) == ['test_dynamic/bits_per_char']
  assert dynamic['test_dynamic/bits_per_char'] == pytest.approx(
    plain['test/bits_per_char'], rel=1e-6
  )


def test_it_learns_from_the_text_and_leaves_the_parameters(trained):
  task, source, variables = trained
  before = jax.tree.map(np.array, variables.params)
  evaluator = DynamicEvaluator(task, source, 0.5)
  first = evaluator(*variables, 'test')['test_dynamic/bits_per_char']
  plain = Evaluator(task, source)(*variables, 'test', 1)
  assert first < plain['test/bits_per_char'] - 0.1
  jax.tree.map(np.testing.assert_array_equal, before, variables.params)
  assert evaluator(*variables, 'test')['test_dynamic/bits_per_char'] == first


class Level:
  """Predicts a number by its parameter: the metric is (x - w)^2."""

  objective = 'error'

  def carry(self, batch_size):
    return jnp.zeros((batch_size,))

  def metrics(self, params, state, carry, batch):
    error = jnp.square(batch['x'] - params['w'])
    total = jnp.sum(jnp.where(batch['mask'], error, 0))
    return carry + 1, {'error': Mean(total, jnp.sum(batch['mask'] * 1.0))}


class Windows:
  def __init__(self, *windows):
    self.windows = windows

  def eval(self, split, batch_size):
    assert batch_size == 1
    return [
      {'x': jnp.array([x]), 'mask': jnp.array([mask])}
      for x, mask in self.windows
    ]


def test_each_window_is_predicted_before_it_is_learned():
  source = Windows((1.0, True), (1.0, True), (1.0, True))
  metrics = DynamicEvaluator(Level(), source, 0.25)(
    {'w': jnp.float32(0.0)}, {}, 'test'
  )
  # w is 0, then 0 + 0.25 * 2 * 1 = 0.5, then 0.5 + 0.25 * 2 * 0.5 = 0.75.
  expected = (1.0 + 0.5**2 + 0.25**2) / 3
  assert metrics['test_dynamic/error'] == pytest.approx(expected)


def test_a_window_that_does_not_count_is_not_learned():
  source = Windows((9.0, False), (1.0, True))
  metrics = DynamicEvaluator(Level(), source, 0.25)(
    {'w': jnp.float32(0.0)}, {}, 'valid'
  )
  assert metrics['valid_dynamic/error'] == pytest.approx(1.0)
