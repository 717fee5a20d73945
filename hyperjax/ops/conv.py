"""Convolution and pooling of images."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax


def conv2d(x: Array, kernel: Array, stride: int = 1) -> Array:
  """Zero-padded ('same') convolution; it does not care who made the kernel.

  Reverse mode only on a CPU.

  Args:
    x: images [B, H, W, N_in].
    kernel: [f, f, N_in, N_out].
    stride: of both axes.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), N_out].
  """
  if jax.default_backend() == 'cpu':
    return _canonical(x, kernel, stride)
  return _conv(x, kernel, strides=(stride, stride), padding='SAME')


def _conv(x, kernel, *, strides=(1, 1), padding, lhs=1, rhs=1):
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    lhs_dilation=(lhs, lhs),
    rhs_dilation=(rhs, rhs),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


FEW = 16  # channels, on a CPU


def _one_by_one(x, kernel, **options):
  # Under vmap, as over seeds, a grouped convolution would be ten times slower.
  conv = functools.partial(_conv, **options)
  return jax.custom_batching.sequential_vmap(conv)(x, kernel)


# XLA on CPU has a fast convolution for one order of axes alone, and within a
# loop, where train steps are, it does not bring others into it (jax #12868):
# JAX's own gradient runs a hundred times slower there. So here it is by hand.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _canonical(x, kernel, stride):
  f, (_, height, _, channels) = len(kernel), x.shape
  if stride > 1 or f * channels > FEW:
    return _one_by_one(x, kernel, strides=(stride, stride), padding='SAME')
  # The rows of a window as channels: few channels leave the cores idle.
  before = (f - 1) // 2
  x = jnp.pad(x, [(0, 0), (before, f - 1 - before), (0, 0), (0, 0)])
  rows = jnp.concatenate([x[:, k : k + height] for k in range(f)], axis=-1)
  kernel = kernel.transpose(1, 0, 2, 3).reshape(1, f, f * channels, -1)
  return _one_by_one(rows, kernel, padding='SAME')


def _forward(x, kernel, stride):
  return _canonical(x, kernel, stride), (x, kernel)


def _backward(stride, residuals, gradient):
  x, kernel = residuals
  f, x_pads, kernel_pads = len(kernel), [], []
  for size in x.shape[1:3]:
    reach = (-(-size // stride) - 1) * stride  # the last window's start
    before = max(reach + f - size, 0) // 2
    kernel_pads.append((before, reach + f - size - before))
    x_pads.append((f - 1 - before, size - reach - 1 + before))
  x_gradient = _one_by_one(
    gradient,
    kernel[::-1, ::-1].transpose(0, 1, 3, 2),
    padding=x_pads,
    lhs=stride,
  )
  # Channels as images, images as channels: [N_in, f, f, N_out].
  kernel_gradient = _one_by_one(
    x.transpose(3, 1, 2, 0),
    gradient.transpose(1, 2, 0, 3),
    padding=kernel_pads,
    rhs=stride,
  )
  return x_gradient, kernel_gradient.transpose(1, 2, 0, 3)


_canonical.defvjp(_forward, _backward)


def max_pool2d(x: Array, size: int = 2) -> Array:
  """The largest of each size x size window: [B, H, W, C] -> smaller.

  What does not fill a window at the lower and right edge is left out. Equal
  elements share the gradient.
  """
  height, width = (n // size * size for n in x.shape[1:3])
  # Not by reduce_window, whose gradient is slow on CPUs.
  return functools.reduce(
    jnp.maximum,
    (
      x[:, row:height:size, column:width:size]
      for row in range(size)
      for column in range(size)
    ),
  )
