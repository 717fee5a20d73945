"""enwik8, the first 100 million bytes of the English Wikipedia (Table 4).

    python -m hyperjax.main --config=configs/enwik8.py:ROW --workdir=runs/enwik8

The data is downloaded, or read from --config.data.dir=FOLDER with `enwik8` or
`enwik8.zip`; --config.data.path=FILE takes a sample of such text instead.
`:ROW,smoke` shrinks a row to a short run that shows all parts working.

The paper does not say how many steps it took: about 10 epochs at its constant
rate stand here, a guess until a row has been trained whole. None has been yet.
"""

from hyperjax.config import language_model_config, parse_argument

# Row: cell, hidden size, sequence length, recurrent keep probability.
# The paper's test bits per character stand behind it.
ROWS = {
  'ln_hyper_lstm_1800': ('ln_hyper_lstm', 1800, 250, 0.90),  # 1.353
  'lstm_1800': ('lstm', 1800, 250, 1.0),  # 1.470
  'lstm_2000': ('lstm', 2000, 250, 1.0),  # 1.461
  'ln_lstm_1800': ('ln_lstm', 1800, 250, 0.90),  # 1.402
  'hyper_lstm_1800': ('hyper_lstm', 1800, 250, 0.90),  # 1.391
  'ln_hyper_lstm_2048': ('ln_hyper_lstm', 2048, 300, 0.85),  # 1.340
}


def get_config(argument: str = ''):
  row, options = parse_argument(argument, ROWS, ['smoke'])
  cell, hidden_size, sequence_length, keep_prob = ROWS[row]
  epoch = 90_000_000 // (128 * sequence_length)  # steps

  config = language_model_config()
  config.data.update(
    {
      'name': 'enwik8',
      'dir': '',
      'path': '',
      'sequence_length': sequence_length,
      'vocab_size': 205,
    }
  )
  config.model.update(
    {
      'cell': cell,
      'hidden_size': hidden_size,
      'hyper_size': 256,
      'z_size': 64,
      'recurrent_keep_prob': keep_prob,
    }
  )
  if row == 'ln_hyper_lstm_2048':
    config.model.hyper_size = 512
    config.model.hyper_recurrent_keep_prob = keep_prob
  config.train.num_steps = 10 * epoch
  config.train.eval_every = epoch
  config.train.checkpoint_every = epoch // 4
  # The best published models that we know of, far larger, stay above 0.9.
  config.eval.implausible_below = 0.8
  config.sample.prompt = '[['

  if 'smoke' in options:
    config.data.update({'batch_size': 32, 'sequence_length': 50})
    config.model.update({'hidden_size': 64, 'hyper_size': 16, 'z_size': 8})
    config.optimizer.learning_rate = 5e-3
    config.train.update(
      {
        'num_steps': 300,
        'eval_every': 150,
        'checkpoint_every': 100,
        'log_every': 20,
      }
    )
    config.eval.num_streams = 128
  return config
