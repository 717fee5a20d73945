"""tfds builders of the images, as `data.records` has them.

tfds has its own 'mnist' and 'cifar10', which need TensorFlow; ours are
registered, and lie on the disk, as 'hyperjax_mnist' and 'hyperjax_cifar10'.
"""

import pathlib

from hyperjax.data import cifar10, mnist
from hyperjax.data.builders.pieces import PieceBuilder


class ImageBuilder(PieceBuilder, skip_registration=True):
  """A builder of labelled images; what is held out is left to the run."""

  field = 'records'
  splits = ('train', 'test')

  def read(self, folder: pathlib.Path) -> dict[str, bytes]:
    """The records of each split."""
    return self.corpus.read_records(folder)


class HyperjaxMnist(ImageBuilder):
  """MNIST; a record is a label and 28 x 28 pixels."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = ', '.join(mnist.raw_files())
  corpus = mnist


class HyperjaxCifar10(ImageBuilder):
  """CIFAR-10; a record is a label and 3 x 32 x 32 pixels."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = ' or '.join(cifar10.raw_files())
  corpus = cifar10
