"""Learning curves."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure


def learning_curve(
  path: pathlib.Path,
  lines: Sequence[Mapping[str, float]],
  metric: str,
  levels: Mapping[str, float],
) -> None:
  """Draws a metric by step, training and validation, as a PNG file.

  Args:
    path: of the file.
    lines: of `metrics.jsonl`.
    metric: what stands behind the slash, such as 'bits_per_char'. Of several
      seeds, the mean is a thick line, and each seed (`seed_K/...`) a thin one.
    levels: horizontal lines to compare with, by label.
  """
  names = {
    name
    for line in lines
    for name, value in line.items()
    if name.endswith(f'/{metric}') and value is not None
  }
  figure = Figure(figsize=(7, 4.2), layout='constrained')
  axes = figure.subplots()
  means = sorted(name for name in names if name.count('/') == 1)
  for color, mean in enumerate(means):
    for name in sorted(n for n in names if n.endswith(mean)):
      points = [(x['step'], x[name]) for x in lines if x.get(name) is not None]
      axes.plot(
        *zip(*points, strict=True),
        '-' if mean.startswith('train/') else 'o-',
        color=f'C{color}',
        markersize=4 if name == mean else 2,
        linewidth=1.4 if name == mean else 0.4,
        label=mean.split('/')[0].replace('_', ' ') if name == mean else None,
      )
  for color, (label, level) in enumerate(levels.items(), start=5):
    axes.axhline(level, color=f'C{color}', linestyle='--', linewidth=1)
    axes.annotate(
      f'{label} {level:.2f}',
      (1, level),
      xycoords=('axes fraction', 'data'),
      xytext=(-4, 3),
      textcoords='offset points',
      ha='right',
      color=f'C{color}',
    )
  axes.set_xlabel('step')
  axes.set_ylabel(metric.replace('_', ' '))
  axes.grid(alpha=0.3)
  axes.legend(loc='upper right' if not levels else 'best')
  figure.savefig(path, dpi=150)


class Series(NamedTuple):
  """A metric of several seeds by step.

  Attributes:
    steps: int [N].
    values: [S, N]; NaN where a seed has none.
  """

  steps: np.ndarray
  values: np.ndarray


def series(
  logs: Sequence[Sequence[Mapping[str, float]]], metric: str
) -> dict[str, Series]:
  """A metric of each split, from the lines of `metrics.jsonl` of some runs.

  Args:
    logs: the lines of each run; the seeds of a run of several count as runs.
    metric: what stands behind the slash.
  """
  found: dict[str, list[dict[int, float]]] = {}
  for lines in logs:
    names = {name for line in lines for name in line}
    for name in sorted(n for n in names if n.endswith(f'/{metric}')):
      whole = '/'.join(name.split('/')[-2:])
      if name == whole and any(n.endswith(f'/{whole}') for n in names):
        continue  # the mean of the seeds
      points = {x['step']: x[name] for x in lines if x.get(name) is not None}
      if points:
        found.setdefault(whole.split('/')[0], []).append(points)
  result = {}
  for split, seeds in found.items():
    steps = sorted({step for points in seeds for step in points})
    values = [[points.get(step, np.nan) for step in steps] for points in seeds]
    result[split] = Series(np.array(steps), np.array(values))
  return result


def comparison(
  path: pathlib.Path, networks: Mapping[str, Mapping[str, Series]], metric: str
) -> None:
  """Draws a metric of several networks by step (paper, Fig. 6).

  Training is a thin line, validation one with dots. Of several seeds the line
  is their mean, and a band is one standard deviation wide on either side.

  Args:
    path: of the file; its ending chooses the format, say .png or .svg.
    networks: by label, the series of each split.
    metric: its name.
  """
  figure = Figure(figsize=(7, 4.2), layout='constrained')
  axes = figure.subplots()
  seen = []
  for color, (label, splits) in enumerate(networks.items()):
    for split, (steps, values) in sorted(splits.items()):
      means = np.nanmean(values, axis=0)
      seen += means.tolist()
      axes.plot(
        *(steps, means, '-' if split == 'train' else 'o-'),
        color=f'C{color}',
        markersize=4,
        linewidth=0.6 if split == 'train' else 1.4,
        label=f'{label}, {split.replace("_", " ")}',
      )
      several = np.isfinite(values).sum(axis=0) > 1
      if several.any():
        spread = np.nanstd(values[:, several], axis=0, ddof=1)
        low, high = means[several] - spread, means[several] + spread
        axes.fill_between(
          *(steps[several], low, high), color=f'C{color}', alpha=0.2, lw=0
        )
  # The first steps would take all the room.
  low, high = min(seen), float(np.percentile(seen, 95))
  if low < high:
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
  axes.set_xlabel('step')
  axes.set_ylabel(metric.replace('_', ' '))
  axes.grid(alpha=0.3)
  axes.legend()
  figure.savefig(path, dpi=150)
