"""A weight matrix from a network that reads coordinates (paper, A.1)."""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array


class CoordinateKernel(nnx.Module):
  """A matrix made by a network that reads where each weight is.

  The network, 4 -> 25 -> 25 -> 1 with ReLU between, sees the coordinates of
  the input pixel and of the hidden unit, the latter laid out as an image too;
  all run from -1 to 1.

  Args:
    in_shape: height and width of the input.
    out_shape: the same of the hidden layer.
    hidden_size: units of both hidden layers of the network.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self,
    in_shape: tuple[int, int],
    out_shape: tuple[int, int],
    *,
    hidden_size: int = 25,
    key: Array,
  ):
    self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
    he = jax.nn.initializers.he_normal()
    sizes = 4, hidden_size, hidden_size, 1
    keys = jax.random.split(key, 3)
    self.kernels = nnx.List(
      nnx.Param(he(key, shape))
      for key, shape in zip(keys, itertools.pairwise(sizes), strict=True)
    )
    self.biases = nnx.List(nnx.Param(jnp.zeros(size)) for size in sizes[1:])

  def __call__(self) -> Array:
    """[inputs, hidden units]."""
    first, second, last = (kernel[...] for kernel in self.kernels)
    biases = [bias[...] for bias in self.biases]
    # The first layer is linear in pairs: one product for each pixel and unit.
    pixels = _coordinates(self.in_shape) @ first[:2]
    units = _coordinates(self.out_shape) @ first[2:]
    x = jax.nn.relu(pixels[:, None] + units[None, :] + biases[0])
    x = jax.nn.relu(x @ second + biases[1])
    # About He's deviation at first; the paper does not say how it scales.
    scale = math.sqrt(2 / len(pixels))
    return scale * (x @ last + biases[2])[..., 0]


def _coordinates(shape):
  """The places of an image's pixels, row by row: [H W, 2] from -1 to 1."""
  axes = [jnp.linspace(-1.0, 1.0, size) for size in shape]
  return jnp.stack(jnp.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 2)
