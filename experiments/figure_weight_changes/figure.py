"""How the weights of a HyperLSTM change over a text."""

from experiments.figure import Figure

FIGURE = Figure(
  title='Changes of the weights of a HyperLSTM over a text',
  paper='Figure 4',
  pictures={
    'weights.png': 'A text, and below each character how much each gate changes',
  },
  command=(
    'python scripts/draw_weights.py --workdir=RUN '
    '--out=experiments/figure_weight_changes'
  ),
)
