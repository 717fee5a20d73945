"""IAM-OnDB at one parameter budget: a study that two CPU cores carry."""

from experiments.table import Row, Table

VALID = 'valid/nats_per_sequence'
COMMON = {
  'model.parameter_budget': 250_000,
  'model.hyper_size': 32,
  'model.z_size': 4,
  # Three epochs: there is nothing to regularize.
  'model.recurrent_keep_prob': 1.0,
  'model.output_keep_prob': 1.0,
  'data.scale_range': 0.0,
  'optimizer.learning_rate': 1e-2,
  'optimizer.schedule': 'cosine',
  'optimizer.warmup_steps': 40,
  'train.num_steps': 960,
  'train.eval_every': 160,
  'train.checkpoint_every': 80,
  'train.log_every': 20,
}


def _row(cell, label):
  return Row(
    name=cell,
    label=label,
    config='configs/handwriting.py:lstm_900',
    overrides={**COMMON, 'model.cell': cell},
  )


TABLE = Table(
  title='IAM-OnDB at 250,000 parameters, nats per sequence',
  metrics={VALID: 'validation', 'valid/nats_per_point': 'per point'},
  objective='nats_per_sequence',
  data='IAM-OnDB',
  protocol=(
    'a study of our own: 250,000 parameters, three epochs, no dropout, no '
    'scaled lines, Adam from 1e-2 with a cosine schedule'
  ),
  notes=(
    'One seed. The learning rate is the better one of 3e-3 and 1e-2 for both '
    'cells in trial runs of 80 and 160 steps. Hours are of two CPU cores with '
    'other work beside.\n\n'
    '![Learning curves](curves.png)\n\n'
    'What the LSTM writes, and what the HyperLSTM writes, with how much the '
    "hyper cell changes the weights of each gate: the main cell's W_h, by the "
    'root mean square of the change of its row scales in a step.\n\n'
    '![Lines of the LSTM](lstm.png)\n\n'
    '![Lines of the HyperLSTM](hyper_lstm.png)'
  ),
  rows=[
    _row('lstm', 'LSTM'),
    _row('hyper_lstm', 'HyperLSTM'),
    _row('ln_hyper_lstm', 'LN HyperLSTM'),
  ],
)
