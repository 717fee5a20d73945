import itertools

import jax
import numpy as np
import pytest

from hyperjax.ops.conv import conv2d, max_pool2d


def convolved(x, kernel, stride):
  """Same padding as XLA and TensorFlow have it: the odd pixel goes behind."""
  f = kernel.shape[0]
  sizes = [-(-n // stride) for n in x.shape[1:3]]
  pads = [
    max((m - 1) * stride + f - n, 0)
    for m, n in zip(sizes, x.shape[1:3], strict=True)
  ]
  x = np.pad(x, [(0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)])
  y = np.zeros((len(x), *sizes, kernel.shape[3]))
  for row, column in itertools.product(*map(range, sizes)):
    top, left = row * stride, column * stride
    window = x[:, top : top + f, left : left + f]
    y[:, row, column] = np.tensordot(window, kernel, axes=3)
  return y


@pytest.mark.parametrize('f', [1, 3, 7])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (1, 5, 6, 2)])
def test_convolution_is_its_definition(f, stride, shape):
  rng = np.random.default_rng(0)
  x = rng.normal(size=shape).astype(np.float32)
  kernel = rng.normal(size=(f, f, shape[-1], 4)).astype(np.float32)
  np.testing.assert_allclose(
    conv2d(x, kernel, stride), convolved(x, kernel, stride), atol=1e-4
  )


@pytest.mark.parametrize('size', [(6, 4), (7, 5)])
def test_pooling_takes_the_largest(size):
  x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
  height, width = size[0] // 2, size[1] // 2
  cut = x[:, : 2 * height, : 2 * width]
  expected = cut.reshape(2, height, 2, width, 2, 3).max((2, 4))
  np.testing.assert_array_equal(max_pool2d(x), expected)


def test_pooling_has_a_gradient():
  x = np.float32([[1, 2], [4, 3]]).reshape(1, 2, 2, 1)
  gradient = jax.grad(lambda x: max_pool2d(x).sum())(x)
  np.testing.assert_array_equal(gradient.reshape(2, 2), [[0, 0], [1, 0]])


@pytest.mark.parametrize('f', [1, 2, 3, 7])
@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (1, 5, 6, 2), (2, 1, 1, 2)])
def test_gradients_are_those_of_jax(f, stride, shape):
  rng = np.random.default_rng(0)
  x = rng.normal(size=shape).astype(np.float32)
  kernel = rng.normal(size=(f, f, shape[-1], 4)).astype(np.float32)

  def plain(x, kernel, stride):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  height, width = (-(-n // stride) for n in shape[1:3])
  gradient = rng.normal(size=(shape[0], height, width, 4)).astype(np.float32)

  @jax.jit
  def pulled_back(x, kernel, gradient):
    return [
      jax.vjp(lambda *args: convolve(*args, stride), x, kernel)[1](gradient)  # noqa: B023
      for convolve in (conv2d, plain)
    ]

  for actual, expected in zip(*pulled_back(x, kernel, gradient), strict=True):
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_all_convolutions_of_a_step_have_the_fast_order_of_axes():
  # Within a loop XLA on CPU runs others a hundred times slower.
  def step(kernel, x):
    return (
      kernel - jax.grad(lambda k, x: conv2d(x, k).sum(), (0, 1))(kernel, x)[0]
    )

  def steps(kernel, x):
    return jax.lax.fori_loop(0, 3, lambda _, k: step(k, x), kernel)

  args = np.ones((3, 3, 2, 4), np.float32), np.ones((2, 5, 5, 2), np.float32)
  text = jax.jit(steps).lower(*args).compile().as_text()
  orders = {
    line.split('dim_labels=')[1].split(',')[0]
    for line in text.splitlines()
    if ' convolution(' in line
  }
  assert orders == {'b01f_01io->b01f'}


@pytest.mark.parametrize('channels', [1, 20])
def test_several_seeds_are_each_by_itself(channels):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(3, 2, 6, 6, channels)).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 3, channels, 4)).astype(np.float32)

  def loss(x, kernel):
    return (conv2d(x, kernel) ** 2).sum()

  gradient = jax.grad(loss, (0, 1))
  together = jax.jit(jax.vmap(gradient))(x, kernel)
  alone_of = jax.jit(gradient)

  for seed in range(3):
    alone = alone_of(x[seed], kernel[seed])
    for a, b in zip(together, alone, strict=True):
      np.testing.assert_allclose(a[seed], b, rtol=1e-5)
