"""The validation curves of a table as a drawing inside a page."""

import io

import matplotlib
from matplotlib.figure import Figure

from experiments.cells import View

# Legible on white and on black; text takes the colour of the page.
COLORS = '#3b82c4', '#d9822b', '#2f9e6e', '#c4516c', '#8a6fd1', '#8c8c3a'
INK = '#010203'


def svg(view: View) -> str | None:
  """The objective on quick validation by step, a colour for each row.

  Seeds are thin lines of one colour. None if no record has kept a curve.
  """
  metric = f'valid_quick/{view.definition.objective}'
  curves = []
  for line in view.own:
    points = [r.get('curve', {}).get(metric) for r in line.records]
    if points := [each for each in points if each]:
      curves.append((line, points))
  if not curves:
    return None
  figure = Figure(figsize=(7, 3.4), layout='constrained', facecolor='none')
  axes = figure.subplots()
  axes.set_facecolor('none')
  for place, (line, seeds) in enumerate(curves):
    marks = ''.join(f' [{mark}]' for mark in line.marks)
    for k, points in enumerate(seeds):
      axes.plot(
        *zip(*points, strict=True),
        color=COLORS[place % len(COLORS)],
        linestyle='--' if place >= len(COLORS) else '-',
        linewidth=1.3,
        label=None if k else line.label + marks,
      )
  axes.set_xlabel('step', color=INK)
  axes.set_ylabel(
    f'validation, {view.definition.objective.replace("_", " ")}', color=INK
  )
  axes.tick_params(colors=INK)
  axes.xaxis.set_major_formatter('{x:,.0f}')
  axes.grid(color=INK, alpha=0.15)
  axes.spines[:].set_edgecolor(INK)
  axes.spines[['top', 'right']].set_visible(False)
  axes.legend(frameon=False, labelcolor=INK)
  text = io.StringIO()
  style = {'svg.fonttype': 'none', 'svg.hashsalt': view.name}
  with matplotlib.rc_context(style):
    figure.savefig(
      text,
      format='svg',
      metadata=dict.fromkeys(['Creator', 'Date', 'Format', 'Type']),
    )
  drawing = text.getvalue()
  return drawing[drawing.index('<svg') :].replace(INK, 'currentColor')
