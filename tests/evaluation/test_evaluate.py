import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import parts
from hyperjax.evaluation.evaluate import Evaluator, add_up
from hyperjax.training.metrics import Mean


@pytest.fixture(scope='module')
def measured(make_tiny_config):
  """A model with random weights, and its exact bits on the test split."""
  config = make_tiny_config()
  config.model.cell = 'ln_lstm'
  task, source = parts.build_task(config), parts.build_source(config)
  params, state = task.init(jax.random.key(1))
  params = jax.tree.map(lambda x: 1.5 * x, params)
  symbols = jnp.asarray(source.symbols['test'], jnp.int32)[None]
  model = task.merge((params, state))
  _, logits = model(model.initial_carry(1), symbols[:, :-1])
  log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)
  targets = np.asarray(symbols[0, 1:])
  bits = -log_p[0, np.arange(len(targets)), targets] / math.log(2)
  return Evaluator(task, source), params, state, float(bits.mean())


def test_one_stream_is_one_contiguous_pass(measured):
  evaluator, params, state, bits = measured
  metrics = evaluator(params, state, 'test', 1)
  assert list(metrics) == ['test/bits_per_char']
  assert metrics['test/bits_per_char'] == pytest.approx(bits, rel=1e-6)


@pytest.mark.parametrize('streams', [2, 3, 7, 16])
def test_warmed_up_streams_come_close(measured, streams):
  evaluator, params, state, bits = measured
  metrics = evaluator(params, state, 'test', streams, name='test_quick')
  assert metrics['test_quick/bits_per_char'] == pytest.approx(bits, rel=1e-4)


def test_long_splits_add_up_in_float64():
  # In float32, 2**24 + 1 is 2**24.
  parts = [{'x': Mean(np.float32(2**24), np.float32(2**24))}]
  parts += 3 * [{'x': Mean(np.float32(1), np.float32(1))}]
  found = add_up(parts)['x']
  assert (found.total, found.weight) == (2**24 + 3, 2**24 + 3)
