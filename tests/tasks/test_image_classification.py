import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.errors import UserError
from hyperjax.tasks import image_classification

DATA = {'num_classes': 3, 'image_shape': (1, 1, 3)}


class Logits(nnx.Module):
  """The pixels times a kernel; counts its training calls."""

  def __init__(self, num_classes, image_shape, key):
    del image_shape, key
    self.kernel = nnx.Param(2.0 * jnp.eye(num_classes))
    self.calls = nnx.Variable(jnp.zeros(()))

  def kernels(self):
    return [self.kernel[...]]

  def __call__(self, x, *, train, kernels=None):
    self.calls[...] += train
    (kernel,) = kernels or self.kernels()
    return x[:, 0, 0] @ kernel


def task(**options):
  return image_classification.build(make_model=Logits, data=DATA, **options)


def batch(**more):
  pixels = jnp.float32([[1, 0, 0], [0, 3, 0], [0, 0, 1], [5, 0, 0]])
  return {
    'inputs': pixels[:, None, None],
    'targets': jnp.int32([0, 1, 0, 2]),
    **more,
  }


def nats():
  logits = 2 * np.array([[1, 0, 0], [0, 3, 0], [0, 0, 1], [5, 0, 0]])
  log_sums = np.log(np.exp(logits).sum(1))
  return log_sums - logits[np.arange(4), [0, 1, 0, 2]]


@pytest.mark.parametrize('l2', [0.0, 0.1])
def test_the_loss_is_cross_entropy_and_half_the_squares(l2):
  made = task(l2=l2)
  variables = made.init(jax.random.key(0))

  loss, aux = made.loss(*variables, (), batch(), jax.random.key(0))

  assert loss == pytest.approx(nats().mean() + 0.5 * l2 * 3 * 4, rel=1e-5)
  assert aux.metrics['loss_nats'].read() == pytest.approx(nats().mean(), 1e-5)
  assert aux.metrics['error_percent'].read() == 50.0
  assert aux.state['calls'] == 1.0


def test_what_the_mask_hides_does_not_count():
  made = task()
  mask = jnp.array([True, True, True, False])

  carry, metrics = made.metrics(
    *made.init(jax.random.key(0)), (), batch(mask=mask)
  )

  assert carry == ()
  assert metrics['error_percent'].read() == pytest.approx(100 / 3)
  assert metrics['loss_nats'].read() == pytest.approx(nats()[:3].mean(), 1e-5)


def test_a_broken_model_has_no_error_rate():
  made = task()
  params, state = made.init(jax.random.key(0))
  params = jax.tree.map(lambda x: x * jnp.nan, params)
  mask = jnp.ones(4, bool)
  _, metrics = made.metrics(params, state, (), batch(mask=mask))
  assert math.isnan(metrics['error_percent'].read())


@pytest.mark.parametrize(
  ('data', 'words'),
  [
    ({'num_classes': 3}, 'config.data.image_shape: image'),
    ({'image_shape': (1, 1, 1)}, 'config.data.num_classes: image'),
    ({**DATA, 'image_shape': (28, 28)}, 'it must be height, width, channels'),
    ({**DATA, 'image_shape': (0, 2, 3)}, 'it must be height, width, channels'),
  ],
)
def test_data_without_a_shape_is_refused(data, words):
  with pytest.raises(UserError) as error:
    image_classification.build(make_model=Logits, data=data)
  assert words in str(error.value)
