"""Recordings of an electronic whiteboard: XML files of pen strokes.

A file is a `WhiteboardCaptureSession` with a `StrokeSet` of `Stroke`s of
`Point`s, whose `x` grows to the right and `y` downwards, in the device's units.

The device makes errors. Of seven million moves within the strokes of IAM-OnDB,
half are above 18 units, one in a thousand is above 107, and 353 are above
`FAR`: there the pen was not where the device says, or it was lifted. The rule:

1. Up to `MAX_ERRORS` points in a row that lie more than `FAR` from the last
   good point, while the point after them lies within `FAR` of it again, are
   recording errors. Straight lines take their place, at an even pace.
2. Any other move of more than `FAR` within a stroke splits it: the pen was
   lifted there.
3. A move of the lifted pen of more than `MAX_PEN_UP` in x or in y is shortened
   to that in this coordinate, and all that follows moves along.

It needs neither JAX nor tfds: processes that only parse import it.
"""

import collections
import contextlib
import itertools
import logging
import math
import multiprocessing
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np

from hyperjax.data import pen_lines

logger = logging.getLogger(__name__)

FAR = 300.0  # units between two points of a stroke
MAX_ERRORS = 3  # points in a row
MAX_PEN_UP = 1_000.0  # units in each coordinate
LARGEST = 2**22  # bytes of a file; a line has some ten thousand
LONGEST = 200  # characters of a reason
MAX_COORDINATE = 2.0**24  # float32 has all whole numbers up to here
IN_CHUNK = 64  # files that a process parses at a time
MAX_WORKERS = 8
FEW = 512  # files that take less time than it takes to start processes


class Recording(NamedTuple):
  """What a file holds, after the rule above.

  Attributes:
    points: float32 [N, 3], as `pen_lines.Line` has them: y grows upwards.
    empty_strokes: strokes without a point, which are left out.
    errors_interpolated: points that were recording errors.
    strokes_split: places at which a stroke was split.
    pen_up_moves_shortened: moves that were shortened.
  """

  points: np.ndarray
  empty_strokes: int
  errors_interpolated: int
  strokes_split: int
  pen_up_moves_shortened: int


COUNTS = Recording._fields[1:]


class Damage(NamedTuple):
  """Why a file can not be used.

  Attributes:
    reason: a part of a sentence, for messages.
  """

  reason: str


