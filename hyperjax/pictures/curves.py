"""Learning curves."""

import pathlib
from collections.abc import Mapping, Sequence

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
    metric: what stands behind the slash, such as 'bits_per_char'.
    levels: horizontal lines to compare with, by label.
  """
  names = {name for line in lines for name in line if name != 'step'}
  figure = Figure(figsize=(7, 4.2), layout='constrained')
  axes = figure.subplots()
  for name in sorted(name for name in names if name.endswith(f'/{metric}')):
    points = [
      (line['step'], line[name]) for line in lines if line.get(name) is not None
    ]
    style = '-' if name.startswith('train/') else 'o-'
    axes.plot(
      *zip(*points, strict=True),
      style,
      markersize=4,
      linewidth=1.4,
      label=name.split('/')[0].replace('_', ' '),
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
