"""Initial weights as arrays (paper, A.2.3), and what their scale depends on."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array


def orthogonal(key: Array, rows: int, columns: int) -> Array:
  """A [rows, columns] matrix with orthonormal rows or columns."""
  return jax.nn.initializers.orthogonal()(key, (rows, columns))


def orthogonal_gates(
  key: Array, rows: int, columns: int, num_gates: int = 4
) -> Array:
  """One orthogonal matrix a gate, side by side: [rows, num_gates * columns].

  The paper's W^y are matrices of one gate each; see docs/deviations.md.
  """
  keys = jax.random.split(key, num_gates)
  return jnp.concatenate([orthogonal(k, rows, columns) for k in keys], axis=1)


def fans(param: nnx.Param, owner: Any) -> tuple[int, int]:
  """How many inputs an output of a layer has, and how many outputs an input.

  A kernel is [..., in, out]. Its leading axes are the window of a convolution
  if its owner has a `kernel_size`, or if there are two or more; otherwise it
  is a stack of kernels. A parameter made as `nnx.Param(value, fans=(m, n))`
  says so itself, and a vector [n] has (n, n).

  Args:
    param: with the shape.
    owner: the module that holds it.
  """
  if param.has_metadata('fans'):
    return param.get_metadata('fans')
  shape = param.shape
  if len(shape) < 2:
    return (math.prod(shape),) * 2
  if isinstance(owner, nnx.LinearGeneral):
    return math.prod(owner.in_features), math.prod(owner.out_features)
  *leading, rows, columns = shape
  size = getattr(owner, 'kernel_size', None)
  if size is not None:
    dimensions = len(size) if isinstance(size, Sequence) else 1
    window = math.prod(leading[len(leading) - dimensions :])
  else:
    window = math.prod(leading) if len(leading) > 1 else 1
  return window * rows, window * columns
