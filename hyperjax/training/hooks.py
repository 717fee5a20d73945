"""What happens between steps, and when."""

import dataclasses
from collections.abc import Callable

from hyperjax.types import TrainState


class Every:
  """A cadence in steps: due at the multiples of each period, and at the last.

  Args:
    *periods: in steps, each at least 1.
    last: the step at which the run ends.
  """

  def __init__(self, *periods: int, last: int):
    self.periods = periods
    self.last = last

  def due(self, step: int) -> bool:
    """Whether it is time; step 0 is too early."""
    is_multiple = any(step % period == 0 for period in self.periods)
    return step > 0 and (is_multiple or step == self.last)

  def next(self, step: int) -> int:
    """The first due step after `step`."""
    multiples = ((step // period + 1) * period for period in self.periods)
    return min([*multiples, self.last])


@dataclasses.dataclass(frozen=True)
class Hook:
  """Something that is done on the current state when it is due.

  Attributes:
    every: when.
    call: what, as a function of (step, state).
  """

  every: Every
  call: Callable[[int, TrainState], None]
