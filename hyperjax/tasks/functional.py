"""NNX modules as dictionaries of arrays, for plain jax transforms."""

from collections.abc import Callable

import jax
from flax import nnx
from jax import Array

from hyperjax.types import PyTree, Variables


class Functional:
  """A model apart from its arrays.

  The module is made once, abstractly, for its structure; its parameters and
  other variables live in plain dictionaries, which `merge` puts back.

  Args:
    make: key -> module.
  """

  def __init__(self, make: Callable[[Array], nnx.Module]):
    self._make = make
    abstract = nnx.eval_shape(lambda: make(jax.random.key(0)))
    self._graph, *_ = nnx.split(abstract, nnx.Param, ...)
    self.abstract = abstract

  def init(self, key: Array) -> Variables:
    """Fresh parameters and other variables."""

    @jax.jit
    def arrays(key):
      _, params, state = nnx.split(self._make(key), nnx.Param, ...)
      return Variables(nnx.to_pure_dict(params), nnx.to_pure_dict(state))

    return arrays(key)

  def merge(self, params: PyTree, state: PyTree) -> nnx.Module:
    """The module with these arrays."""
    return nnx.merge(self._graph, params, state)

  def state_of(self, module: nnx.Module) -> PyTree:
    """What is not a parameter, after a call that may have changed it."""
    return nnx.to_pure_dict(nnx.split(module, nnx.Param, ...)[2])
