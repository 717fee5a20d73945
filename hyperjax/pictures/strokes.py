"""Handwriting as pictures, still and drawn by a pen.

A line of handwriting is an array of points, float [N, 3]: x to the right and y
upwards, both in any unit, and 1 where a stroke ends, else 0; the last point
ends a stroke whatever it says. Lines are drawn below each other, all at one
scale, each under its caption and above the strip of its changes.

Changes are what a hypernetwork does to the weights of the main network at each
point, non-negative [N, G]: a column for each gate. A row of the strip shows one
gate, and below each place of the writing the mean of the points that lie there,
since the pen also goes back; where it wrote nothing, the strip is blank. The
strokes have the colour of the mean over the gates. Dark is small; the colours
go from the 1st to the 99th percentile of all lines' changes, and for strokes,
whose means differ less, from the 1st to the 99th of the means.
"""

import itertools
import pathlib
import re
from collections.abc import Iterable, Sequence
from xml.sax import saxutils

import numpy as np
from matplotlib import collections, font_manager, patches
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hyperjax.pictures.stroke_page import INK, PEN, Box, Page, lay_out

GREY = '#777777'
DOT = 0.75 * PEN  # radius: as wide as the pen, a dot would be hard to see
# Beside controls, halves of surrogate pairs and two that are no characters.
NOT_XML = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')
FONT = 'DejaVu Sans'  # which comes with matplotlib
CRISP = 'shape-rendering="crispEdges"'  # no seams between boxes

# The dashes exist only while a stroke is drawn, so that the last state is the
# plain picture. They are longer than the stroke (of length 1), and the gap too:
# a dash that began at one of its ends would show as a dot.
ANIMATION = (
  '<style>'
  '.ink path{animation:draw linear backwards}'
  '.ink circle{animation:dot step-end backwards}'
  '@keyframes draw{'
  'from{stroke-dasharray:1.1 1.2;stroke-dashoffset:1.15}'
  'to{stroke-dasharray:1.1 1.2;stroke-dashoffset:0}}'
  '@keyframes dot{from{opacity:0}}'
  '@media (prefers-reduced-motion:reduce){'
  '.ink path,.ink circle{animation:none}}'
  '</style>\n'
)


def write_svg(
  path: pathlib.Path,
  lines: Sequence[np.ndarray],
  *,
  captions: Sequence[str] | None = None,
  changes: Sequence[np.ndarray] | None = None,
  gates: Sequence[str] | None = None,
) -> None:
  """Draws lines of handwriting as an SVG file.

  Args:
    path: of the file.
    lines: each [N, 3], see the module; N may be 0, which leaves its place
      empty.
    captions: of each line, say its text; an empty one is left out, a long one
      is wrapped, and shortened after three rows.
    changes: of each line [N, G].
    gates: G labels of the rows of a strip, say 'i', 'g', 'f', 'o'.

  Raises:
    ValueError: there are no lines, one of them is no such array or has a value
      that is not finite, or captions, changes and gates do not fit them.
  """
  page = lay_out(lines, captions, changes, gates)
  write_text(path, svg(page, plain_ink(page)))


def write_png(
  path: pathlib.Path,
  lines: Sequence[np.ndarray],
  *,
  captions: Sequence[str] | None = None,
  changes: Sequence[np.ndarray] | None = None,
  gates: Sequence[str] | None = None,
) -> None:
  """Draws lines of handwriting as a PNG file of 150 dots an inch.

  It is the picture of `write_svg`, as large as the lines need; a letter that
  DejaVu Sans lacks is drawn as a question mark in a diamond.

  Args:
    path: of the file, as all others are those of `write_svg`.
    lines: each [N, 3].
    captions: of each line.
    changes: of each line [N, G].
    gates: G labels of the rows of a strip.

  Raises:
    ValueError: as `write_svg` does, or the picture is too tall for a PNG.
  """
  page = lay_out(lines, captions, changes, gates)
  dots = 150
  if page.height / 96 * dots >= 2**16:
    raise ValueError(f'{len(lines)} lines are too many for one PNG picture')
  figure = Figure(figsize=(page.width / 96, page.height / 96))
  ax = figure.add_axes((0, 0, 1, 1))
  ax.set_axis_off()
  ax.set(xlim=(0, page.width), ylim=(page.height, 0), aspect='equal')
  paint(ax, page)
  figure.savefig(path, dpi=dots, format='png')


def write_animated_svg(
  path: pathlib.Path,
  lines: Sequence[np.ndarray],
  *,
  captions: Sequence[str] | None = None,
  speed: float = 100.0,
) -> None:
  """Draws lines of handwriting as an SVG file in which a pen writes them once.

  Stroke follows stroke in the order of the points; then the picture of
  `write_svg` stays. Viewers that know no CSS animation, and readers who asked
  their system for less motion, see that picture at once.

  Args:
    path: of the file.
    lines: each [N, 3].
    captions: of each line; they are there from the start.
    speed: points a second; pens are often recorded at 100.

  Raises:
    ValueError: as `write_svg` does, or the speed is not a positive number.
  """
  if not (np.isfinite(speed) and speed > 0):
    raise ValueError(f'a speed of {speed} points a second; it must be above 0')
  page = lay_out(lines, captions, None, None)
  ink = [
    svg_piece(
      piece.points,
      ' pathLength="1" style="'
      f'animation-delay:{seconds(piece.first / speed)};'
      f'animation-duration:{seconds(len(piece.points) / speed)}"',
    )
    for piece in page.ink
  ]
  write_text(path, svg(page, ink, ANIMATION))


