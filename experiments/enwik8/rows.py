"""enwik8: Table 4."""

from experiments.table import Reference, Row, Table

TEST = 'test/bits_per_char'


def _row(name, label, test, parameters):
  return Row(
    name=name,
    label=label,
    config=f'configs/enwik8.py:{name}',
    paper={TEST: test},
    paper_parameters=parameters,
  )


TABLE = Table(
  title='enwik8, bits per character (Table 4)',
  paper='Table 4',
  metrics={TEST: 'test'},
  objective='bits_per_char',
  data='enwik8',
  rows=[
    _row('lstm_1800', 'LSTM 1800, no recurrent dropout', '1.470', '14.81 M'),
    _row('lstm_2000', 'LSTM 2000, no recurrent dropout', '1.461', '18.06 M'),
    _row('ln_lstm_1800', 'Layer-norm LSTM 1800', '1.402', '14.82 M'),
    _row('hyper_lstm_1800', 'HyperLSTM 1800', '1.391', '18.71 M'),
    _row('ln_hyper_lstm_1800', 'LN HyperLSTM 1800', '1.353', '18.78 M'),
    _row('ln_hyper_lstm_2048', 'LN HyperLSTM 2048', '1.340', '26.54 M'),
  ],
  references=[
    Reference('Stacked LSTM (Graves 2013)', {TEST: '1.67'}, '27.0 M'),
    Reference('MRNN (Sutskever et al. 2011)', {TEST: '1.60'}),
    Reference('GF-RNN (Chung et al. 2015)', {TEST: '1.58'}, '20.0 M'),
    Reference('Grid-LSTM (Kalchbrenner et al. 2016)', {TEST: '1.47'}, '16.8 M'),
    Reference('LSTM (Rocki 2016b)', {TEST: '1.45'}),
    Reference('MI-LSTM (Wu et al. 2016)', {TEST: '1.44'}),
    Reference(
      'Recurrent highway networks (Zilly et al. 2016)', {TEST: '1.42'}, '8.0 M'
    ),
    Reference(
      'Recurrent memory array structures (Rocki 2016a)', {TEST: '1.40'}
    ),
    Reference('HM-LSTM (Chung et al. 2016)', {TEST: '1.40'}),
    Reference(
      'Surprisal-feedback LSTM (Rocki 2016b), which sees test errors',
      {TEST: '1.37'},
    ),
  ],
)
