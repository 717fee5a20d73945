"""WMT'14, English to French (paper, Table 6): GNMT, of HyperLSTM cells.

    python -m hyperjax.main --config=configs/wmt14_enfr.py:gnmt_hyper_lstm \
      --workdir=runs/wmt14 --config.data.dir=FOLDER

FOLDER holds {train,valid,test}.{en,fr}, gzipped or not; without it, tfds'
`wmt14_translate/fr-en`, which has to be prepared first, with TensorFlow. The
paper reports 40.03 BLEU and 0.993 nats per word piece of the HyperLSTM, 38.95
and 1.027 of GNMT's own LSTM. Neither has been trained here: this takes many
accelerators for days. What the paper leaves open stands in docs/deviations.md.
"""

from hyperjax.config import parse_argument, translation_config

# Cells. GNMT's own has no layer norm.
ROWS = {'gnmt_hyper_lstm': 'ln_hyper_lstm', 'gnmt_lstm': 'lstm'}


def get_config(argument: str = ''):
  row, options = parse_argument(argument, ROWS, ['small'])

  config = translation_config()
  config.data.update(
    {
      'name': 'wmt14',
      'dir': '',
      'vocab_size': 32_000,
      'tokens_per_batch': 4_096,
      'num_buckets': 10,
    }
  )
  config.model.update(
    {
      'cell': ROWS[row],
      'hidden_size': 1024,
      'embedding_size': 1024,
      'attention_size': 1024,
      'num_layers': 8,
      'num_encoder_layers': 8,
      'hyper_size': 128,
      'z_size': 32,
      'input_keep_prob': 0.8,
      'output_keep_prob': 0.8,
    }
  )
  config.optimizer.update({'learning_rate': 2e-4, 'clip_norm': 5.0})
  config.train.update(
    {
      'num_steps': 1_000_000,
      'eval_every': 5_000,
      'checkpoint_every': 1_000,
    }
  )
  config.eval.num_streams = config.eval.quick_streams = 128
  config.sample.text = 'The cat sat on the mat.'

  if 'small' in options:
    config.data.update({'vocab_size': 8_000, 'num_buckets': 6})
    config.model.update(
      {
        'hidden_size': 128,
        'embedding_size': 128,
        'attention_size': 128,
        'num_layers': 3,
        'num_encoder_layers': 3,
        'hyper_size': 32,
        'z_size': 8,
      }
    )
    config.optimizer.learning_rate = 1e-3
  return config
