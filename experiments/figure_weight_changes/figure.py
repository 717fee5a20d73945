"""How the weights of a HyperLSTM change over a text."""

from experiments.figure import Figure

FIGURE = Figure(
  title='Changes of the weights of a HyperLSTM over a text',
  paper='Figure 4',
  pictures={
    'weight_changes.png': (
      'A text, and below each character the change of each gate'
    ),
  },
  command=(
    'python scripts/draw_weights.py --workdir=RUN --text=TEXT '
    '--out=experiments/figure_weight_changes'
  ),
)
