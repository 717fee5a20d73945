"""CIFAR-10 images (paper, Table 2).

    python -m hyperjax.main --config=configs/cifar10.py:ROW \
      --workdir=runs/cifar10 --config.data.dir=FOLDER

FOLDER holds the python or the binary version, as an archive or unpacked;
without it the data set is downloaded. `:ROW,budget=0.1` takes a tenth of the
steps and of the schedule; `:ROW,images` trains on images in folders or in an
archive of such, --config.data.path=PATH. No row has been trained whole yet.
"""

from hyperjax.config import (
  classification_config,
  parse_argument,
  parse_budget,
  scale_steps,
)

# Row: depth, width, hyper. The paper's test error in percent behind it.
ROWS = {
  'hyper_wrn_40_1': (40, 1, True),  # 8.02
  'wrn_40_1': (40, 1, False),  # 6.73
  'wrn_40_2': (40, 2, False),  # 5.66
  'hyper_wrn_40_2': (40, 2, True),  # 7.23
  'wrn_28_10': (28, 10, False),
  'hyper_wrn_28_10': (28, 10, True),
}


def get_config(argument: str = ''):
  argument, budget = parse_budget(argument)
  row, options = parse_argument(argument, ROWS, ['images'])
  depth, width, hyper = ROWS[row]

  config = classification_config()
  config.data.update({'name': 'cifar10', 'batch_size': 128})
  config.data.update({'pad': 2, 'flip': True, 'normalize': 'standard'})
  config.model.update(
    {
      'name': 'wide_resnet',
      'depth': depth,
      'width': width,
      'hyper': hyper,
      'block_size': 16,
      'z_size': 64,
    }
  )
  # "0.0005%" in the paper; see docs/deviations.md.
  config.task.l2 = 5e-4
  config.optimizer.schedule = 'steps'
  if hyper:
    config.optimizer.learning_rate = 0.002
    config.optimizer.boundaries = (168_000, 336_000, 504_000)
    config.optimizer.rates = (0.001, 0.0002, 0.00005)
    config.train.num_steps = 672_000
  else:
    config.optimizer.update({'name': 'sgd', 'nesterov': True})
    config.optimizer.learning_rate = 0.1
    config.optimizer.boundaries = (28_000, 56_000, 84_000, 112_000)
    config.optimizer.rates = (0.02, 0.004, 0.0008, 0.00016)
    config.train.num_steps = 140_000
  config.train.eval_every = 352  # an epoch
  config.train.checkpoint_every = 352
  config.eval.implausible_below = 1.0
  if 'images' in options:
    del config.data.dir
    config.data.update({'name': 'images', 'path': ''})
  scale_steps(config, budget)
  return config
