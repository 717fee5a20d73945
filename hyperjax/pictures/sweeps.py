"""Pictures of a sweep: what was tried, what came of it, and what mattered."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_COLORS = colormaps['viridis']  # dark is low, and low is good
# How runs without a value are drawn: (color, line style, place of their end).
_ENDINGS = {'pruned': ('0.55', ':', 1.1), 'failed': ('C3', '--', 1.18)}
_MOST_TICKS = 10
_MOST_CELLS = 24  # of a grid, in each direction


@dataclasses.dataclass(frozen=True)
class Axis:
  """A swept field.

  Attributes:
    name: of the field.
    values: [runs], numbers, or places in `labels`.
    labels: names of the categories; empty for numbers.
  """

  name: str
  values: np.ndarray
  labels: tuple[str, ...] = ()

  @property
  def log(self) -> bool:
    """Whether its numbers span a decade, and so want a log scale."""
    low, high = self.values.min(), self.values.max()
    return not self.labels and bool(low > 0 and high >= 10 * low)


def parallel(
  path: pathlib.Path,
  fields: Sequence[Axis],
  objective: str,
  values: np.ndarray,
  outcomes: Sequence[str],
) -> None:
  """Draws parallel coordinates, a line for each run, as a PNG file.

  Args:
    path: of the file.
    fields: one vertical axis each.
    objective: the name of the last axis; lower is better.
    values: [runs] of the objective; read where a run is finished.
    outcomes: 'finished', 'pruned' or 'failed' of each run.
  """
  values, outcomes = np.asarray(values, float), np.asarray(outcomes)
  figure = Figure(figsize=(2.2 * len(fields) + 3.5, 4.8), layout='constrained')
  axes = figure.subplots()
  heights = np.zeros((len(values), len(fields) + 1))
  for place, field in enumerate(fields):
    heights[:, place] = _draw_axis(axes, place, field)
  done = outcomes == 'finished'
  for outcome, (color, style, end) in _ENDINGS.items():
    if (outcomes == outcome).any():
      heights[outcomes == outcome, -1] = end
      _lines(axes, heights[outcomes == outcome], color, style, 0.8)
      axes.text(len(fields) + 0.06, end, outcome, color=color, va='center')
  if done.any():
    low, high = _range(values[done])
    cut = np.minimum(values, high)
    reached = Axis(objective, np.where(done, cut, low))
    above = ' (and above)' if values[done].max() > high else ''
    ends = _draw_axis(axes, len(fields), reached, bold=True, top=above)
    heights[done, -1] = ends[done]
    worst_first = np.flatnonzero(done)[np.argsort(-values[done], kind='stable')]
    color = _COLORS(Normalize(low, high)(cut[worst_first]))
    width = 1.2 if len(values) <= 100 else 0.6
    _lines(axes, heights[worst_first], color, '-', width)
    _lines(axes, heights[worst_first[-1:]], 'C1', '-', 3.0)
  axes.set_xlim(-0.3, len(fields) + 0.75)
  axes.set_ylim(-0.04, 1.04 if done.all() else 1.24)
  axes.axis('off')
  figure.savefig(path, dpi=150)


def _draw_axis(axes, place, field, bold=False, top=''):
  """Draws a vertical axis with its ticks; returns heights, 0 to 1."""
  scale = np.log if field.log else np.asarray
  low, high = scale(field.values.min()), scale(field.values.max())

  def height(x):
    x = scale(np.asarray(x, float))
    return (x - low) / (high - low) if high > low else np.full(x.shape, 0.5)

  ticks = _ticks(field)
  axes.plot([place, place], [0, 1], color='black', linewidth=1, zorder=4)
  for tick, y in zip(ticks, height(ticks), strict=True):
    text = field.labels[int(tick)] if field.labels else f'{tick:.4g}'
    text = text if len(text) <= 18 else f'…{text[-17:]}'
    axes.plot([place, place + 0.03], [y, y], color='black', zorder=4)
    axes.text(
      *(place + 0.06, y, text + (top if tick == ticks[-1] else '')),
      va='center',
      fontsize=8,
      zorder=5,
      bbox={'facecolor': 'white', 'alpha': 0.7, 'edgecolor': 'none', 'pad': 1},
    )
  weight = 'bold' if bold else 'normal'
  title = field.name.replace('.', '.\n')
  axes.annotate(
    title,
    (place, 0),
    xytext=(0, -10),
    textcoords='offset points',
    ha='center',
    va='top',
    weight=weight,
    annotation_clip=False,
  )
  return height(field.values)


def _ticks(field):
  """Where an axis is labelled: its values, if they are few."""
  found = np.unique(field.values)
  if len(found) <= _MOST_TICKS:
    return found
  low, high = found[0], found[-1]
  if field.labels:
    return np.unique(np.linspace(low, high, _MOST_TICKS).round())
  if field.log:
    inner = [float(f'{tick:.1g}') for tick in np.geomspace(low, high, 6)[1:-1]]
    return np.array([low, *inner, high])
  inner = MaxNLocator(5).tick_values(low, high)
  gap = 0.06 * (high - low)
  inner = inner[(inner > low + gap) & (inner < high - gap)]
  return np.array([low, *inner, high])


def _lines(axes, heights, color, style, width):
  places = np.arange(heights.shape[1])
  lines = np.stack([np.broadcast_to(places, heights.shape), heights], -1)
  axes.add_collection(
    LineCollection(lines, colors=color, linestyles=style, linewidths=width)
  )


def _range(values):
  """The lowest value, and the highest but for runs that went far astray."""
  low, upper, high = np.percentile(values, (0, 75, 100))
  if upper > low:
    high = min(high, low + 4 * (upper - low))
  return float(low), float(high)


def progress(
  path: pathlib.Path,
  objective: str,
  values: np.ndarray,
  curves: Sequence[tuple[Sequence[int], Sequence[float]]],
  best: int | None,
) -> None:
  """Draws the best value so far, and learning curves, as a PNG file.

  Args:
    path: of the file.
    objective: its name; lower is better.
    values: [runs], in the order in which the runs ended; NaN where a run
      has none.
    curves: (steps, values of the objective) of runs; there may be none.
    best: which of the curves is the best run's; None if it has none.
  """
  figure = Figure(figsize=(10, 4.2), layout='constrained')
  left, right = figure.subplots(1, 2)
  order = np.arange(1, len(values) + 1)
  known = np.isfinite(values)
  values = np.asarray(values, float)
  left.plot(order, values, '.', color='0.6', label='a run')
  so_far = np.fmin.accumulate(values)
  left.step(order, so_far, color='C1', where='post', label='best so far')
  left.set(xlabel='runs that ended', ylabel=objective)
  left.xaxis.set_major_locator(MaxNLocator(integer=True))
  left.legend()
  if known.any():
    _zoom(left, values[known])
  for steps, y in curves:
    right.plot(
      steps, y, color='C0', alpha=max(0.15, min(0.7, 15 / len(curves)))
    )
  if best is not None:
    look = {'color': 'C1', 'marker': 'o', 'markersize': 3}
    right.plot(*curves[best], label='best run', **look)
    right.legend()
  if curves:
    _zoom(right, np.concatenate([y for _, y in curves]))
  right.set(xlabel='step', ylabel=f'{objective}, on a part of the data')
  for axes in (left, right):
    axes.grid(alpha=0.3)
  figure.savefig(path, dpi=150)


def _zoom(axes, values):
  low, high = _range(values)
  if high > low:
    margin = 0.05 * (high - low)
    axes.set_ylim(low - margin, high + margin)


def importances(path: pathlib.Path, shares: Mapping[str, float]) -> None:
  """Draws how much each field matters as horizontal bars, as a PNG file.

  Args:
    path: of the file.
    shares: by field; they add up to 1.
  """
  names = sorted(shares, key=shares.get)
  figure = Figure(figsize=(7, 1.2 + 0.4 * len(names)), layout='constrained')
  axes = figure.subplots()
  bars = axes.barh(names, [shares[name] for name in names], color='C0')
  axes.bar_label(bars, fmt='%.2f', padding=3)
  axes.set(xlim=(0, 1.1), xlabel='share of the importance')
  figure.savefig(path, dpi=150)


def grid(
  path: pathlib.Path, x: Axis, y: Axis, objective: str, values: np.ndarray
) -> None:
  """Draws the objective over two numeric fields, as a PNG file.

  A grid is drawn as cells with their numbers (the lowest where a point ran
  more than once), anything else as dots.

  Args:
    path: of the file.
    x: the field that goes to the right.
    y: the field that goes up.
    objective: its name; lower is better.
    values: [runs], all finite.
  """
  figure = Figure(figsize=(7, 4.8), layout='constrained')
  axes = figure.subplots()
  norm = Normalize(*_range(values))
  columns, rows = np.unique(x.values), np.unique(y.values)
  few = max(len(columns), len(rows)) <= _MOST_CELLS
  if few and len(columns) * len(rows) <= 2 * len(values):
    cells = np.full((len(rows), len(columns)), np.inf)
    place = np.searchsorted(rows, y.values), np.searchsorted(columns, x.values)
    np.minimum.at(cells, place, values)
    shown = np.ma.masked_invalid(cells)
    image = axes.imshow(
      shown, norm=norm, cmap=_COLORS, origin='lower', aspect='auto'
    )
    for (row, column), value in np.ndenumerate(cells):
      if np.isfinite(value) and cells.size <= 100:
        dark = norm(value) < 0.55
        color = 'white' if dark else 'black'
        weight = 'bold' if value == values.min() else 'normal'
        place = {'ha': 'center', 'va': 'center', 'weight': weight}
        axes.text(column, row, f'{value:.4g}', color=color, **place)
    axes.set_xticks(range(len(columns)), [f'{v:.4g}' for v in columns])
    axes.set_yticks(range(len(rows)), [f'{v:.4g}' for v in rows])
  else:
    image = axes.scatter(x.values, y.values, c=values, norm=norm, cmap=_COLORS)
    best = np.argmin(values)
    ring = {'facecolors': 'none', 'edgecolors': 'C1', 'linewidths': 2}
    axes.scatter(x.values[best], y.values[best], s=140, **ring)
    axes.set_xscale('log' if x.log else 'linear')
    axes.set_yscale('log' if y.log else 'linear')
  axes.set(xlabel=x.name, ylabel=y.name)
  figure.colorbar(image, label=objective)
  figure.savefig(path, dpi=150)
