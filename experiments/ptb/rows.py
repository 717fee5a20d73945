"""Penn Treebank, characters: Table 3."""

from experiments.table import Reference, Row, Table

VALID, TEST = 'valid/bits_per_char', 'test/bits_per_char'


def _row(name, label, test, valid, parameters):
  return Row(
    name=name,
    label=label,
    config=f'configs/ptb.py:{name}',
    paper={TEST: test, VALID: valid},
    paper_parameters=parameters,
  )


TABLE = Table(
  title='Penn Treebank, bits per character (Table 3)',
  paper='Table 3',
  metrics={TEST: 'test', VALID: 'validation'},
  objective='bits_per_char',
  data='Penn Treebank',
  rows=[
    _row('lstm_1000', 'LSTM 1000', '1.312', '1.347', '4.25 M'),
    _row('lstm_1250', 'LSTM 1250', '1.306', '1.340', '6.57 M'),
    _row('lstm_2x1000', '2-layer LSTM 1000', '1.281', '1.312', '12.26 M'),
    _row('ln_lstm', 'Layer-norm LSTM 1000', '1.267', '1.300', '4.26 M'),
    _row('hyper_lstm', 'HyperLSTM 1000', '1.265', '1.296', '4.91 M'),
    _row('ln_hyper_lstm', 'LN HyperLSTM 1000', '1.250', '1.281', '4.92 M'),
    _row(
      'ln_hyper_lstm_large',
      'LN HyperLSTM 1000, large embedding',
      '1.233',
      '1.263',
      '5.06 M',
    ),
    _row(
      'ln_hyper_lstm_2layer',
      '2-layer LN HyperLSTM 1000',
      '1.219',
      '1.245',
      '14.41 M',
    ),
  ],
  references=[
    Reference('ME n-gram (Mikolov et al. 2012)', {TEST: '1.37'}),
    Reference('Batch-norm LSTM (Cooijmans et al. 2016)', {TEST: '1.32'}),
    Reference(
      'Recurrent-dropout LSTM (Semeniuta et al. 2016)',
      {TEST: '1.301', VALID: '1.338'},
    ),
    Reference('Zoneout RNN (Krueger et al. 2016)', {TEST: '1.27'}),
    Reference('HM-LSTM (Chung et al. 2016)', {TEST: '1.27'}),
  ],
)
