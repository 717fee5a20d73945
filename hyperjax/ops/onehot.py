"""One-hot vectors that are never written out."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from hyperjax.ops import product
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rows(kernel: Array, index: Array, dtype: DTypeLike = jnp.float32) -> Array:
  """`one_hot(index) @ kernel` as a gather: [V, F], [...] -> [..., F].

  Args:
    kernel: the matrix.
    index: integers below V.
    dtype: precision of the product, see `ops.product`.
  """
  return product.round_to(kernel[index], dtype).astype(kernel.dtype)


def _rows_forward(kernel, index, dtype):
  return rows(kernel, index, dtype), (index, jnp.zeros((kernel.shape[0], 0)))


def _rows_backward(dtype, residuals, cotangent):
  # A product with the written-out vectors: XLA's scatter-add is serial on CPU
  # and not deterministic on GPU.
  index, like = residuals
  hot = jax.nn.one_hot(index, like.shape[0], dtype=cotangent.dtype)
  return product.kernel_gradient(hot, cotangent, dtype), None


rows.defvjp(_rows_forward, _rows_backward)


def matmul(
  x: Array | OneHot, kernel: Array, dtype: DTypeLike = jnp.float32
) -> Array:
  """`ops.product.matmul` for written-out and for one-hot `x`: [..., M]."""
  if isinstance(x, OneHot):
    return x.value[..., None] * rows(kernel, x.index, dtype)
  return product.matmul(x, kernel, dtype)
