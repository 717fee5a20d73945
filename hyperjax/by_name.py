"""Choosing by name: the name in the config is the file.

`call('models', 'char_lm', options, field='config.model')` imports
`hyperjax.models.char_lm` and calls its `build`. A name that is no file of that
package is imported as it is, so users extend from outside.
"""

import contextlib
import contextvars
import functools
import importlib
import importlib.util
import inspect
import numbers
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hyperjax.errors import UserError, did_you_mean

_own_alone = contextvars.ContextVar('own_alone', default=False)


class ForeignModuleError(UserError):
  """A name of a module from outside hyperjax, where none is to be imported."""


@contextlib.contextmanager
def own_alone() -> Iterator[None]:
  """Within it, `find` imports hyperjax's own modules and no others."""
  token = _own_alone.set(True)
  try:
    yield
  finally:
    _own_alone.reset(token)


def find(package: str, name: str, field: str) -> Callable[..., Any]:
  """The `build` of a module.

  Args:
    package: under `hyperjax`, say 'models'.
    name: of a module in it, or of any importable module.
    field: the config's field that holds the name, for messages.

  Raises:
    UserError: there is no such module, or it has no `build`; a
      `ForeignModuleError` within `own_alone`.
  """
  parent = importlib.import_module(f'hyperjax.{package}')
  known = [module.name for module in pkgutil.iter_modules(parent.__path__)]
  if name not in known and _own_alone.get():
    raise ForeignModuleError(f"{field}: '{name}' is not in hyperjax.{package}")
  target = f'hyperjax.{package}.{name}' if name in known else name
  try:
    found = importlib.util.find_spec(target)
  except ModuleNotFoundError as error:
    # The module's own imports may fail too, and that is another matter.
    if not error.name or not f'{target}.'.startswith(f'{error.name}.'):
      raise
    found = None
  except (ImportError, ValueError):  # no name that could be imported
    found = None
  module = importlib.import_module(target) if found else None
  if not callable(getattr(module, 'build', None)):
    known = [
      name
      for name in known
      if hasattr(importlib.import_module(f'hyperjax.{package}.{name}'), 'build')
    ]
    raise UserError(
      f"{field}: no '{name}' in hyperjax.{package}, nor a module of that name "
      f'with a build function{did_you_mean(name, known)}'
    )
  return module.build


def call(
  package: str,
  name: str,
  options: Mapping[str, Any],
  *,
  field: str,
  name_field: str | None = None,
  **given: Any,
) -> Any:
  """Calls a module's `build` with a section of the config as its arguments.

  Args:
    package: see `find`.
    name: see `find`.
    options: keyword arguments from the config.
    field: the section's path, for messages.
    name_field: the path of the name; by default `field` + '.name'.
    **given: keyword arguments that do not come from that section.

  Raises:
    UserError: an option is unknown, missing, or of the wrong type.
  """
  build = find(package, name, name_field or f'{field}.name')
  check(build, options, given, field=field, what=f"'{name}'")
  return build(**options, **given)


def options_of(build: Callable[..., Any]) -> dict[str, inspect.Parameter]:
  """The parameters of a function, a class, or a partial of either.

  What a partial has set is none of them. (The signature of an `nnx.Module`
  class itself is that of its metaclass, and says nothing.)
  """
  if isinstance(build, functools.partial):
    options = list(options_of(build.func).items())[len(build.args) :]
    return {name: p for name, p in options if name not in build.keywords}
  function = build.__init__ if inspect.isclass(build) else build
  options = dict(inspect.signature(function, eval_str=True).parameters)
  if inspect.isclass(build):
    options.pop('self')
  return options


def check(
  build: Callable[..., Any],
  options: Mapping[str, Any],
  given: Mapping[str, Any],
  *,
  field: str,
  what: str,
) -> None:
  """Checks options against a signature; see `call`."""
  parameters = options_of(build)
  takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
  for key, value in options.items():
    if key not in parameters or key in given:
      if takes_all and key not in given:
        continue
      known = [
        name
        for name, parameter in parameters.items()
        if name not in given and parameter.kind is not parameter.VAR_KEYWORD
      ]
      raise UserError(
        f'{field}.{key}: {what} has no such option{did_you_mean(key, known)}'
      )
    _check_type(f'{field}.{key}', value, parameters[key].annotation)
  for key, parameter in parameters.items():
    if (
      key not in options
      and key not in given
      and parameter.default is parameter.empty
      and parameter.kind
      in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ):
      raise UserError(f'{field}.{key}: {what} needs this option')


def _check_type(path, value, annotation):
  kinds = {
    int: numbers.Integral,
    float: numbers.Real,
    str: str,
    bool: bool,
  }
  kind = kinds.get(annotation)
  is_bool = isinstance(value, bool)
  if kind and (not isinstance(value, kind) or (is_bool and kind is not bool)):
    raise UserError(f'{path}: {value!r} is not of type {annotation.__name__}')
