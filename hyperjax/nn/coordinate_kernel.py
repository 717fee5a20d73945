"""A weight matrix from a network that reads coordinates (paper, A.1)."""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

# The paper is silent on initial weights. With He's and zero biases all kinks of
# the network lie in the middle of the image; these spread them over it.
FREQUENCY = 3.0  # of the first layer, in He's deviations
OFFSET = 1.0  # biases reach so far, those of the first layer times FREQUENCY
# A step changes all generated weights alike, which kills hidden units where it
# is large: so the last layer is wide, and the output is scaled down.
WIDTH = 30.0  # of the last layer, in He's deviations
SCALE = 0.01  # of the output, in He's deviations of the generated matrix


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
    *keys, first_key, second_key = jax.random.split(key, 5)
    self.kernels = nnx.List(
      nnx.Param(factor * he(key, shape))
      for factor, key, shape in zip(
        (FREQUENCY, 1.0, WIDTH), keys, itertools.pairwise(sizes), strict=True
      )
    )
    reach = FREQUENCY * OFFSET
    shape = (hidden_size,)
    self.biases = nnx.List(
      [
        nnx.Param(
          jax.random.uniform(first_key, shape, minval=-reach, maxval=reach)
        ),
        nnx.Param(
          jax.random.uniform(second_key, shape, minval=-OFFSET, maxval=OFFSET)
        ),
        nnx.Param(jnp.zeros(1)),
      ]
    )

  def __call__(self) -> Array:
    """[inputs, hidden units]."""
    first, second, last = (kernel[...] for kernel in self.kernels)
    biases = [bias[...] for bias in self.biases]
    # The first layer is linear in pairs: one product for each pixel and unit.
    pixels = _coordinates(self.in_shape) @ first[:2]
    units = _coordinates(self.out_shape) @ first[2:]
    x = jax.nn.relu(pixels[:, None] + units[None, :] + biases[0])
    x = jax.nn.relu(x @ second + biases[1])
    scale = SCALE * math.sqrt(2 / len(pixels))
    return scale * (x @ last + biases[2])[..., 0]


def _coordinates(shape):
  """The places of an image's pixels, row by row: [H W, 2] from -1 to 1."""
  axes = [jnp.linspace(-1.0, 1.0, size) for size in shape]
  return jnp.stack(jnp.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 2)
