"""Convolution and pooling of images."""

import functools

import jax
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


# XLA on CPU has a fast convolution for one order of axes alone, and within a
# loop, where train steps are, it does not bring others into it (jax #12868):
# JAX's own gradient runs a hundred times slower there. So here it is by hand.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _canonical(x, kernel, stride):
  return _conv(x, kernel, strides=(stride, stride), padding='SAME')


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
  x_gradient = _conv(
    gradient,
    kernel[::-1, ::-1].transpose(0, 1, 3, 2),
    padding=x_pads,
    lhs=stride,
  )
  # Channels as images, images as channels: [N_in, f, f, N_out].
  kernel_gradient = _conv(
    x.transpose(3, 1, 2, 0),
    gradient.transpose(1, 2, 0, 3),
    padding=kernel_pads,
    rhs=stride,
  )
  return x_gradient, kernel_gradient.transpose(1, 2, 0, 3)


_canonical.defvjp(_forward, _backward)


def max_pool2d(x: Array, size: int = 2) -> Array:
  """The largest of each size x size window: [B, H, W, C] -> smaller."""
  window = (1, size, size, 1)
  return lax.reduce_window(x, -float('inf'), lax.max, window, window, 'VALID')
