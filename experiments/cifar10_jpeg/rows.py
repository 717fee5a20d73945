"""A lossy copy of CIFAR-10 for a short budget: what two CPU cores carry."""

from experiments.table import Row, Table

COMMON = {
  'data.path': 'cifar10_jpeg/cifar10_jpeg.tar.xz',
  'optimizer.schedule': 'cosine',
  'optimizer.boundaries': (),
  'optimizer.rates': (),
  'optimizer.warmup_steps': 20,
  'train.num_steps': 176,
  'train.eval_every': 88,
  'train.checkpoint_every': 88,
  'train.log_every': 22,
}


def _row(name, label):
  return Row(
    name=name,
    label=label,
    config=f'configs/cifar10.py:{name},images',
    overrides=COMMON,
  )


TABLE = Table(
  title='JPEG copy of CIFAR-10, half an epoch, error in percent',
  metrics={
    'test/error_percent': 'test',
    'valid/error_percent': 'validation',
  },
  objective='error_percent',
  data='cifar10_jpeg: JPEG images',
  protocol=(
    'a study of our own on a lossy JPEG copy: half an epoch (176 steps), '
    'cosine schedule from the rate of the paper'
  ),
  notes=(
    'The images are a JPEG copy of CIFAR-10, not CIFAR-10, and the runs are '
    'eight hundred (plain) and four thousand (hyper) times shorter than the '
    "paper's: nothing here compares with Table 2."
  ),
  rows=[
    _row('wrn_40_1', 'Wide residual network 40-1'),
    _row('hyper_wrn_40_1', 'Hyper residual network 40-1'),
  ],
)
