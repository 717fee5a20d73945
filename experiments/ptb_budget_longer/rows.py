"""Penn Treebank at one parameter budget, twice as long as `ptb_budget`."""

from experiments.ptb_budget.rows import COMMON
from experiments.table import Row, Table


def _row(cell, label, learning_rate):
  return Row(
    name=cell,
    label=label,
    config='configs/ptb.py:lstm_1000',
    overrides={
      **COMMON,
      'model.cell': cell,
      'optimizer.learning_rate': learning_rate,
      'train.num_steps': 9_600,
    },
    num_seeds=3,
  )


TABLE = Table(
  title='Penn Treebank at 250,000 parameters, two epochs, bits per character',
  metrics={
    'test/bits_per_char': 'test',
    'valid/bits_per_char': 'validation',
  },
  objective='bits_per_char',
  data='Penn Treebank',
  protocol=(
    'a study of our own: 250,000 parameters, two epochs, batches of 16 streams '
    'of 64 symbols, no dropout, cosine schedule, the learning rate that '
    'validation data chose for one epoch'
  ),
  notes=(
    'The learning rates are those of the study of one epoch. Hours are of two '
    'CPU cores with other work beside.'
  ),
  rows=[
    _row('lstm', 'LSTM', 24e-3),
    _row('ln_lstm', 'Layer-norm LSTM', 24e-3),
    _row('hyper_lstm', 'HyperLSTM', 12e-3),
    _row('ln_hyper_lstm', 'LN HyperLSTM', 12e-3),
  ],
)
