"""A fully connected network, its first weights generated or not (A.1)."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from hyperjax.errors import UserError
from hyperjax.nn.coordinate_kernel import CoordinateKernel
from hyperjax.nn.linear import Linear


class Mlp(nnx.Module):
  """One hidden layer with ReLU.

  Args:
    hidden_shape: the hidden units, as (rows, columns).
    coordinates: whether a `CoordinateKernel` makes the first weights.
    generator_size: units of its hidden layers.
    image_shape: (height, width, channels).
    num_classes: of the classifier.
    key: PRNG key of the initial weights.

  Raises:
    UserError: with `coordinates`, images of several channels.
  """

  def __init__(
    self,
    *,
    hidden_shape: tuple[int, int],
    coordinates: bool,
    generator_size: int,
    image_shape: tuple[int, int, int],
    num_classes: int,
    key: Array,
  ):
    first_key, head_key = jax.random.split(key)
    he = jax.nn.initializers.he_normal()
    inputs, hidden_size = math.prod(image_shape), math.prod(hidden_shape)
    if coordinates and image_shape[-1] != 1:
      raise UserError(
        f'config.model.coordinates: the images have {image_shape[-1]} '
        f'channels, but a weight is made from the place of its pixel alone; '
        f'take images of one channel'
      )
    self.generator = (
      CoordinateKernel(
        image_shape[:2],
        hidden_shape,
        hidden_size=generator_size,
        key=first_key,
      )
      if coordinates
      else None
    )
    self.kernel = (
      None if coordinates else nnx.Param(he(first_key, (inputs, hidden_size)))
    )
    self.bias = nnx.Param(jnp.zeros(hidden_size))
    head = jax.nn.initializers.lecun_normal()
    self.head = Linear(
      head(head_key, (hidden_size, num_classes)), jnp.zeros(num_classes)
    )

  def kernels(self) -> list[Array]:
    """The first layer's weights [H W C, hidden units], generated or not."""
    return [self.generator() if self.generator else self.kernel[...]]

  def __call__(
    self, x: Array, *, train: bool = False, kernels: list[Array] | None = None
  ) -> Array:
    """Images [B, H, W, C] -> logits [B, num_classes]."""
    del train  # it does the same in training
    (kernel,) = kernels or self.kernels()
    x = jax.nn.relu(x.reshape(len(x), -1) @ kernel + self.bias[...])
    return self.head(x)


def build(
  *,
  hidden_shape: tuple[int, int] = (16, 16),
  coordinates: bool = False,
  generator_size: int = 25,
  image_shape: tuple[int, int, int],
  num_classes: int,
  key: Array,
) -> Mlp:
  """The network of `config.model`; see `Mlp`."""
  return Mlp(
    hidden_shape=hidden_shape,
    coordinates=coordinates,
    generator_size=generator_size,
    image_shape=image_shape,
    num_classes=num_classes,
    key=key,
  )
