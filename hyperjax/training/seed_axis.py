"""Several seeds side by side: one program, one more axis.

With `num_seeds` above 1, all that depends on the seed has a leading axis of
seeds: parameters, optimizer state, carry, metrics. With 1 there is no such
axis, and functions and metrics pass through here as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax.types import PyTree


def of(seed: int, num_seeds: int) -> np.ndarray:
  """The run's seeds: `seed`, uint32 []; or `seed`, `seed` + 1, ..., [S]."""
  seeds = np.arange(seed, seed + num_seeds).astype(np.uint32)
  return seeds if num_seeds > 1 else seeds[0]


def over(
  seeds: np.ndarray, function: Callable[..., Any], in_axes: Any, out_axes: Any
) -> Callable[..., Any]:
  """`function` over all seeds at once; axes are as in `jax.vmap`."""
  if seeds.ndim == 0:
    return function
  return jax.vmap(function, in_axes, out_axes)


def init(seeds: np.ndarray, function: Callable[[Any], PyTree]) -> PyTree:
  """`function(seed)` of each seed, stacked; jittable.

  One after the other, not by `vmap`: the same numbers as in single runs, and
  jaxlib 0.10's batched QR, which orthogonal matrices need, may hang on CPU.
  """
  if seeds.ndim == 0:
    return function(seeds)
  return jax.lax.map(function, jnp.asarray(seeds))


def take(tree: PyTree, place: int, seeds: np.ndarray) -> PyTree:
  """What belongs to the seed at a place."""
  if seeds.ndim == 0:
    return tree
  return jax.tree.map(lambda x: x[place], tree)


def stack(trees: Sequence[PyTree]) -> PyTree:
  """Puts trees side by side, along a new leading axis."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def spread(
  metrics: Mapping[str, Any], seeds: Sequence[int]
) -> dict[str, float]:
  """Metrics of several seeds as numbers with names.

  `name` [S] becomes `name`, the mean over the seeds whose value is finite;
  `name_std`, their standard deviation (with S - 1 in the denominator; only of
  two or more); and `seed_K/name` of each seed K. Numbers stay as they are.
  """
  named = {}
  for name, values in metrics.items():
    if np.ndim(values) == 0:
      named[name] = float(values)
      continue
    finite = np.asarray(values)[np.isfinite(values)]
    named[name] = float(finite.mean()) if finite.size else float('nan')
    if finite.size > 1:
      named[f'{name}_std'] = float(finite.std(ddof=1))
    for seed, value in zip(seeds, values, strict=True):
      named[f'seed_{seed}/{name}'] = float(value)
  return named
