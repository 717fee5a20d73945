"""Where things lie on a page of handwriting: see `strokes`, which draws it.

Lengths are in pixels of an SVG, of which 96 are an inch, and y grows downwards.
"""

import textwrap
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np

MARGIN = 20
GAP = 26  # between two lines
LETTER_POINTS = 50  # a few letters as a pen of 100 points a second records them
LETTER_HEIGHT = 48  # what those should have
LONGEST = 6000  # no extent of a line is larger
NARROWEST = 420  # room for captions and the legend
PEN = 1.8  # width
LETTERS = 12  # size of captions
LEADING = 16
SMALL_LETTERS = 9
STRIP_ROW = 11
BINS = 400  # of a strip, at most
LEVELS = 32  # of colour
INK = '#1a1a1a'
NOTHING = '#f0f0f0'  # in a strip where there was no pen


class Ink(NamedTuple):
  """A stroke or a piece of one.

  Attributes:
    points: [n, 2]; one point is a dot.
    color: such as '#1a1a1a'.
    first: which point is its first, of all of the page; of a coloured page,
      of its line.
  """

  points: np.ndarray
  color: str
  first: int


class Box(NamedTuple):
  """A filled rectangle; x and y are of its upper left corner."""

  x: float
  y: float
  width: float
  height: float
  color: str


class Words(NamedTuple):
  """A row of text; y is of its base, x of its 'start' or 'end' (anchor)."""

  x: float
  y: float
  text: str
  size: int
  anchor: str = 'start'


class Page(NamedTuple):
  """All that is drawn, with a list of boxes for each strip and the legend."""

  width: float
  height: float
  ink: list[Ink]
  strips: list[list[Box]]
  legend: list[Box]
  words: list[Words]


class Scale(NamedTuple):
  """Of colours: the changes from `low` to `high`; what lies beyond is cut."""

  low: float
  high: float

  def colors(self, changes: np.ndarray) -> list[str]:
    """Of changes [n]; NaN, a place without a pen, is grey."""
    shares = (changes - self.low) / ((self.high - self.low) or 1.0)
    levels = np.rint(np.clip(shares, 0, 1) * (LEVELS - 1))
    palette = dark_to_light()
    return [NOTHING if np.isnan(i) else palette[int(i)] for i in levels]


def dark_to_light() -> list[str]:
  """LEVELS colours of rising lightness that can all be seen on white paper."""
  colors = matplotlib.colormaps['inferno'](np.linspace(0, 0.8, LEVELS))
  return [matplotlib.colors.to_hex(color) for color in colors]


def lay_out(
  lines: Sequence[np.ndarray],
  captions: Sequence[str] | None,
  changes: Sequence[np.ndarray] | None,
  gates: Sequence[str] | None,
) -> Page:
  """A page of lines [N, 3] with changes [N, G], as `strokes` describes them.

  Raises:
    ValueError: there are no lines, one of them is no such array or has a value
      that is not finite, or captions, changes and gates do not fit them.
  """
  lines, changes = checked(lines, captions, changes, gates)
  extents = np.array(
    [np.ptp(x[:, :2], axis=0) if len(x) else (0, 0) for x in lines]
  )
  size = pixels_per_unit(lines, extents)
  labels = [f'{gate}' for gate in gates or ()]
  left = MARGIN + max((7 * breadth(label) + 6 for label in labels), default=0)
  inner = max(NARROWEST, size * extents[:, 0].max())
  page = Page(left + inner + MARGIN, 0, [], [], [], [])
  y = MARGIN
  if changes is not None:
    means = [change.mean(axis=1) for change in changes]
    strip_scale, ink_scale = scale_of(changes), scale_of(means)
  for i, line in enumerate(lines):
    y += GAP if i else 0
    if captions is not None:
      y = put_caption(page, captions[i], left, y, inner)
    strokes = split(placed(line, size, left, y), line[:, 2])
    y += size * extents[i, 1]
    if changes is None:
      put_strokes(page, strokes, sum(map(len, lines[:i])))
    else:
      put_colored_strokes(page, strokes, ink_scale.colors(means[i]))
      y += 10
      y = put_strip(page, strokes, changes[i], strip_scale, left, y, labels)
  if changes is not None:
    y = put_legend(page, strip_scale, ink_scale, left, y + GAP)
  return page._replace(height=y + MARGIN)


