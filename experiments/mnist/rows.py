"""MNIST: section 4.1 and Table 7."""

from experiments.table import Row, Table

TEST = 'test/error_percent'
OVERRIDES = {
  'data.batch_size': 500,
  'train.num_steps': 24 * 110,
  'train.eval_every': 110,
  'train.checkpoint_every': 110,
  'train.log_every': 110,
  'optimizer.learning_rate': 5e-3,
  'optimizer.schedule': 'cosine',
}


def _row(name, label, error, parameters):
  return Row(
    name=name,
    label=label,
    config=f'configs/mnist.py:{name}',
    overrides=OVERRIDES,
    paper={TEST: error},
    paper_parameters=parameters,
    num_seeds=3,
  )


TABLE = Table(
  title='MNIST, test error in percent (Table 7)',
  paper='Table 7',
  metrics={TEST: 'test', 'valid/error_percent': 'validation'},
  objective='error_percent',
  data='MNIST',
  protocol=(
    "the paper's split and augmentation, a cosine schedule; batches of 500, 24 "
    'epochs from 5e-3'
  ),
  notes=(
    'The paper counts the parameters of the second kernel alone, here those of '
    'the whole network are counted. Hours are of two CPU cores with other work '
    'beside.'
  ),
  rows=[
    _row('conv', 'Convolutional network', '0.72', '12,544 (2nd kernel)'),
    _row(
      'hyper_conv',
      'Hyper convolutional network',
      '0.76',
      '4,244 (2nd kernel)',
    ),
  ],
)
