"""Text coloured by how much each gate's weights change (paper, Fig. 4)."""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

WIDTH = 80  # letters in a line
CELL = 0.086, 0.185  # inches, of a letter
GAP = 0.6  # rows between two lines
MARGIN = 2.5  # letters, for the names of the gates
FOOT = 0.5  # inches, for the scale
FONT = 'DejaVu Sans Mono'  # which comes with matplotlib
NEWLINE = '\u21b5'
MOST_INCHES = 400  # a PNG's 65,535 pixels and a little to spare


def text_strips(
  paths: Sequence[pathlib.Path],
  letters: Sequence[str],
  changes: np.ndarray,
  gates: Sequence[str],
) -> None:
  """Draws a text with a row for each gate, the darker where more changes.

  The rows of a line of text stand below each other, all gates at one scale,
  from the 1st to the 99th percentile of the changes. A newline is shown as an
  arrow and ends the line; long lines are wrapped, between words if they can be.

  Args:
    paths: files to write, PNG or SVG by their endings.
    letters: T symbols; an empty one leaves its place blank.
    changes: [T, G], non-negative.
    gates: G names.

  Raises:
    ValueError: these do not fit each other, there is no letter, or there are
      too many for a picture.
  """
  changes = np.asarray(changes, float)
  if changes.shape != (len(letters), len(gates)) or not changes.size:
    raise ValueError(
      f'changes {list(changes.shape)} of {len(letters)} letters and '
      f'{len(gates)} gates'
    )
  lines = wrap(letters)
  columns = max(stop - start for start, stop in lines)
  rows = len(lines) * (len(gates) + GAP)
  size = (columns + MARGIN + 1) * CELL[0], (rows + GAP / 2) * CELL[1] + FOOT
  size = max(size[0], 4.6), size[1]
  if size[1] > MOST_INCHES:
    raise ValueError(f'{len(letters)} letters are too many for one picture')
  figure = Figure(figsize=size)
  axes = figure.add_axes((0, FOOT / size[1], 1, 1 - FOOT / size[1]))
  axes.set_axis_off()
  axes.set(xlim=(-MARGIN, size[0] / CELL[0] - MARGIN), ylim=(rows, -GAP / 2))
  low, high = np.percentile(changes, (1, 99))
  colors = ScalarMappable(Normalize(low, high, clip=True), 'YlOrRd')
  for k, (start, stop) in enumerate(lines):
    for row, gate in enumerate(gates):
      y = k * (len(gates) + GAP) + row
      _row(axes, y, gate, letters[start:stop], changes[start:stop, row], colors)
  _scale(figure, size, colors)
  for path in paths:
    figure.savefig(path, dpi=150)


def wrap(letters: Sequence[str], width: int = WIDTH) -> list[tuple[int, int]]:
  """Where lines of at most `width` symbols begin and end, (start, stop).

  A line ends behind a newline or, if it must, behind its last space.
  """
  lines, start, space = [], 0, 0
  for place, letter in enumerate(letters, start=1):
    if letter == ' ':
      space = place
    if letter == '\n':
      lines.append((start, place))
      start = place
    elif place - start >= width and [*letters[place : place + 1]] != ['\n']:
      stop = space if space > start else place
      lines.append((start, stop))
      start = stop
  return [*lines, (start, len(letters))] if start < len(letters) else lines


def _row(
  axes: Axes,
  y: float,
  gate: str,
  letters: Sequence[str],
  changes: np.ndarray,
  colors: ScalarMappable,
) -> None:
  """A gate's row of a line of text."""
  cells = colors.to_rgba(changes)
  axes.imshow(
    cells[None],
    extent=(0, len(letters), y + 1, y),
    aspect='auto',
    interpolation='none',  # so that an SVG has squares, not a blur
  )
  words = {'family': FONT, 'size': 8, 'ha': 'center', 'parse_math': False}
  axes.text(-1, y + 0.72, gate, color='0.35', style='italic', **words)
  luminance = cells[:, :3] @ (0.299, 0.587, 0.114)
  for x, letter in enumerate(letters):
    shown = drawable(letter)
    if not shown.isspace():
      color = 'white' if luminance[x] < 0.5 else '0.1'
      axes.text(x + 0.5, y + 0.72, shown, color=color, **words)


def drawable(letter: str) -> str:
  """A letter as the font has it; nothing is a space."""
  if letter == '\n':
    return NEWLINE
  font = font_manager.get_font(font_manager.findfont(FONT))
  letter = letter or ' '
  has = letter.isprintable() and font.get_char_index(ord(letter[0]))
  return letter if has else '\ufffd'


def _scale(figure, size, colors):
  """The colours' scale along the bottom."""
  width = min(2.2, size[0] - 1)
  left = MARGIN * CELL[0] / size[0]
  axes = figure.add_axes(
    (left, 0.26 / size[1], width / size[0], 0.11 / size[1])
  )
  bar = figure.colorbar(colors, cax=axes, orientation='horizontal')
  bar.outline.set_visible(False)
  bar.ax.tick_params(labelsize=7, length=2, pad=1)
  bar.ax.locator_params(nbins=5)
  figure.text(
    left + (width + 0.15) / size[0],
    0.27 / size[1],
    r'$\Vert W_h(t) - W_h(t-1) \Vert$ of each gate',
    size=8,
    color='0.2',
  )
