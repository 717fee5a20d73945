"""A batch in parts has the gradient of the whole batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import config as configs
from hyperjax import parts, run
from hyperjax.errors import UserError
from hyperjax.training import seed_axis
from hyperjax.training.metrics import mean_of
from hyperjax.training.step import gradients, init_state
from hyperjax.types import Aux, TrainState, Variables
from tests.conftest import REPOSITORY
from tests.nn import small

KEY = jax.random.key(0)


def state_of(task, config):
  optimizer, _ = parts.build_optimizer(config)
  seeds = seed_axis.of(0, 1)
  state = jax.jit(
    lambda: init_state(task, optimizer, config.data.batch_size, seeds)
  )()
  # A carry that is not zero, so that its rows can be told apart.
  return state._replace(carry=small.random_like(state.carry, 0, 0.1))


def configs_of(task, text_file, lines_file, small_images):
  """A config without dropout and without BatchNorm; and its data."""
  if task == 'language_model':
    config = configs.load(f'{REPOSITORY}/configs/text.py')
    config.data.update({'path': str(text_file), 'sequence_length': 7})
    config.model.update({'cell': 'lstm', 'hidden_size': 8})
  elif task == 'handwriting':
    config = configs.load(
      f'{REPOSITORY}/configs/handwriting.py:lstm_900_plain,strokes,text'
    )
    config.data.update({'path': str(lines_file), 'min_points': 2})
    config.model.update({'hidden_size': 8, 'num_mixtures': 3})
    config.model.recurrent_keep_prob = 1.0
    config.model.output_keep_prob = 1.0
  else:
    config = configs.load(f'{REPOSITORY}/configs/mnist.py:hyper_conv')
    config.data.update({'name': 'images', 'path': str(small_images)})
    config.data.update({'image_shape': (8, 8, 3), 'num_classes': 2})
    config.data.num_valid = 16
    config.task.l2 = 0.1
    del config.data['dir']
  config.data.batch_size = 8
  return config


@pytest.mark.parametrize(
  ('task', 'num_parts'),
  [
    ('language_model', 2),
    ('handwriting', 8),
    ('image_classification', 2),
  ],
)
def test_parts_add_up_to_the_whole(
  task, num_parts, text_file, lines_file, small_images
):
  config = configs_of(task, text_file, lines_file, small_images)
  source, task = parts.build_source(config), parts.build_task(config)
  state = state_of(task, config)
  batch = jax.jit(source.batch)(source.arrays(), np.uint32(0), 0)
  (expected, whole), (grads, aux) = (
    jax.jit(functools.partial(gradients, task, num_parts=count))(
      state, batch, KEY
    )
    for count in (1, num_parts)
  )
  for name, mean in whole.metrics.items():
    np.testing.assert_allclose(aux.metrics[name].total, mean.total, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics[name].weight, mean.weight)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    aux.carry,
    whole.carry,
  )
  largest = max(np.abs(g).max() for g in jax.tree.leaves(expected))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5 * largest),
    grads,
    expected,
  )


class Noted:
  """A task that tells which rows it got, and whose parts weigh otherwise."""

  def init(self, key):
    return Variables({'w': jnp.float32(1.0)}, {'calls': jnp.int32(0)})

  def loss(self, params, state, carry, batch, key):
    values = params['w'] * batch['x']
    mean = mean_of(values, batch['mask'])
    noise = jax.random.uniform(key)
    aux = Aux(
      {'calls': state['calls'] + 1},
      carry + batch['x'][:, None],
      {'loss': mean, 'noise': mean_of(noise)},
      mean.weight,
    )
    return mean.total / mean.weight * batch['scale'], aux


def test_rows_weights_keys_and_state_of_parts():
  task = Noted()
  params, model_state = task.init(KEY)
  state = TrainState(
    jnp.int32(0),
    params,
    model_state,
    10 * jnp.arange(6.0)[:, None],
    (),
    jnp.int32(-1),
  )
  batch = {
    'x': jnp.arange(6.0),
    'mask': jnp.array([True, True, False, True, False, True]),
    'scale': jnp.float32(3.0),
  }
  grads, aux = jax.jit(functools.partial(gradients, task, num_parts=2))(
    state, batch, KEY
  )
  # Not the mean of the means of rows 0, 2, 4 and of 1, 3, 5.
  np.testing.assert_allclose(grads['w'], 3 * (0 + 1 + 3 + 5) / 4)
  np.testing.assert_allclose(aux.carry[:, 0], 11 * np.arange(6))
  assert int(aux.state['calls']) == 2
  noise = aux.metrics['noise']
  assert float(noise.weight) == 2
  drawn = [jax.random.uniform(jax.random.fold_in(KEY, part)) for part in (0, 1)]
  np.testing.assert_allclose(noise.total, sum(drawn), rtol=1e-6)


def test_batches_without_rows_can_not_be_cut():
  state = TrainState(jnp.int32(0), {}, {}, (), (), jnp.int32(-1))
  with pytest.raises(UserError, match=r'accumulate_steps.* set it to 1'):
    gradients(Noted(), state, {'scale': jnp.float32(3.0)}, KEY, 2)


def test_a_run_takes_its_batches_in_parts(tiny_config, tmp_path):
  tiny_config.model.cell = 'lstm'
  tiny_config.train.update({'num_steps': 8, 'eval_every': 8})
  whole = run.train(tiny_config, tmp_path / 'whole')
  tiny_config.train.accumulate_steps = 4
  parts = run.train(tiny_config, tmp_path / 'parts')
  assert parts['test/bits_per_char'] == pytest.approx(
    whole['test/bits_per_char'], rel=1e-3
  )
