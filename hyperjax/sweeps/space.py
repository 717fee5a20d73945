"""Search spaces: which fields of a config a sweep changes, and to what.

`sweep()` in a config file returns a list of points, or a space:

    def sweep():
      return product(
        grid({'model.z_size': (4, 16), 'seed': (0, 1)}),
        log_uniform('optimizer.learning_rate', 1e-4, 1e-2),
      )

A point is a dictionary of values by the dotted names of config fields.
"""

import dataclasses
import itertools
import math
import numbers
import random
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.errors import UserError

Value = bool | int | float | str | tuple
Point = dict[str, Value]


@dataclasses.dataclass(frozen=True)
class Range:
  """All numbers between two.

  Attributes:
    field: of the config.
    low: the least number.
    high: the largest one.
    log: whether the logarithm is uniform, and not the number itself.
    whole: whether only whole numbers count.
  """

  field: str
  low: float
  high: float
  log: bool = False
  whole: bool = False

  def draw(self, rng: random.Random) -> float:
    """A number of the range."""
    if self.whole:
      return rng.randint(int(self.low), int(self.high))
    if not self.log:
      return rng.uniform(self.low, self.high)
    value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
    return min(max(value, self.low), self.high)


@dataclasses.dataclass(frozen=True)
class Space:
  """A product of axes; each is a range, or some points to choose from."""

  axes: tuple[Range | tuple[Point, ...], ...]

  @property
  def ranges(self) -> list[Range]:
    """The axes that are ranges; a space without any is finite."""
    return [axis for axis in self.axes if isinstance(axis, Range)]

  def points(self) -> list[Point]:
    """All points of a finite space; the last axis changes fastest."""
    return [_merge(parts) for parts in itertools.product(*self.axes)]

  def draw(self, seed: int, number: int) -> Point:
    """Point `number` of a random search; the same each time."""
    rng = random.Random(f'{seed} {number}')
    return _merge(
      {axis.field: axis.draw(rng)}
      if isinstance(axis, Range)
      else rng.choice(axis)
      for axis in self.axes
    )

  def edges(self) -> list[Point]:
    """Points that have every value of every axis, and both ends of ranges."""
    axes = [
      ({axis.field: axis.low}, {axis.field: axis.high})
      if isinstance(axis, Range)
      else axis
      for axis in self.axes
    ]
    longest = max(map(len, axes))
    return [
      _merge(axis[min(place, len(axis) - 1)] for axis in axes)
      for place in range(longest)
    ]

  def to_json(self) -> list[Any]:
    """The axes as JSON holds them."""
    return [
      dataclasses.asdict(axis) if isinstance(axis, Range) else list(axis)
      for axis in self.axes
    ]


def _merge(parts) -> Point:
  return {field: value for part in parts for field, value in part.items()}


def choice(field: str, values: Sequence[Value]) -> Space:
  """Each of the values."""
  return listed([{field: value} for value in values], f'choice of {field}')


def grid(values: Mapping[str, Sequence[Value]]) -> Space:
  """Each combination of the values of several fields."""
  return product(*(choice(field, each) for field, each in values.items()))


def zipped(values: Mapping[str, Sequence[Value]]) -> Space:
  """The first values of all fields together, then the second ones, ..."""
  lengths = {field: len(each) for field, each in values.items()}
  if len(set(lengths.values())) > 1:
    raise UserError(f'zipped: fields need equally many values, not {lengths}')
  rows = zip(*values.values(), strict=True)
  return listed([dict(zip(values, row, strict=True)) for row in rows], 'zipped')


def uniform(field: str, low: float, high: float) -> Space:
  """Any number from `low` to `high`."""
  return _range(Range(field, low, high), 'uniform')


def log_uniform(field: str, low: float, high: float) -> Space:
  """Any number from `low` to `high`, each order of magnitude as probable."""
  if not low > 0:
    raise UserError(f'log_uniform of {field}: {low} must be above 0')
  return _range(Range(field, low, high, log=True), 'log_uniform')


def integers(field: str, low: int, high: int) -> Space:
  """Any whole number from `low` to `high`, that one too."""
  if not (isinstance(low, int) and isinstance(high, int)):
    raise UserError(f'integers of {field}: {low} and {high} must be whole')
  return _range(Range(field, low, high, whole=True), 'integers')


def _range(made, name):
  _check_field(made.field, name)
  if not (-math.inf < made.low < made.high < math.inf):
    raise UserError(
      f'{name} of {made.field}: {made.low} must be below {made.high}'
    )
  return Space((made,))


def product(*spaces: Space | Sequence[Point]) -> Space:
  """Each combination of the points of several spaces."""
  axes = [axis for space in spaces for axis in as_space(space).axes]
  seen = set()
  for axis in axes:
    fields = {axis.field} if isinstance(axis, Range) else set().union(*axis)
    if both := seen & fields:
      raise UserError(f'product: {", ".join(sorted(both))} comes in twice')
    seen |= fields
  if not axes:
    raise UserError('product: there is nothing to choose from')
  return Space(tuple(axes))


def as_space(found: Any, name: str = 'product') -> Space:
  """A space of what `sweep()` returned: one already, or a list of points."""
  return found if isinstance(found, Space) else listed(found, name)


def listed(points: Sequence[Point], name: str) -> Space:
  """The space of some points.

  Args:
    points: as dictionaries; each a different one.
    name: what made them, for messages.

  Raises:
    UserError: there are none, one is no point, or two are the same.
  """
  plain, seen = [], set()
  if not isinstance(points, Sequence) or not points:
    raise UserError(f'{name}: {points!r} is not a space or a list of points')
  for number, point in enumerate(points):
    if not isinstance(point, Mapping):
      raise UserError(
        f'{name}: point {number} is {point!r}; it must be a dictionary such as '
        "{'optimizer.learning_rate': 1e-3}"
      )
    for field in point:
      _check_field(field, name)
    made = {field: _plain(value, field) for field, value in point.items()}
    key = repr(sorted(made.items()))  # in which 1 is not 1.0
    if key in seen:
      raise UserError(f'{name}: {in_words(made)} comes in twice')
    seen.add(key)
    plain.append(made)
  return Space((tuple(plain),))


def _check_field(field, name):
  if not isinstance(field, str):
    raise UserError(f'{name}: {field!r} is not the name of a config field')
  if field.startswith('config.'):
    raise UserError(
      f"{name}: write '{field[7:]}', without config., not {field}"
    )


def _plain(value, field):
  """The value as Python's own type, for NumPy's are printed otherwise."""
  if isinstance(value, (bool, str)):
    return value
  if isinstance(value, numbers.Integral):
    return int(value)
  if isinstance(value, numbers.Real) and math.isfinite(value):
    return float(value)
  if isinstance(value, (tuple, list)):
    return tuple(_plain(part, field) for part in value)
  raise UserError(
    f'{field}: {value!r} is not a finite number, string, bool or tuple'
  )


def in_words(point: Mapping[str, Value]) -> str:
  """A point for a person to read: `model.z_size=4 seed=1`."""
  return ' '.join(f'{name}={text(value)}' for name, value in point.items())


def text(value: Value) -> str:
  """A value as a flag takes it."""
  return value if isinstance(value, str) else repr(value)
