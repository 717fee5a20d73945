"""How open the gates of the cells are."""

from experiments.figure import Figure

FIGURE = Figure(
  title='Histograms of gates and states',
  paper='Figure 5',
  pictures={'gates.png': 'Histograms of the gates of each cell'},
  command=(
    'python scripts/draw_weights.py --workdir=RUN,RUN2 '
    '--out=experiments/figure_gate_histograms'
  ),
)
