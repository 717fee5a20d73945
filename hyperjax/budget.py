"""Models of equal size: the width that meets a parameter budget."""

from collections.abc import Callable

from hyperjax.errors import UserError


def largest_width(count: Callable[[int], int], budget: int) -> int:
  """The largest width whose model has at most `budget` parameters.

  Args:
    count: the number of parameters by width.
    budget: at least the count of width 1.

  Raises:
    UserError: even width 1 has more, or the width changes nothing.
  """
  if (least := count(1)) > budget:
    raise UserError(
      f'config.model.parameter_budget is {budget:,}, but with hidden_size 1 '
      f'the model has {least:,} parameters; raise the budget, or make its '
      f'other sizes smaller'
    )
  if count(2) <= least:
    raise UserError(
      'config.model.parameter_budget: the model does not grow with its '
      'hidden_size; give its sizes by hand'
    )
  fits, too_many = 1, 2
  while count(too_many) <= budget:
    fits, too_many = too_many, 2 * too_many
  while too_many - fits > 1:
    middle = (fits + too_many) // 2
    if count(middle) <= budget:
      fits = middle
    else:
      too_many = middle
  return fits