def svg(page: Page, ink: Iterable[str], style: str = '') -> str:
  """A page as the text of an SVG file, with the elements of its ink."""
  width, height = number(page.width), number(page.height)
  words = (
    f'<text x="{number(x)}" y="{number(y)}" font-size="{size}" '
    f'text-anchor="{anchor}">{escaped(text)}</text>'
    for x, y, text, size, anchor in page.words
  )
  groups = [
    *(group('strip', map(svg_box, boxes), CRISP) for boxes in page.strips),
    group('legend', map(svg_box, page.legend), CRISP),
    group('words', words, f'fill="{GREY}" font-family="{FONT}, sans-serif"'),
    group(
      'ink',
      ink,
      f'fill="none" stroke="{INK}" stroke-width="{PEN}" '
      'stroke-linecap="round" stroke-linejoin="round"',
    ),
  ]
  return (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
    f'height="{height}" viewBox="0 0 {width} {height}">\n{style}'
    f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
    f'{"".join(groups)}</svg>\n'
  )


def group(name: str, elements: Iterable[str], attributes: str) -> str:
  """Elements in a `g` of a class, or nothing if there are none."""
  elements = '\n'.join(elements)
  if not elements:
    return ''
  return f'<g class="{name}" {attributes}>\n{elements}\n</g>\n'


def svg_box(box: Box) -> str:
  """A `rect`."""
  x, y, width, height = map(number, box[:4])
  return (
    f'<rect x="{x}" y="{y}" width="{width}" height="{height}" '
    f'fill="{box.color}"/>'
  )


def plain_ink(page: Page) -> Iterable[str]:
  """A `path` or `circle` of each stroke, or a `path` of each colour's pieces.

  A path for each coloured piece would make the file three times as large.
  """
  colored = [x for x in page.ink if x.color != INK and not is_dot(x.points)]
  for piece in page.ink:
    if piece.color == INK:
      yield svg_piece(piece.points)
    elif is_dot(piece.points):
      yield svg_piece(piece.points, f' stroke="{piece.color}"')
  colored.sort(key=lambda piece: piece.color)
  for color, pieces in itertools.groupby(colored, lambda piece: piece.color):
    way = ''.join(svg_way(piece.points) for piece in pieces)
    yield f'<path stroke="{color}" d="{way}"/>'


def svg_piece(points: np.ndarray, attributes: str = '') -> str:
  """A `path` through points [n, 2], or a `circle` if they are one place."""
  if not is_dot(points):
    return f'<path{attributes} d="{svg_way(points)}"/>'
  x, y = map(number, points[0])
  # Its outline, as wide as the pen, fills it.
  return f'<circle{attributes} cx="{x}" cy="{y}" r="{number(DOT - PEN / 2)}"/>'


def is_dot(points: np.ndarray) -> bool:
  """Whether points [n, 2] are one place on the page, as far as one can see."""
  return bool((np.ptp(points, axis=0) < 0.01).all())


def svg_way(points: np.ndarray) -> str:
  """Points [n, 2] as the way of a pen: 'M1 2L3 4'."""
  return 'M' + 'L'.join(f'{number(x)} {number(y)}' for x, y in points)


def number(value: float) -> str:
  """Two decimals, without needless zeros."""
  return f'{value:.2f}'.rstrip('0').rstrip('.')


def seconds(value: float) -> str:
  """A time in CSS."""
  return f'{value:.6g}s'


def escaped(text: str) -> str:
  """Text for XML, which has no place for most control characters."""
  return saxutils.escape(NOT_XML.sub('\ufffd', text))


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes UTF-8, as XML is without a declaration."""
  pathlib.Path(path).write_text(text, encoding='utf-8')


def paint(ax: Axes, page: Page) -> None:
  """Draws a page whose pixels are the units of the axes."""
  for box in itertools.chain(page.legend, *page.strips):
    corner = (box.x, box.y)
    ax.add_patch(
      patches.Rectangle(
        corner, box.width, box.height, color=box.color, lw=0, aa=False
      )
    )
  lines = [piece for piece in page.ink if not is_dot(piece.points)]
  ax.add_collection(
    collections.LineCollection(
      [piece.points for piece in lines],
      colors=[piece.color for piece in lines],
      linewidths=PEN * 72 / 96,
      capstyle='round',
      joinstyle='round',
    ),
    autolim=False,
  )
  for piece in page.ink:
    if is_dot(piece.points):
      ax.add_patch(
        patches.Circle(piece.points[0], DOT, color=piece.color, lw=0)
      )
  for words in page.words:
    ax.text(
      words.x,
      words.y,
      drawable(words.text),
      size=words.size * 72 / 96,
      ha={'start': 'left', 'end': 'right'}[words.anchor],
      va='baseline',
      color=GREY,
      family=FONT,
      parse_math=False,
    )


def drawable(text: str) -> str:
  """Text with a mark for each letter the font lacks, which would warn."""
  font = font_manager.get_font(font_manager.findfont(FONT))
  return ''.join(
    letter if font.get_char_index(ord(letter)) else '\ufffd' for letter in text
  )
