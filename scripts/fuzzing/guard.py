"""Runs one case within bounds of time and memory, and says what became of it.

A case is parsed, or refused with one line that names a file or a field; all
else is a finding.
"""

import contextlib
import dataclasses
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from hyperjax.errors import UserError

SECONDS = 5  # of the processor, for a case
WAIT = 60  # seconds by the clock: other programs may be running
ADDRESSES = 2**30  # bytes that a case may ask for, beside what there was
GROWTH = 2**28  # bytes that a case may add to what the process ever used
LONGEST = 2_500  # characters of a message

PARSED, REFUSED, FINDING = 'parsed', 'refused', 'finding'


class HangError(BaseException):
  """A case took too long; no parser catches it."""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of a case.

  Attributes:
    kind: `PARSED`, `REFUSED` or `FINDING`.
    line: the message, or what is wrong and where.
  """

  kind: str
  line: str = ''


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
  """Within it, memory beyond `ADDRESSES` is refused by the system."""
  before = resource.getrlimit(resource.RLIMIT_AS)
  most = _addresses() + ADDRESSES
  resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_AS, before)


def run(
  parse: Callable[[bytes], Any], content: bytes, names: tuple[str, ...]
) -> Outcome:
  """Runs a parser on a case.

  Args:
    parse: returns, or raises `UserError`; other errors are findings.
    content: of the case.
    names: a message must have one of these, a file or field say.
  """
  before = _most_used()
  _set_alarms(SECONDS, WAIT)
  try:
    try:
      parse(content)
      outcome = Outcome(PARSED)
    except UserError as error:
      outcome = _judge(str(error), names)
    except (Exception, HangError) as error:
      outcome = Outcome(FINDING, _where(error))
    finally:
      _set_alarms(0, 0)
  except HangError as error:  # at the last moment
    outcome = Outcome(FINDING, _where(error))
  grown = _most_used() - before
  if grown > GROWTH:
    return Outcome(FINDING, f'takes {grown / 2**20:,.0f} MiB')
  return outcome


def _judge(message, names):
  if not message or len(message.splitlines()) != 1:
    return Outcome(FINDING, f'not one line: {message[:80]!r}')
  if not message.isprintable():
    return Outcome(FINDING, f'not printable: {message[:80]!r}')
  if len(message) > LONGEST:
    return Outcome(FINDING, f'a message of {len(message):,} characters')
  if not any(name in message for name in names):
    return Outcome(FINDING, f'names no file or field: {message[:80]!r}')
  return Outcome(REFUSED, message)


def _where(error):
  """The error, and the deepest line of this project that it went through."""
  frames = traceback.extract_tb(error.__traceback__)
  own = [f for f in frames if '/hyperjax/' in f.filename] or frames
  words = f'{type(error).__name__}: {error}'.split('\n')[0][:120]
  place = own[-1]
  file = place.filename.rpartition('/hyperjax/')[2]
  return f'{words} ({file}, {place.name})'


def _set_alarms(seconds, wait):
  for alarm, timer, after in (
    (signal.SIGPROF, signal.ITIMER_PROF, seconds),
    (signal.SIGALRM, signal.ITIMER_REAL, wait),
  ):
    signal.signal(alarm, _raise_hang)
    signal.setitimer(timer, after)


def _raise_hang(signum, frame):
  raise HangError('takes too long')


def _most_used():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _addresses():
  with open('/proc/self/statm') as file:
    return int(file.read().split()[0]) * resource.getpagesize()
