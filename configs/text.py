"""A layer-norm HyperLSTM on any text; by default on source code at hand.

python -m hyperjax.main --config=configs/text.py --workdir=runs/text
python -m hyperjax.main --config=configs/text.py --workdir=runs/mine \
      --config.data.path=FILE_OR_FOLDER

On the source of Python 3.11.7's standard library: test 1.788 bits per
character (order-3 count model 2.131), in 3 to 4 minutes on 2 CPU cores.
"""

from hyperjax.config import language_model_config, parse_argument


def get_config(argument: str = ''):
  row, _ = parse_argument(
    argument, ['ln_hyper_lstm', 'hyper_lstm', 'ln_lstm', 'lstm']
  )
  config = language_model_config()
  config.data.update(
    {
      'name': 'text',
      'path': '',  # empty: the Python standard library's source
      'batch_size': 16,
      'sequence_length': 64,
    }
  )
  config.model.update(
    {
      'cell': row,
      'hidden_size': 256,
      'hyper_size': 64,
      'z_size': 8,
    }
  )
  config.optimizer.learning_rate = 6e-3
  config.optimizer.schedule = 'cosine'
  config.optimizer.warmup_steps = 100
  config.train.update(
    {
      'num_steps': 3_600,
      'eval_every': 900,
      'checkpoint_every': 300,
      'log_every': 50,
    }
  )
  config.eval.num_streams = config.eval.quick_streams = 64
  config.sample.prompt = 'def '
  return config
