"""IAM-OnDB: Table 5."""

from experiments.table import Reference, Row, Table

VALID = 'valid/nats_per_sequence'


def _row(name, label, log_loss, parameters):
  return Row(
    name=name,
    label=label,
    config=f'configs/handwriting.py:{name}',
    paper={VALID: log_loss},
    paper_parameters=parameters,
  )


TABLE = Table(
  title='IAM-OnDB, nats per sequence (Table 5)',
  paper='Table 5',
  metrics={VALID: 'validation', 'valid/nats_per_point': 'per point'},
  objective='nats_per_sequence',
  data='IAM-OnDB',
  rows=[
    _row('lstm_900_plain', 'LSTM 900, no dropout', '-1,026', '3.36 M'),
    _row(
      'lstm_3x400_plain', '3-layer LSTM 400, no dropout', '-1,039', '3.26 M'
    ),
    _row('lstm_900', 'LSTM 900', '-1,055', '3.36 M'),
    _row('lstm_1000', 'LSTM 1000', '-1,048', '4.14 M'),
    _row('lstm_3x400', '3-layer LSTM 400', '-1,068', '3.26 M'),
    _row('lstm_2x650', '2-layer LSTM 650', '-1,135', '5.16 M'),
    _row('ln_lstm_900', 'Layer-norm LSTM 900', '-1,096', '3.37 M'),
    _row('ln_lstm_1000', 'Layer-norm LSTM 1000', '-1,106', '4.14 M'),
    _row('ln_hyper_lstm_900', 'LN HyperLSTM 900', '-1,067', '3.95 M'),
    _row('hyper_lstm_900', 'HyperLSTM 900', '-1,162', '3.94 M'),
  ],
  references=[
    Reference('LSTM 900 (Graves 2013)', {VALID: '-1,026'}),
    Reference('3-layer LSTM 400 (Graves 2013)', {VALID: '-1,041'}),
    Reference(
      '3-layer LSTM 400, adaptive weight noise (Graves 2013)',
      {VALID: '-1,058'},
    ),
  ],
  notes=(
    'Validation on the 1,438 lines of the smaller validation list, those under '
    '300 points left out, as in the paper; there is no test set.'
  ),
)
