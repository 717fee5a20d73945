"""tfds builders of the texts; importing this registers 'ptb' and 'enwik8'."""

import pathlib

from hyperjax.data import enwik8, ptb
from hyperjax.data.builders.pieces import PieceBuilder


class TextBuilder(PieceBuilder, skip_registration=True):
  """A builder of a text."""

  field = 'text'
  splits = ('train', 'valid', 'test')

  def read(self, folder: pathlib.Path) -> dict[str, bytes]:
    """The text of each split."""
    return self.corpus.read_raw(folder)


class Ptb(TextBuilder):
  """Penn Treebank, Mikolov's files as they are."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = 'ptb.train.txt, ptb.valid.txt, ptb.test.txt'
  corpus = ptb


class Enwik8(TextBuilder):
  """The first 100,000,000 bytes of a dump of the English Wikipedia."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = 'enwik8 or enwik8.zip'
  corpus = enwik8
