"""Progress that one can watch in a terminal and read in a log file."""

import operator
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

T = TypeVar('T')
SECONDS_BETWEEN_LINES = 10.0  # where the output is a file

_muted = False


def mute() -> None:
  """Leaves it to another process to tell how the run gets on."""
  global _muted
  _muted = True


class Progress:
  """A bar of steps: done, a few numbers, speed, time left.

  On a terminal it is tqdm's bar; in a file it is a line now and then.

  Args:
    total: steps of the whole run; 0 if that is not known.
    initial: steps that were done before.
    unit: of one step.
  """

  def __init__(self, total: int, initial: int = 0, unit: str = 'step'):
    self._terminal = sys.stderr.isatty() and not _muted
    self._bar = tqdm.tqdm(
      total=total or None,
      initial=initial,
      unit=unit,
      disable=not self._terminal,
      dynamic_ncols=True,
      smoothing=0.1,
      leave=unit == 'step',
    )
    self._unit, self._total, self._first = unit, total, None
    self._start = self._last_line = time.monotonic()
    self._numbers = ''

  def update(self, step: int) -> None:
    """Moves to `step`."""
    now = time.monotonic()
    if self._terminal:
      self._bar.update(step - self._bar.n)
    elif now - self._last_line >= SECONDS_BETWEEN_LINES:
      self._last_line = now
      say(self._line(step))
    if self._first is None:
      # Speed is measured from here on: until now it was mostly compilation.
      self._first, self._start = step, now

  def show(self, **numbers: float) -> None:
    """Numbers to show beside the bar."""
    text = {name: f'{value:.4g}' for name, value in numbers.items()}
    self._bar.set_postfix(text, refresh=False)
    self._numbers = ''.join(f'{name} {x}  ' for name, x in text.items())

  def close(self) -> None:
    """Ends the bar's line."""
    self._bar.close()

  def _line(self, step):
    of = f'/{self._total:,}' if self._total else ''
    text = f'{self._unit} {step:,}{of}  {self._numbers}'
    if self._first is None:
      return f'{text}compiled in {time.monotonic() - self._start:.0f} s'
    speed = (step - self._first) / (time.monotonic() - self._start)
    text += f'{speed:.3g} {self._unit}s/s'
    if not self._total:
      return text
    left = (self._total - step) / speed if speed else 0
    return f'{text}  {tqdm.tqdm.format_interval(left)} left'


def track(items: Iterable[T], unit: str) -> Iterator[T]:
  """Yields `items` and shows how far it has come, if that takes long."""
  progress = Progress(operator.length_hint(items), unit=unit)
  for done, item in enumerate(items, 1):
    yield item
    progress.update(done)
  progress.close()


def say(message: str) -> None:
  """Prints a line above any bar."""
  if _muted:
    return
  tqdm.tqdm.write(message, file=sys.stderr)
  sys.stderr.flush()
