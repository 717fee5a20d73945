"""Penn Treebank, characters (paper, Table 3).

    python -m hyperjax.main --config=configs/ptb.py:ROW --workdir=runs/ptb \
      --config.data.dir=FOLDER

FOLDER holds ptb.train.txt, ptb.valid.txt and ptb.test.txt (Mikolov's files).
`:ROW,smoke` shrinks a row to about a minute on a CPU.

The paper does not say how many steps it took, nor with which schedule: 40,000
steps (100 epochs) at a constant rate stand here until a row has been trained
whole. None has been yet.
"""

from hyperjax.config import language_model_config, parse_argument
from hyperjax.sweeps.space import grid

# Row: cell, hidden size, layers, N_z, keep probability of all dropout.
# The paper's test bits per character stand behind it.
ROWS = {
  'ln_hyper_lstm': ('ln_hyper_lstm', 1000, 1, 4, 0.90),  # 1.250
  'lstm_1000': ('lstm', 1000, 1, 4, 0.90),  # 1.312
  'lstm_1250': ('lstm', 1250, 1, 4, 0.90),  # 1.306
  'lstm_2x1000': ('lstm', 1000, 2, 4, 0.90),  # 1.281
  'ln_lstm': ('ln_lstm', 1000, 1, 4, 0.90),  # 1.267
  'hyper_lstm': ('hyper_lstm', 1000, 1, 4, 0.90),  # 1.265
  'ln_hyper_lstm_large': ('ln_hyper_lstm', 1000, 1, 16, 0.85),  # 1.233
  'ln_hyper_lstm_2layer': ('ln_hyper_lstm', 1000, 2, 16, 0.80),  # 1.219
}


def get_config(argument: str = ''):
  row, options = parse_argument(argument, ROWS, ['smoke'])
  cell, hidden_size, num_layers, z_size, keep_prob = ROWS[row]

  config = language_model_config()
  config.data.update({'name': 'ptb', 'dir': '', 'vocab_size': 50})
  config.model.update(
    {
      'cell': cell,
      'hidden_size': hidden_size,
      'num_layers': num_layers,
      'z_size': z_size,
      'recurrent_keep_prob': keep_prob,
      'input_keep_prob': keep_prob,
      'output_keep_prob': keep_prob,
    }
  )
  config.train.num_steps = 40_000  # 100 epochs
  config.train.eval_every = 398  # an epoch
  config.train.checkpoint_every = 398
  config.eval.implausible_below = 1.0
  config.sample.prompt = 'the '

  if 'smoke' in options:
    config.data.update({'batch_size': 32, 'sequence_length': 50})
    config.model.update({'hidden_size': 64, 'hyper_size': 16})
    config.optimizer.learning_rate = 5e-3
    config.train.update(
      {
        'num_steps': 1_000,
        'eval_every': 250,
        'checkpoint_every': 100,
        'log_every': 20,
      }
    )
    config.eval.num_streams = 128
  return config


def sweep():
  """Points of scripts/sweep.py."""
  return grid(
    {
      'optimizer.learning_rate': (5e-4, 1e-3, 2e-3, 5e-3),
      'model.z_size': (4, 8, 16),
    }
  )