def parse_all(
  contents: Iterable[bytes | os.PathLike],
) -> Iterator[Recording | Damage]:
  """Parses files, in their order, on all cores if there are many.

  Args:
    contents: of each file the bytes, or the path to read them from.
  """
  contents = iter(contents)
  chunks = iter(lambda: list(itertools.islice(contents, IN_CHUNK)), [])
  first = list(itertools.islice(chunks, FEW // IN_CHUNK))
  few = sum(map(len, first)) < FEW
  for results in _map(itertools.chain(first, chunks), inline=few):
    yield from results


def parse(content: bytes | os.PathLike) -> Recording | Damage:
  """Parses a file.

  Args:
    content: the bytes, or the path to read them from.
  """
  try:
    if not isinstance(content, bytes):
      with open(content, 'rb') as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
      return Damage(f'has more than the {LARGEST:,} bytes that a line may have')
    strokes = _strokes(content)
  except OSError as error:
    return Damage(f'can not be read ({error.strerror})')
  except ET.ParseError as error:
    return Damage(f'is malformed XML ({error})')
  except (ValueError, LookupError) as error:
    return Damage(str(error)[:LONGEST])
  recorded = [stroke for stroke in strokes if len(stroke)]
  if not recorded:
    return Damage('has no point')
  mended, errors = [], 0
  for stroke in recorded:
    parts, count = mend(stroke)
    mended += parts
    errors += count
  shortened, moves = shorten(mended)
  # Zero plus that, since a zero should not become a negative one.
  upward = [0 + stroke * [1, -1] for stroke in shortened]
  line = pen_lines.from_strokes('', '', upward)
  return Recording(
    line.points,
    empty_strokes=len(strokes) - len(recorded),
    errors_interpolated=errors,
    strokes_split=len(mended) - len(recorded),
    pen_up_moves_shortened=moves,
  )


def mend(stroke: np.ndarray) -> tuple[list[np.ndarray], int]:
  """Interpolates recording errors and splits a stroke where the pen was lifted.

  Args:
    stroke: float64 [n, 2], n > 0.

  Returns:
    The strokes that it is, at least one, and how many points were errors.
  """
  if np.all(_distances(stroke[1:], stroke[:-1]) <= FAR):
    return [stroke], 0
  stroke, splits, errors = stroke.copy(), [], 0
  good = 0
  while good + 1 < len(stroke):
    ahead = stroke[good + 1 : good + 2 + MAX_ERRORS]
    near = np.flatnonzero(_distances(ahead, stroke[good]) <= FAR)
    if not len(near):
      good += 1
      splits.append(good)
      continue
    bad = near[0]  # points between two good ones
    share = np.arange(1, bad + 1)[:, None] / (bad + 1)
    ahead[:bad] = stroke[good] + share * (ahead[bad] - stroke[good])
    errors += int(bad)
    good += 1 + int(bad)
  return np.split(stroke, splits), errors


def shorten(strokes: list[np.ndarray]) -> tuple[list[np.ndarray], int]:
  """Shortens long moves of the lifted pen; what follows moves along.

  Args:
    strokes: float64 [n, 2] each, n > 0.

  Returns:
    The strokes, and how many moves were shortened.
  """
  moves = np.array(
    [b[0] - a[-1] for a, b in itertools.pairwise(strokes)]
  ).reshape(-1, 2)
  excess = moves - np.clip(moves, -MAX_PEN_UP, MAX_PEN_UP)
  shifts = [np.zeros(2), *np.cumsum(excess, axis=0)]
  shortened = [s - shift for s, shift in zip(strokes, shifts, strict=True)]
  return shortened, int(np.any(excess, axis=1).sum())


def _strokes(content):
  """The strokes as they are in the file, float64 [n, 2] each; n may be 0."""
  root = ET.fromstring(content, ET.XMLParser(target=_NoDoctype()))
  found = root.find('StrokeSet')
  if root.tag != 'WhiteboardCaptureSession' or found is None:
    raise ValueError('is not a WhiteboardCaptureSession with a StrokeSet')
  return [
    np.array(
      [_coordinates(point) for point in stroke.findall('Point')], np.float64
    ).reshape(-1, 2)
    for stroke in found.findall('Stroke')
  ]


class _NoDoctype(ET.TreeBuilder):
  """Refuses what could define entities, which may grow or name other files."""

  def doctype(self, name, pubid, system):
    raise ValueError('declares a DOCTYPE, which no recording needs')


def _coordinates(point):
  x, y = point.get('x'), point.get('y')
  try:
    numbers = float(x), float(y)
  except (TypeError, ValueError):  # one is missing, or no number
    numbers = math.nan, math.nan
  if not all(abs(number) <= MAX_COORDINATE for number in numbers):
    raise ValueError(
      f'has a point at x={_short(x)} y={_short(y)}, which is no position'
    )
  return numbers


def _short(value):
  return repr(value) if len(value or '') <= 40 else f'{value[:40]!r}...'


def _distances(points, others):
  return np.hypot(*(points - others).T)


def _parse_chunk(contents):
  return [parse(content) for content in contents]


def _map(chunks, inline):
  """The results of each chunk, in order, with a few chunks under way."""
  workers = 1 if inline else min(os.cpu_count() or 1, MAX_WORKERS)
  pool = _start(workers) if workers > 1 else None
  waiting = collections.deque()
  try:
    for chunk in chunks:
      waiting.append((chunk, _submit(pool, chunk)))
      if len(waiting) > 2 * workers:
        yield _result(*waiting.popleft())
    while waiting:
      yield _result(*waiting.popleft())
  finally:
    if pool:
      pool.shutdown(cancel_futures=True)


def _start(workers):
  try:
    # Not by 'fork', which may hang where JAX has threads.
    return ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'))
  except (OSError, ImportError, NotImplementedError) as error:
    logger.info('parsing in one process: others can not start (%s)', error)
    return None


def _submit(pool, chunk):
  with contextlib.suppress(BrokenProcessPool):
    return pool and pool.submit(_parse_chunk, chunk)
  return None


def _result(chunk, future):
  """That of a process; or parsed here, where processes can not run.

  So it is in a script that does its work when it is imported.
  """
  with contextlib.suppress(BrokenProcessPool):
    if future:
      return future.result()
  return _parse_chunk(chunk)
