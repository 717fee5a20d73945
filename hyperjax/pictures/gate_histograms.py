"""Histograms of gates of several networks side by side (paper, Fig. 5)."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure

SATURATED = 0.1  # from either end, as `evaluation.saturation` counts


class Histogram(Protocol):
  """Of one gate; `evaluation.saturation.Histogram`."""

  edges: np.ndarray
  density: np.ndarray
  low: float
  high: float


def gate_histograms(
  paths: Sequence[pathlib.Path],
  networks: Mapping[str, Mapping[str, Histogram]],
) -> None:
  """Draws a row for each network and a column for each gate.

  A column has the same axes in all rows. What is saturated is dark, and its
  share stands above it.

  Args:
    paths: files to write, PNG or SVG by their endings.
    networks: by label, the histogram of each gate by its name; all have the
      same gates.
  """
  gates = list(next(iter(networks.values())))
  figure = Figure(
    figsize=(2.1 * len(gates) + 0.5, 1.35 * len(networks) + 0.6),
    layout='constrained',
  )
  grid = figure.subplots(
    len(networks), len(gates), sharex='col', sharey='col', squeeze=False
  )
  for row, (label, histograms) in enumerate(networks.items()):
    for column, gate in enumerate(gates):
      axes = grid[row, column]
      _draw(axes, histograms[gate], f'C{row}')
      if row == 0:
        axes.set_title(gate, fontsize=10, style='italic')
      if column == 0:
        axes.set_ylabel(label, fontsize=9)
  for column, gate in enumerate(gates):
    # A bin that holds nearly everything would flatten all others.
    bins = np.concatenate(
      [network[gate].density for network in networks.values()]
    )
    top = min(bins.max(), 4 * np.percentile(bins[bins > 0], 90))
    grid[0, column].set_ylim(0, 1.3 * top)
  for path in paths:
    figure.savefig(path, dpi=150)


def _draw(axes, histogram, color):
  edges, density = histogram.edges, histogram.density
  centres = (edges[:-1] + edges[1:]) / 2
  low, high = edges[0] + SATURATED, edges[-1] - SATURATED
  saturated = (centres < low) | (centres > high)
  for chosen, alpha in ((saturated, 1.0), (~saturated, 0.45)):
    axes.bar(
      centres[chosen],
      density[chosen],
      np.diff(edges)[chosen],
      color=color,
      alpha=alpha,
      linewidth=0,
    )
  place = {'transform': axes.transAxes, 'va': 'top', 'fontsize': 7.5}
  axes.text(0.05, 0.96, f'{histogram.low:.0%}', ha='left', **place)
  axes.text(0.95, 0.96, f'{histogram.high:.0%}', ha='right', **place)
  axes.set_xlim(edges[0], edges[-1])
  ticks = edges[0], (edges[0] + edges[-1]) / 2, edges[-1]
  axes.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
  axes.set_yticks([])
  axes.tick_params(labelsize=7)
  for side in ('top', 'right', 'left'):
    axes.spines[side].set_visible(False)
