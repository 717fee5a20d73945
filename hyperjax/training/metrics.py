"""Means that add up exactly: totals and weights, never means of means."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hyperjax.types import Metrics


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
  """A weighted mean under way: merging adds, reading divides."""

  total: Array
  weight: Array

  def merge(self, other: 'Mean') -> 'Mean':
    """The mean over both sets of values."""
    return Mean(self.total + other.total, self.weight + other.weight)

  def read(self) -> np.ndarray:
    """The mean, a float64 of the total's shape; NaN when nothing was counted.

    With several seeds it is [S], else a number.
    """
    total, weight = np.float64(self.total), np.float64(self.weight)
    nothing = np.full_like(total, np.nan)
    return np.divide(total, weight, out=nothing, where=weight != 0)[()]


def mean_of(values: Array, mask: Array | None = None) -> Mean:
  """The mean of `values`, of those alone where `mask` is true."""
  if mask is None:
    return Mean(jnp.sum(values), jnp.asarray(values.size, jnp.float32))
  total = jnp.sum(jnp.where(mask, values, 0))
  return Mean(total, jnp.sum(mask, dtype=jnp.float32))


def merge(first: Metrics, second: Metrics) -> Metrics:
  """Merges two dictionaries of means name by name."""
  return {name: first[name].merge(second[name]) for name in first}


def read(metrics: Metrics, prefix: str) -> dict[str, np.ndarray]:
  """{'prefix/name': mean} of a dictionary of means."""
  return {f'{prefix}/{name}': mean.read() for name, mean in metrics.items()}
