"""IAM-OnDB, on-line handwriting (paper, Table 5).

    python -m hyperjax.main --config=configs/handwriting.py:ROW \
      --workdir=runs/handwriting --config.data.dir=FOLDER

FOLDER holds the publisher's files (README.md says which). Without it, and
without a prepared data set, synthetic lines take their place, and the result
says so. `:ROW,synthetic` asks for them, `:ROW,strokes` takes pen data of your
own (--config.data.path=FILE.json), and `:ROW,text` trains a model that can be
told what to write. On a CPU `:ROW,small` is a matter of half an hour,
`:ROW,smoke` of a minute or two.

The paper does not say how many steps it took: 100 epochs of the protocol of
Graves stand here, a guess until a row has been trained whole. None has been.
"""

from hyperjax.config import handwriting_config, parse_argument

# Row: cell, hidden size, layers, regularized (dropout, scaled training lines).
# The paper's validation log-loss in nats per sequence stands behind it.
ROWS = {
  'hyper_lstm_900': ('hyper_lstm', 900, 1, True),  # -1,162
  'lstm_900_plain': ('lstm', 900, 1, False),  # -1,026
  'lstm_3x400_plain': ('lstm', 400, 3, False),  # -1,039
  'lstm_900': ('lstm', 900, 1, True),  # -1,055
  'lstm_1000': ('lstm', 1000, 1, True),  # -1,048
  'lstm_3x400': ('lstm', 400, 3, True),  # -1,068
  'lstm_2x650': ('lstm', 650, 2, True),  # -1,135
  'ln_lstm_900': ('ln_lstm', 900, 1, True),  # -1,096
  'ln_lstm_1000': ('ln_lstm', 1000, 1, True),  # -1,106
  'ln_hyper_lstm_900': ('ln_hyper_lstm', 900, 1, True),  # -1,067
}
ALPHABET = (
  ' !"#&\'()*+,-./0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZ'
  'abcdefghijklmnopqrstuvwxyz'
)


def get_config(argument: str = ''):
  row, options = parse_argument(
    argument, ROWS, ['synthetic', 'strokes', 'text', 'small', 'smoke']
  )
  cell, hidden_size, num_layers, regularized = ROWS[row]

  config = handwriting_config()
  config.data.update(
    {
      'name': 'iam_ondb',
      'dir': '',
      'protocol': 'graves',  # or official
      'skip_damaged': False,
      'batch_size': 32,
    }
  )
  config.model.update(
    {'cell': cell, 'hidden_size': hidden_size, 'num_layers': num_layers}
  )
  if regularized:
    config.data.scale_range = 0.1
    config.model.update({'recurrent_keep_prob': 0.95, 'output_keep_prob': 0.95})
  config.optimizer.update({'learning_rate': 1e-4, 'clip_norm': 5.0})
  config.train.num_steps = 32_000
  config.train.eval_every = 320  # an epoch
  config.train.checkpoint_every = 320
  config.eval.num_streams = config.eval.quick_streams = 64

  if options & {'synthetic', 'strokes'}:
    del config.data.dir, config.data.protocol, config.data.skip_damaged
    config.data.name = 'synthetic_handwriting'
  if 'strokes' in options:
    config.data.update({'name': 'strokes', 'path': ''})
  if 'text' in options:
    config.data.alphabet = ALPHABET
    config.model.num_windows = 10
    config.sample.text = 'hypernetworks write by hand'
    config.sample.length = 1_200
  if 'small' in options:
    config.model.update({'hidden_size': 200, 'hyper_size': 32})
    config.optimizer.learning_rate = 1e-2
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 40
    config.train.update(
      {
        'num_steps': 1_200,
        'eval_every': 120,
        'checkpoint_every': 60,
        'log_every': 20,
      }
    )
  if 'smoke' in options:
    config.data.batch_size = 16
    config.model.update({'hidden_size': 64, 'hyper_size': 16})
    config.optimizer.learning_rate = 5e-3
    config.train.update(
      {
        'num_steps': 200,
        'eval_every': 100,
        'checkpoint_every': 50,
        'log_every': 10,
      }
    )
    config.sample.num_lines = 2
    config.sample.length = 800 if 'text' in options else 300
  return config
