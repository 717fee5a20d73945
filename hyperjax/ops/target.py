"""Which devices a program is traced for, where that changes its form."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import jax
from jax.sharding import Mesh


class Target(NamedTuple):
  """What a program is to run on.

  Attributes:
    platform: 'cpu', 'gpu' or 'tpu'.
    num_devices: how many of them share its arrays.
  """

  platform: str
  num_devices: int


ONE_GPU = Target('gpu', 1)
_given = contextvars.ContextVar('target', default=None)


@contextlib.contextmanager
def compiling_for(target: Target | Mesh | None) -> Iterator[None]:
  """What is traced within is for these devices, which need not be there.

  Args:
    target: the devices; those of a mesh; or None, which changes nothing.
  """
  if target is None:
    yield
    return
  if isinstance(target, Mesh):
    target = Target(target.devices.flat[0].platform, target.size)
  token = _given.set(target)
  try:
    yield
  finally:
    _given.reset(token)


def current() -> Target:
  """That of `compiling_for`, or else one of jax's default devices."""
  return _given.get() or Target(jax.default_backend(), 1)
