"""Where a translation looked, piece by piece."""

import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure


class Aligned(Protocol):
  """A translation and where it looked; `evaluation.translate.Translated`."""

  text: str
  source: list[str]
  target: list[str]
  attention: np.ndarray


class AttentionPictures:
  """Translations that can be drawn.

  Args:
    name: a word for the names of files.
    translations: of which some may be empty, and have no picture.
  """

  def __init__(self, name: str, translations: Sequence[Aligned]):
    self.name = name
    self.translations = translations

  def draw(self, folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    """Writes `name`.txt, and `name`-K.png and .svg of sentence K."""
    lines = [translation.text for translation in self.translations]
    drawn = [folder / f'{name}.txt']
    drawn[0].write_text('\n'.join(lines) + '\n', encoding='utf-8')
    for k, translation in enumerate(self.translations, 1):
      if not translation.target:
        continue
      paths = [folder / f'{name}-{k}.{ending}' for ending in ('png', 'svg')]
      attention_map(
        paths, translation.source, translation.target, translation.attention
      )
      drawn += paths
    return drawn


def attention_map(
  paths: Sequence[pathlib.Path],
  source: Sequence[str],
  target: Sequence[str],
  attention: np.ndarray,
) -> None:
  """Draws attention as a grid: the darker, the more.

  Args:
    paths: files to write, PNG or SVG by their endings.
    source: pieces, along the top.
    target: pieces, from the top down.
    attention: [T, S], rows that sum to one.
  """
  rows, columns = attention.shape
  size = 1.6 + 0.3 * columns, 1.2 + 0.3 * rows
  figure = Figure(figsize=size, layout='constrained')
  axes = figure.subplots()
  axes.imshow(attention, cmap='Greys', vmin=0, vmax=1, aspect='equal')
  # Signs like $ are letters here, not formulas.
  plain = {'parse_math': False}
  axes.set_xticks(range(columns), source, rotation=90, **plain)
  axes.set_yticks(range(rows), target, **plain)
  axes.xaxis.tick_top()
  axes.tick_params(length=0)
  for edges, line in ((columns, axes.axvline), (rows, axes.axhline)):
    for place in np.arange(1, edges) - 0.5:
      line(place, color='0.9', linewidth=0.6)
  for path in paths:
    figure.savefig(path, dpi=120)
