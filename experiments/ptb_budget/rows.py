"""Penn Treebank at one parameter budget: a study that two CPU cores carry."""

from experiments.table import Row, Table

COMMON = {
  'model.parameter_budget': 250_000,
  'model.hyper_size': 32,
  'model.z_size': 4,
  # One epoch: there is nothing to regularize.
  'model.recurrent_keep_prob': 1.0,
  'model.input_keep_prob': 1.0,
  'model.output_keep_prob': 1.0,
  'data.batch_size': 16,
  'data.sequence_length': 64,
  'optimizer.schedule': 'cosine',
  'optimizer.warmup_steps': 100,
  'train.num_steps': 4_800,
  'train.eval_every': 2_400,
  'train.checkpoint_every': 2_400,
  'eval.num_streams': 128,
}


def _row(cell, label, rates=(6e-3, 12e-3, 24e-3, 48e-3)):
  return Row(
    name=cell,
    label=label,
    config='configs/ptb.py:lstm_1000',
    overrides={**COMMON, 'model.cell': cell},
    search=('optimizer.learning_rate', rates),
    num_seeds=3,
  )


TABLE = Table(
  title='Penn Treebank at 250,000 parameters, bits per character',
  metrics={
    'test/bits_per_char': 'test',
    'valid/bits_per_char': 'validation',
  },
  objective='bits_per_char',
  data='Penn Treebank',
  protocol=(
    'a study of our own: 250,000 parameters, one epoch, batches of 16 streams '
    'of 64 symbols, no dropout, cosine schedule, the learning rate chosen on '
    'validation data'
  ),
  notes=(
    'Seed 0, by which the learning rate was chosen, is one of the three seeds. '
    'Hours are those of the runs in the table, without the search; other work '
    'ran beside them.'
  ),
  rows=[
    _row('rnn', 'Basic RNN', (1.5e-3, 3e-3, 6e-3, 12e-3)),
    _row('hyper_rnn', 'HyperRNN', (0.75e-3, 1.5e-3, 3e-3, 6e-3)),
    _row('lstm', 'LSTM'),
    _row('ln_lstm', 'Layer-norm LSTM'),
    _row('hyper_lstm', 'HyperLSTM'),
    _row('ln_hyper_lstm', 'LN HyperLSTM'),
  ],
)
