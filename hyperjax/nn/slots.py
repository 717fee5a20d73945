"""Taking parameters out of a module, and putting others in their places."""

import dataclasses
import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from hyperjax.errors import UserError, did_you_mean

Pattern = str | re.Pattern


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Slot:
  """What stands in a module where a parameter was taken out.

  It is a pytree without leaves: neither `nnx.split` nor an optimizer sees it,
  and it travels through `nnx.merge` with the module's structure.

  Attributes:
    path: of the parameter, as `nnx.state` has it.
    shape: of its value.
    dtype: of its value.
    kind: `nnx.Param`, or the subclass of it that the parameter was.
    metadata: what else the parameter held, sorted by name.
    level: 0, or one more than the highest in the module it was cut from, so
      that each of several nested owners finds its own.
  """

  path: tuple[str | int, ...]
  shape: tuple[int, ...]
  dtype: np.dtype
  kind: type[nnx.Param] = dataclasses.field(repr=False)
  metadata: tuple[tuple[str, Any], ...] = dataclasses.field(repr=False)
  level: int = dataclasses.field(repr=False)

  def param(self, value: Array) -> nnx.Param:
    """The parameter with a new value."""
    return self.kind.from_metadata(value, dict(self.metadata))

  def __getitem__(self, index: Any) -> NoReturn:
    raise UserError(
      f"target: '{_name(self.path)}' is generated, so the target has no value "
      f'of it; call the hypernetwork, or what its `materialize` returns'
    )


@dataclasses.dataclass
class Found:
  """A parameter in a module.

  Attributes:
    path: where `nnx.state` has it.
    param: the variable.
    names: all its names, such as 'conv/kernel'; a tied one has several.
    owner: what holds it, by `path`.
  """

  path: tuple[str | int, ...]
  param: nnx.Param
  names: list[str]
  owner: Any


def find(module: nnx.Module) -> list[Found]:
  """All parameters of a module whose values are arrays, tied ones once.

  Raises:
    UserError: one is in a tuple or another container that cannot be changed.
  """
  named, owners = {}, {}
  for path, owner, key, child in _children(module):
    if isinstance(child, nnx.Param):
      named.setdefault(id(child), []).append(_name((*path, key)))
      owners.setdefault(id(child), owner)
  found = []
  for path, param in nnx.to_flat_state(nnx.state(module, nnx.Param)):
    value = param.get_raw_value()
    if not hasattr(value, 'shape') or not hasattr(value, 'dtype'):
      continue
    if id(param) not in named:
      raise UserError(
        f"target: '{_name(path)}' is in a container that cannot be changed; "
        f'keep parameters in modules, nnx.List, nnx.Dict, lists or dicts'
      )
    names = named[id(param)]
    found.append(Found(path, param, names, owners[id(param)]))
  return found


def choose(
  found: Sequence[Found], patterns: Pattern | Iterable[Pattern] | None
) -> list[Found]:
  """The parameters that patterns name; see `Hypernetwork` for `generate`.

  Raises:
    UserError: a pattern matches nothing, or what is not floating point.
  """
  if patterns is None:
    chosen = [
      f for f in found if len(f.param.shape) >= 2 and _is_floating(f.param)
    ]
    if not chosen:
      raise UserError(
        'target: it has no floating-point parameter of two or more dimensions; '
        'name what to generate by `generate`'
      )
    return chosen
  chosen = set()
  for pattern in (
    [patterns] if isinstance(patterns, Pattern) else list(patterns)
  ):
    matches = [f for f in found if any(_matches(pattern, n) for n in f.names)]
    text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    if not matches:
      names = [name for f in found for name in f.names]
      raise UserError(
        f"generate: no parameter of the target matches '{text}'"
        f'{did_you_mean(text, names)}'
      )
    for f in matches:
      if not _is_floating(f.param):
        raise UserError(
          f"generate: '{f.names[0]}' is of type {f.param.dtype}, and only "
          f"floating-point parameters can be generated; narrow '{text}'"
        )
    chosen |= {f.path for f in matches}
  if not chosen:
    raise UserError('generate: the list is empty; leave it out for all kernels')
  return [f for f in found if f.path in chosen]


def cut(
  module: nnx.Module, chosen: Sequence[Found]
) -> tuple[nnx.Module, tuple[Slot, ...]]:
  """A copy of a module with slots for some of its parameters, and the slots.

  Arrays are copied too, so the copy and the module may be donated apart.
  """
  levels = [
    child.level for *_, child in _children(module) if isinstance(child, Slot)
  ]
  level = 1 + max(levels, default=-1)
  slots = {
    id(f.param): Slot(
      path=f.path,
      shape=tuple(f.param.shape),
      dtype=np.dtype(f.param.dtype),
      kind=f.param.var_type,
      metadata=tuple(sorted(f.param.get_metadata().items())),
      level=level,
    )
    for f in chosen
  }
  # Not the parameters themselves: their values would be copied in vain.
  copy = nnx.clone(module, variables=False)
  _replace(copy, lambda child: slots.get(id(child)))
  return nnx.clone(copy, arrays=True), tuple(slots.values())


def fill(module: nnx.Module, params: dict[Slot, nnx.Param]) -> nnx.Module:
  """A copy of a module with parameters in the slots they are given for.

  All other variables are the module's own, so what a call does to them, it
  does to the module's.
  """
  copy = nnx.clone(module, variables=False)
  _replace(
    copy, lambda child: params.get(child) if isinstance(child, Slot) else None
  )
  return copy


def _replace(module: nnx.Module, new: Callable[[Any], Any]) -> None:
  """Puts `new(child)` in the place of each child it is not None for."""
  for _, owner, key, child in list(_children(module)):
    if (value := new(child)) is None:
      continue
    if isinstance(owner, nnx.Pytree):
      setattr(owner, key, value)
    else:
      owner[key] = value


def _children(module: nnx.Module) -> Iterator[tuple[tuple, Any, Any, Any]]:
  """(path of the owner, owner, key, child) where a child can be replaced."""
  for path, node in nnx.iter_graph(module):
    if isinstance(node, nnx.Pytree):
      items = vars(node).items()
    elif isinstance(node, dict):
      items = node.items()
    elif isinstance(node, list):
      items = enumerate(node)
    else:
      continue
    for key, child in items:
      yield path, node, key, child


def _name(path):
  return '/'.join(map(str, path))


def _matches(pattern, name):
  if isinstance(pattern, re.Pattern):
    return pattern.fullmatch(name) is not None
  return fnmatch.fnmatchcase(name, pattern)


def _is_floating(param):
  return jnp.issubdtype(param.dtype, jnp.floating)
