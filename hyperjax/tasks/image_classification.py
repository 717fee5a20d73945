"""Naming what an image shows; measured in percent of errors."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from hyperjax.errors import UserError
from hyperjax.tasks.functional import Functional
from hyperjax.training.metrics import Mean, mean_of
from hyperjax.types import Aux, Batch, Carry, Metrics, PyTree, Variables


class ImageClassification:
  """The task: mean cross-entropy, and half the squares of the kernels.

  The penalty is on the kernels that convolve, whether they are parameters or
  generated (paper, A.3.2).

  Args:
    make_model: (num_classes, image_shape, key) -> a module like
      `models.wide_resnet.WideResNet`.
    num_classes: of the data.
    image_shape: (height, width, channels).
    l2: weight of the penalty, L2 / 2 times the sum of squares.
  """

  objective = 'error_percent'

  def __init__(
    self,
    make_model: Callable[..., nnx.Module],
    *,
    num_classes: int,
    image_shape: tuple[int, int, int],
    l2: float,
  ):
    self._model = Functional(
      lambda key: make_model(
        num_classes=num_classes, image_shape=image_shape, key=key
      )
    )
    self._l2 = l2

  def init(self, key: Array) -> Variables:
    """Fresh parameters and running averages."""
    return self._model.init(key)

  def merge(self, variables: Variables) -> nnx.Module:
    """The model as a Flax module."""
    return self._model.merge(*variables)

  def carry(self, batch_size: int) -> Carry:
    """Nothing is carried on from batch to batch."""
    del batch_size
    return ()

  def loss(
    self,
    params: PyTree,
    state: PyTree,
    carry: Carry,
    batch: Batch,
    key: Array,
  ) -> tuple[Array, Aux]:
    """Nats per image of a batch [B, H, W, C], and the penalty."""
    del key  # augmentation is the data's
    model = self._model.merge(params, state)
    kernels = model.kernels()
    logits = model(batch['inputs'], train=True, kernels=kernels)
    nats = mean_of(_nats(logits, batch))
    squares = sum(jnp.sum(jnp.square(kernel)) for kernel in kernels)
    metrics = {'loss_nats': nats, 'error_percent': _errors(logits, batch)}
    aux = Aux(self._model.state_of(model), carry, metrics, nats.weight)
    return nats.total / nats.weight + 0.5 * self._l2 * squares, aux

  def metrics(
    self, params: PyTree, state: PyTree, carry: Carry, batch: Batch
  ) -> tuple[Carry, Metrics]:
    """Percent of errors and nats per image, where the mask is true."""
    logits = self._model.merge(params, state)(batch['inputs'], train=False)
    return carry, {
      'error_percent': _errors(logits, batch, batch['mask']),
      'loss_nats': mean_of(_nats(logits, batch), batch['mask']),
    }


def _nats(logits, batch):
  return optax.softmax_cross_entropy_with_integer_labels(
    logits, batch['targets']
  )


def _errors(logits, batch, mask=None) -> Mean:
  wrong = jnp.argmax(logits, axis=-1) != batch['targets']
  # A model whose logits are not numbers is wrong, and says so.
  broken = jnp.isnan(logits).any(axis=-1)
  percent = jnp.where(broken, jnp.nan, 100.0 * wrong)
  return mean_of(percent, mask)


def build(
  *,
  make_model: Callable[..., nnx.Module],
  data: Mapping[str, Any],
  l2: float = 0.0,
) -> ImageClassification:
  """The task for the images of `config.data`."""
  for name in ('num_classes', 'image_shape'):
    if name not in data:
      raise UserError(f'config.data.{name}: image classification needs this')
  shape = tuple(data['image_shape'])
  if len(shape) != 3 or not all(type(n) is int and n > 0 for n in shape):
    raise UserError(
      f'config.data.image_shape is {shape}; it must be height, width, channels'
    )
  return ImageClassification(
    make_model, num_classes=data['num_classes'], image_shape=shape, l2=l2
  )
