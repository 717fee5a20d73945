import jax
import numpy as np
from flax import nnx

from hyperjax.nn.coordinate_kernel import CoordinateKernel
from tests.nn.small import random_like


def test_each_weight_is_the_network_of_its_coordinates():
  made = CoordinateKernel((3, 2), (2, 4), hidden_size=5, key=jax.random.key(0))
  graph, params = nnx.split(made)
  made = nnx.merge(graph, random_like(params, 1))
  kernels = [np.float64(k[...]) for k in made.kernels]
  biases = [np.float64(b[...]) for b in made.biases]

  actual = made()

  assert actual.shape == (6, 8)
  for pixel in range(6):
    for unit in range(8):
      x = np.array(
        [
          pixel // 2 - 1,
          2 * (pixel % 2) - 1,
          2 * (unit // 4) - 1,
          (unit % 4) / 1.5 - 1,
        ]
      )
      for kernel, bias in zip(kernels[:2], biases[:2], strict=True):
        x = np.maximum(x @ kernel + bias, 0)
      expected = 0.01 * np.sqrt(2 / 6) * (x @ kernels[2] + biases[2])
      np.testing.assert_allclose(actual[pixel, unit], expected[0], rtol=1e-4)


def test_the_papers_has_801_parameters():
  made = CoordinateKernel((28, 28), (16, 16), key=jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(nnx.state(made))) == 801
  assert made().shape == (784, 256)
