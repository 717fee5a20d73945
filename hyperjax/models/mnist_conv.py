"""The small convolutional network for MNIST, plain and hyper (Sec. 4.1)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from hyperjax.nn.conv_kernels import GeneratedKernels, Kernels
from hyperjax.nn.initializers import orthogonal
from hyperjax.nn.linear import Linear
from hyperjax.ops.conv import conv2d, max_pool2d


class MnistConv(nnx.Module):
  """Two 7 x 7 convolutions of 16 channels, pooled by two, and a classifier.

  The hyper network generates the second kernel.

  Args:
    hyper: whether it does.
    num_filters: channels of both layers.
    z_size: N_z; of the hyper network.
    image_shape: (height, width, channels).
    num_classes: of the classifier.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self,
    *,
    hyper: bool,
    num_filters: int,
    z_size: int,
    image_shape: tuple[int, int, int],
    num_classes: int,
    key: Array,
  ):
    height, width, channels = image_shape
    first_key, second_key, head_key = jax.random.split(key, 3)
    self.first = Kernels(
      [(channels, num_filters)], kernel_size=7, key=first_key
    )
    shapes = [(num_filters, num_filters)]
    self.second = (
      GeneratedKernels(
        shapes,
        block_size=num_filters,
        kernel_size=7,
        z_size=z_size,
        key=second_key,
      )
      if hyper
      else Kernels(shapes, kernel_size=7, key=second_key)
    )
    self.biases = nnx.List(nnx.Param(jnp.zeros(num_filters)) for _ in range(2))
    features = (height // 4) * (width // 4) * num_filters
    self.head = Linear(
      orthogonal(head_key, features, num_classes), jnp.zeros(num_classes)
    )

  def kernels(self) -> list[Array]:
    """Both kernels, generated or not: [7, 7, N_in, N_out]."""
    return self.first() + self.second()

  def __call__(
    self, x: Array, *, train: bool = False, kernels: list[Array] | None = None
  ) -> Array:
    """Images [B, H, W, C] -> logits [B, num_classes]."""
    del train  # it does the same in training
    kernels = kernels or self.kernels()
    for kernel, bias in zip(kernels, self.biases, strict=True):
      # The same as pooling last, on a quarter of the elements.
      x = jax.nn.relu(max_pool2d(conv2d(x, kernel)) + bias[...])
    return self.head(x.reshape(len(x), -1))


def build(
  *,
  hyper: bool = False,
  num_filters: int = 16,
  z_size: int = 4,
  image_shape: tuple[int, int, int],
  num_classes: int,
  key: Array,
) -> MnistConv:
  """The network of `config.model`; see `MnistConv`."""
  return MnistConv(
    hyper=hyper,
    num_filters=num_filters,
    z_size=z_size,
    image_shape=image_shape,
    num_classes=num_classes,
    key=key,
  )
