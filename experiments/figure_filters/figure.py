"""Kernels of a convolution, learned and generated."""

from experiments.figure import Figure

FIGURE = Figure(
  title='Kernels of MNIST networks, generated beside ordinary',
  paper='the figure of section 4.1',
  pictures={
    'kernels.png': 'Kernels of the hyper network, and of the plain one below',
  },
  command=(
    'python scripts/draw_kernels.py --out=experiments/figure_filters '
    '--workdir=runs/experiments/mnist/hyper_conv-1/seeds-0-to-2 '
    '--beside=runs/experiments/mnist/conv-1/seeds-0-to-2'
  ),
  protocol='networks trained as the rows of experiments/mnist',
)
