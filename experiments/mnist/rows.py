"""MNIST: Table 7 and appendix A.1."""

from experiments.table import Row, Table

TEST = 'test/error_percent'
COMMON = {
  'data.batch_size': 500,
  'train.num_steps': 24 * 110,
  'train.eval_every': 110,
  'train.checkpoint_every': 110,
  'train.log_every': 110,
  'optimizer.learning_rate': 5e-3,
  'optimizer.schedule': 'cosine',
}
COORDINATES = {
  'train.num_steps': 50 * 55,
  'optimizer.learning_rate': 2e-2,
  'optimizer.schedule': 'cosine',
  'optimizer.warmup_steps': 200,
}


def _row(name, label, error, parameters, overrides=COMMON):
  return Row(
    name=name,
    label=label,
    config=f'configs/mnist.py:{name}',
    overrides=overrides,
    paper={TEST: error},
    paper_parameters=parameters,
    num_seeds=3,
  )


TABLE = Table(
  title='MNIST, test error in percent (Section 4.1, Table 7 and A.1)',
  metrics={TEST: 'test', 'valid/error_percent': 'validation'},
  objective='error_percent',
  data='MNIST',
  protocol=(
    "the paper's split and augmentation, a cosine schedule; batches of 500, 24 "
    'epochs from 5e-3 (coordinate hypernetwork: 1,000, 50 epochs from 2e-2)'
  ),
  notes='Hours are of two CPU cores with other work beside.',
  rows=[
    _row('conv', 'Convolutional network', '0.72', '21,210'),
    _row('hyper_conv', 'Hyper convolutional network', '0.76', '12,910'),
    _row('mlp', 'Fully connected network', '1.5', '203,530'),
    _row(
      'coordinate_mlp',
      'Coordinate hypernetwork',
      '6.5',
      '3,627',
      COORDINATES,
    ),
  ],
)
