"""How fast the cells learn."""

from experiments.figure import Figure

FIGURE = Figure(
  title='Convergence of LSTM and HyperLSTM',
  paper='Figure 6',
  pictures={
    '../handwriting_budget/curves.png': (
      'Handwriting: nats per sequence by step, training and validation'
    ),
    'ptb.png': (
      'Penn Treebank: bits per character on quick validation by step, mean and '
      'deviation of three seeds'
    ),
  },
  command=(
    'python scripts/draw_curves.py --metric=nats_per_sequence '
    '--labels=LSTM,HyperLSTM --out=experiments/handwriting_budget/curves.png '
    '--runs=runs/experiments/handwriting_budget/lstm-1/seeds-0-to-0,'
    'runs/experiments/handwriting_budget/hyper_lstm-1/seeds-0-to-0'
  ),
  notes=(
    'The second picture: `python scripts/draw_curves.py '
    '--metric=bits_per_char --splits=valid_quick --labels="LSTM,LN HyperLSTM" '
    '--out=experiments/figure_convergence/ptb.png '
    '--runs=runs/experiments/ptb_budget_longer/lstm-1/seeds-0-to-2,'
    'runs/experiments/ptb_budget_longer/ln_hyper_lstm-1/seeds-0-to-2`.'
  ),
  protocol=(
    'networks of 250,000 parameters, three epochs '
    '(experiments/handwriting_budget), or two (experiments/ptb_budget_longer)'
  ),
)
