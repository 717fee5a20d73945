"""Handwriting of a HyperLSTM, with the changes of its weights."""

from experiments.figure import Figure

FIGURE = Figure(
  title='Handwriting of a HyperLSTM, and how much its weights change',
  paper='Figure 7',
  pictures={
    '../handwriting_budget/hyper_lstm.png': (
      'Lines of a HyperLSTM, the changes of the weights of each gate below'
    ),
  },
  command=(
    'python -m hyperjax.main --mode=sample '
    '--config=configs/handwriting.py:lstm_900 OVERRIDES '
    '--workdir=runs/experiments/handwriting_budget/hyper_lstm-1/seeds-0-to-0'
  ),
  protocol=(
    'a network of 250,000 parameters, three epochs '
    '(experiments/handwriting_budget)'
  ),
  notes=(
    'OVERRIDES are those of the row `hyper_lstm` of '
    'experiments/handwriting_budget, each as `--config.FIELD=VALUE`.'
  ),
)
