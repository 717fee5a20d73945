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
    'python scripts/draw_weights.py --text=TEXT '
    '--workdir=runs/experiments/ptb_budget_longer/ln_hyper_lstm-1/seeds-0-to-2 '
    '--out=experiments/figure_weight_changes'
  ),
  protocol=(
    'a network of 250,000 parameters, two epochs '
    '(experiments/ptb_budget_longer)'
  ),
  notes=(
    'TEXT are three lines of our own; the numbers are in `weight_changes.npz`. '
    'Weights change most at the space behind a word and at the second letter '
    'of the next; those of gate g change least.'
  ),
)
