"""MNIST digits (paper, Sec. 4.1, Table 7 and A.1).

    python -m hyperjax.main --config=configs/mnist.py:ROW --workdir=runs/mnist \
      --config.data.dir=FOLDER

FOLDER holds the four idx files, gzipped or not; without it they are
downloaded. `:ROW,budget=0.1` takes a tenth of the steps.
"""

from hyperjax.config import (
  classification_config,
  parse_argument,
  parse_budget,
  scale_steps,
)

# Row: the model's options. The paper's test error in percent behind it.
ROWS = {
  'conv': {'name': 'mnist_conv', 'hyper': False},  # 0.72
  'hyper_conv': {'name': 'mnist_conv', 'hyper': True, 'z_size': 4},  # 0.76
  'mlp': {'name': 'mlp', 'coordinates': False},  # 1.5
  'coordinate_mlp': {'name': 'mlp', 'coordinates': True},  # 6.5
}
EPOCH = 55  # steps


def get_config(argument: str = ''):
  argument, budget = parse_budget(argument)
  row, _ = parse_argument(argument, ROWS)

  config = classification_config()
  config.data.update(
    {'name': 'mnist', 'image_shape': (28, 28, 1), 'batch_size': 1_000}
  )
  config.model.update(ROWS[row])
  config.optimizer.learning_rate = 1e-3
  if config.model.name == 'mnist_conv':
    config.data.pad = 1
  config.train.num_steps = 50 * EPOCH
  config.train.eval_every = EPOCH
  config.train.checkpoint_every = EPOCH
  config.train.log_every = EPOCH
  config.eval.implausible_below = 0.1
  scale_steps(config, budget)
  return config