def checked(
  lines: Sequence[np.ndarray],
  captions: Sequence[str] | None,
  changes: Sequence[np.ndarray] | None,
  gates: Sequence[str] | None,
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
  """Lines and changes as float64, or the ValueError of `lay_out`."""
  lines = checked_lines(lines)
  if captions is not None and len(captions) != len(lines):
    raise ValueError(f'{len(captions)} captions for {len(lines)} lines')
  if changes is None and gates is not None:
    raise ValueError('gates without changes')
  if changes is not None:
    changes = checked_changes(changes, lines, gates)
  return lines, changes


def checked_lines(lines: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Lines as float64 [N, 3], or a ValueError that says which is none."""
  checked = []
  for i, line in enumerate(lines, start=1):
    line = np.asarray(line, np.float64)
    if line.ndim != 2 or line.shape[1] != 3:
      raise ValueError(f'line {i} has the shape {line.shape}, not [N, 3]')
    if not (np.abs(line) < 1e30).all():
      raise ValueError(f'line {i} has a number that is not finite or too large')
    checked.append(line)
  if not checked:
    raise ValueError('no lines to draw')
  return checked


def checked_changes(
  changes: Sequence[np.ndarray],
  lines: Sequence[np.ndarray],
  gates: Sequence[str] | None,
) -> list[np.ndarray]:
  """Changes as float64 [N, G], or a ValueError that says what does not fit."""
  changes = [np.atleast_1d(np.asarray(x, np.float64)) for x in changes]
  if len(changes) != len(lines):
    raise ValueError(f'changes of {len(changes)} lines for {len(lines)} lines')
  rows = len(gates) if gates is not None else changes[0].shape[-1]
  for i, (change, line) in enumerate(zip(changes, lines, strict=True), start=1):
    if change.shape != (len(line), rows) or not rows:
      raise ValueError(
        f'changes of line {i} have the shape {change.shape}, not '
        f'({len(line)}, {rows or "1 or more"}): its points and the gates'
      )
    if not ((change >= 0) & (change < 1e30)).all():
      raise ValueError(f'changes of line {i} are negative, NaN or too large')
  return changes


def pixels_per_unit(lines: list[np.ndarray], extents: np.ndarray) -> float:
  """The scale that all lines share, by them and their extents [L, 2].

  Letters get a readable height; that of the line would not do, since a line
  may climb or fall by many letters.
  """
  if extents.max() < 1e-30:
    return 1.0
  heights = np.array(
    [
      np.ptp(line[i : i + LETTER_POINTS, 1])
      for line in lines
      for i in range(0, len(line), LETTER_POINTS)
    ]
  )
  heights = heights[heights > 1e-30]
  wanted = LETTER_HEIGHT / np.median(heights) if len(heights) else np.inf
  return float(min(wanted, LONGEST / extents.max()))


def scale_of(changes: Sequence[np.ndarray]) -> Scale:
  """From the 1st to the 99th percentile of all changes."""
  values = np.concatenate([x.ravel() for x in changes])
  return Scale(*np.percentile(values, [1, 99])) if len(values) else Scale(0, 0)


def placed(line: np.ndarray, size: float, x: float, y: float) -> np.ndarray:
  """Points [N, 2] of a line whose upper left corner is at x and y."""
  if not len(line):
    return line[:, :2]
  points = line[:, :2] - [line[:, 0].min(), line[:, 1].max()]
  return points * [size, -size] + [x, y]


def split(points: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
  """Points [N, 2] as strokes [n, 2], by flags [N] of each stroke's last."""
  parts = np.split(points, np.flatnonzero(ends > 0.5) + 1)
  return [part for part in parts if len(part)]


# --- what is put on a page; each returns the y below it, where that may vary


def put_caption(
  page: Page, caption: str, x: float, y: float, width: float
) -> float:
  """Text in at most three rows."""
  if not caption.strip():
    return y
  share = len(caption) / breadth(caption)  # letters by breadth
  columns = max(8, int(share * width / (0.62 * LETTERS)))
  rows = textwrap.wrap(caption, columns, max_lines=3, placeholder=' …')
  for row in rows:
    y += LEADING
    page.words.append(Words(x, y - 4, row, LETTERS))
  return y + 6


def breadth(text: str) -> float:
  """Of text, in letters of middle breadth: a guess without the font."""
  return sum(map(letter_breadth, text))


def letter_breadth(letter: str) -> float:
  """Of one letter, as `breadth`."""
  if letter in 'MWmw@%' or unicodedata.east_asian_width(letter) in 'WF':
    return 1.65
  return 1.2 if letter.isupper() else 1.0


def put_strokes(page: Page, strokes: list[np.ndarray], before: int) -> None:
  """Each stroke as a piece."""
  for stroke in strokes:
    page.ink.append(Ink(stroke, INK, before))
    before += len(stroke)


def put_colored_strokes(
  page: Page, strokes: list[np.ndarray], colors: list[str]
) -> None:
  """Strokes as pieces of one colour, by the colours of all points.

  The way to a point has the point's colour.
  """
  start = 0
  for stroke in strokes:
    own = colors[start : start + len(stroke)]
    begin = 0
    for j in range(1, len(stroke) + 1):
      if j == len(stroke) or (j > 1 and own[j] != own[j - 1]):
        color = own[j - 1]
        page.ink.append(Ink(stroke[begin:j], color, start + begin))
        begin = j - 1
    start += len(stroke)


def put_strip(
  page: Page,
  strokes: list[np.ndarray],
  changes: np.ndarray,
  scale: Scale,
  left: float,
  y: float,
  labels: Sequence[str],
) -> float:
  """The changes [N, G] below the places of their points."""
  rows = changes.shape[1]
  for g, label in enumerate(labels):
    base = y + (g + 0.8) * STRIP_ROW
    page.words.append(Words(left - 6, base, label, SMALL_LETTERS, 'end'))
  if strokes:
    x = np.concatenate(strokes)[:, 0]
    # As wide as the ink, of which half a pen lies beyond the points.
    start, stop = x.min() - PEN / 2, x.max() + PEN / 2
    count = int(np.clip((stop - start) / 2, 1, BINS))
    edges = np.linspace(start, stop, count + 1)
    means = by_place(strokes, changes, edges)
    boxes = [
      box
      for g in range(rows)
      for box in row_of_boxes(
        edges, y + g * STRIP_ROW, scale.colors(means[:, g])
      )
    ]
    page.strips.append(boxes)
  return y + rows * STRIP_ROW


def by_place(
  strokes: list[np.ndarray], changes: np.ndarray, edges: np.ndarray
) -> np.ndarray:
  """Mean changes [N, G] of the points in each of n bins, [n, G].

  A bin that a stroke crosses between two of its points has what lies between
  the bins beside it; one that no stroke touches has NaN.
  """
  count = len(edges) - 1

  def bins(x):
    return np.clip(np.searchsorted(edges, x, 'right') - 1, 0, count - 1)

  places = bins(np.concatenate(strokes)[:, 0])
  numbers = np.bincount(places, minlength=count)
  touched = numbers > 0
  for stroke in strokes:
    first, last = bins(np.array([stroke[:, 0].min(), stroke[:, 0].max()]))
    touched[first : last + 1] = True
  means = np.full((count, changes.shape[1]), np.nan)
  known = np.flatnonzero(numbers)
  for g, change in enumerate(changes.T):
    sums = np.bincount(places, change, count)[known]
    here = np.interp(np.arange(count), known, sums / numbers[known])
    means[touched, g] = here[touched]
  return means


def row_of_boxes(edges: np.ndarray, y: float, colors: list[str]) -> list[Box]:
  """Boxes of a row, where neighbours of one colour are one box."""
  starts = [
    i for i, color in enumerate(colors) if not i or color != colors[i - 1]
  ]
  return [
    Box(edges[i], y, edges[j] - edges[i], STRIP_ROW, colors[i])
    for i, j in zip(starts, [*starts[1:], len(colors)], strict=True)
  ]


def put_legend(
  page: Page, strips: Scale, ink: Scale, x: float, y: float
) -> float:
  """The colours and what they mean."""
  text = (
    f'weight change: strip {strips.low:.3g} to {strips.high:.3g}, '
    f'ink {ink.low:.3g} to {ink.high:.3g}'
  )
  edges = np.linspace(x, x + 96, LEVELS + 1)
  page.legend.extend(row_of_boxes(edges, y, dark_to_light()))
  base = y + STRIP_ROW - 2
  page.words.append(Words(edges[-1] + 8, base, text, SMALL_LETTERS))
  return y + STRIP_ROW
