"""From embeddings to chunks of weights: the shared part of a hypernetwork."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax.nn.linear import Linear

# Of the paper's weights; TensorFlow's truncated normal, cut at two deviations
# and not widened again, so what is drawn has a deviation of 0.0088.
PAPER_DEVIATION = 0.01


def weights(key: Array, rows: int, columns: int, *, init: str, relu: bool):
  """An initial [rows, columns] kernel.

  Args:
    key: PRNG key.
    rows: width of the input.
    columns: width of the output.
    init: 'paper', or else the mean square of the input is passed on to the
      output (He et al. 2015, Eq. 10), which is 1 after 1.
    relu: whether a ReLU follows, which halves the mean square.
  """
  if init == 'paper':
    shape = rows, columns
    return PAPER_DEVIATION * jax.random.truncated_normal(key, -2, 2, shape)
  deviation = math.sqrt((2 if relu else 1) / rows)
  return deviation * jax.random.normal(key, (rows, columns))


class TwoLayer(nnx.Module):
  """The paper's two linear layers (Ha et al. 2016, Eq. 2).

      a_i = W_i z + B_i,  K_i = W_out a_i + B_out,  i = 1 ... rows

  and a chunk is K_1, K_2, ..., cut to its size. W_out is the same for all i,
  which is what makes the generator small.

  Args:
    z_size: N_z; the width of each a_i too.
    chunk_size: numbers in a chunk.
    rows: the range of i, N_in of the paper.
    init: see `weights`.
    dtype: precision of the products, see `ops.product`.
    key: PRNG key.
  """

  def __init__(
    self,
    z_size: int,
    chunk_size: int,
    *,
    rows: int,
    init: str,
    dtype: DTypeLike,
    key: Array,
  ):
    inner_key, outer_key = jax.random.split(key)
    rows = min(rows, chunk_size)
    columns = -(-chunk_size // rows)
    self.chunk_size = chunk_size
    self.rows = rows
    self.inner = Linear(
      weights(inner_key, z_size, rows * z_size, init=init, relu=False),
      jnp.zeros(rows * z_size),
      dtype=dtype,
    )
    self.outer = Linear(
      weights(outer_key, z_size, columns, init=init, relu=False),
      jnp.zeros(columns),
      dtype=dtype,
    )

  def __call__(self, zs: Array) -> Array:
    """[N, N_z] -> [N, chunk_size]."""
    a = self.inner(zs).reshape(len(zs), self.rows, -1)
    return self.outer(a).reshape(len(zs), -1)[:, : self.chunk_size]


class MLP(nnx.Module):
  """Hidden layers with ReLU, and a linear one.

  Args:
    z_size: width of the input.
    chunk_size: numbers in a chunk.
    hidden_sizes: units of each hidden layer.
    init: see `weights`.
    dtype: precision of the products, see `ops.product`.
    key: PRNG key.
  """

  def __init__(
    self,
    z_size: int,
    chunk_size: int,
    *,
    hidden_sizes: Sequence[int],
    init: str,
    dtype: DTypeLike,
    key: Array,
  ):
    sizes = [z_size, *hidden_sizes, chunk_size]
    keys = jax.random.split(key, len(sizes) - 1)
    self.layers = nnx.List(
      Linear(
        weights(k, rows, columns, init=init, relu=place < len(hidden_sizes)),
        jnp.zeros(columns),
        dtype=dtype,
      )
      for place, (k, rows, columns) in enumerate(
        zip(keys, sizes[:-1], sizes[1:], strict=True)
      )
    )

  def __call__(self, zs: Array) -> Array:
    """[N, z_size] -> [N, chunk_size]."""
    *hidden, last = self.layers
    for layer in hidden:
      zs = jax.nn.relu(layer(zs))
    return last(zs)
