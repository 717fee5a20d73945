"""Learning curves."""

import pathlib
from collections.abc import Mapping, Sequence

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


def comparison(
  path: pathlib.Path,
  runs: Mapping[str, Sequence[Mapping[str, float]]],
  metric: str,
) -> None:
  """Draws a metric of several runs by step, as a PNG file.

  Args:
    path: of the file.
    runs: the lines of `metrics.jsonl` of each, by its label.
    metric: what stands behind the slash. Training is a thin line, validation
      one with dots; of several seeds, the means.

  Raises:
    ValueError: a run does not have that metric.
  """
  figure = Figure(figsize=(7, 4.2), layout='constrained')
  axes = figure.subplots()
  seen = []
  for color, (label, lines) in enumerate(runs.items()):
    names = {
      name
      for line in lines
      for name, value in line.items()
      if name.endswith(f'/{metric}')
      and name.count('/') == 1
      and value is not None
    }
    if not names:
      raise ValueError(f'{label} has no metric {metric}')
    for name in sorted(names):
      points = [(x['step'], x[name]) for x in lines if x.get(name) is not None]
      seen += [y for _, y in points]
      split = name.split('/')[0]
      axes.plot(
        *zip(*points, strict=True),
        '-' if split == 'train' else 'o-',
        color=f'C{color}',
        markersize=4,
        linewidth=0.6 if split == 'train' else 1.4,
        label=f'{label}, {split.replace("_", " ")}',
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
