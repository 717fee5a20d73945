"""WMT'14, English to French: Table 6."""

from experiments.table import Reference, Row, Table

BLEU, NATS = 'test/bleu', 'test/nats_per_piece'


def _row(name, label, bleu, nats):
  return Row(
    name=name,
    label=label,
    config=f'configs/wmt14_enfr.py:{name}',
    paper={BLEU: bleu, NATS: nats},
  )


TABLE = Table(
  title="WMT'14 English to French, newstest2014 (Table 6)",
  paper='Table 6',
  metrics={BLEU: 'BLEU', NATS: 'log perplexity'},
  objective='nats_per_piece',
  data="WMT'14 English-French",
  rows=[
    _row('gnmt_lstm', 'GNMT LSTM (Wu et al. 2016)', '38.95', '1.027'),
    _row('gnmt_hyper_lstm', 'GNMT LN HyperLSTM', '40.03', '0.993'),
  ],
  references=[
    Reference('Deep-Att + PosUnk (Zhou et al. 2016)', {BLEU: '39.2'}),
    Reference('GNMT LSTM, ensemble of 8 (Wu et al. 2016)', {BLEU: '40.35'}),
  ],
  notes=(
    'Log perplexity is in nats per word piece. The paper gives no counts of '
    'parameters, and quotes the LSTM, which is trained here like a row of its '
    'own. BLEU and word pieces are not those of GNMT: see docs/deviations.md.'
  ),
)
