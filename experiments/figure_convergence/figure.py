"""How fast the cells learn handwriting."""

from experiments.figure import Figure

FIGURE = Figure(
  title='Convergence of LSTM and HyperLSTM on handwriting',
  paper='Figure 6',
  pictures={
    '../handwriting_budget/curves.png': (
      'Nats per sequence by step, training and validation'
    ),
  },
  command=(
    'python scripts/draw_curves.py --metric=nats_per_sequence '
    '--labels=LSTM,HyperLSTM --out=experiments/handwriting_budget/curves.png '
    '--runs=runs/experiments/handwriting_budget/lstm-1/seeds-0-to-0,'
    'runs/experiments/handwriting_budget/hyper_lstm-1/seeds-0-to-0'
  ),
  protocol=(
    'networks of 250,000 parameters, three epochs '
    '(experiments/handwriting_budget)'
  ),
)
