"""One-hot vectors that are never written out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hyperjax.ops.dropout import dropout


class OneHot(NamedTuple):
  """The vectors `value * e_index`: symbols as input of width `V`.

  Attributes:
    index: [...] int32, which unit is hot.
    value: [...] float32, its value: 1, or 0 and 1/keep_prob under dropout.
  """

  index: Array
  value: Array


def one_hot(index: Array) -> OneHot:
  """Symbols [...] as one-hot vectors."""
  return OneHot(index, jnp.ones(index.shape, jnp.float32))


def one_hot_dropout(x: OneHot, key: Array | None, keep_prob: float) -> OneHot:
  """Dropout on one-hot vectors: only the hot unit has anything to lose."""
  return x._replace(value=dropout(x.value, key, keep_prob))


@jax.custom_vjp
def rows(kernel: Array, index: Array) -> Array:
  """`one_hot(index) @ kernel` as a gather: [V, F], [...] -> [..., F]."""
  return kernel[index]


def _rows_forward(kernel, index):
  return rows(kernel, index), (index, jnp.zeros((kernel.shape[0], 0)))


def _rows_backward(residuals, cotangent):
  # A product with the written-out vectors: XLA's scatter-add is serial on CPU
  # and not deterministic on GPU.
  index, like = residuals
  hot = jax.nn.one_hot(index.reshape(-1), like.shape[0], dtype=cotangent.dtype)
  return hot.T @ cotangent.reshape(-1, cotangent.shape[-1]), None


rows.defvjp(_rows_forward, _rows_backward)


def matmul(x: Array | OneHot, kernel: Array) -> Array:
  """`x @ kernel` for written-out and for one-hot `x`: [..., F]."""
  if isinstance(x, OneHot):
    return x.value[..., None] * rows(kernel, x.index)
  return x @ kernel
