"""The tfds builder of handwriting: an example is a line of a pen's points."""

import numpy as np
import tensorflow_datasets as tfds

from hyperjax.data import iam_files
from hyperjax.data.builders.pieces import RawFilesBuilder
from hyperjax.errors import UserError


class HyperjaxIamOndb(RawFilesBuilder):
  """IAM-OnDB; its splits are the publisher's lists that have lines.

  An example has the fields of `pen_lines.Line`. The metadata are the corpus'
  name, report and sha256.
  """

  MANUAL_DOWNLOAD_INSTRUCTIONS = iam_files.NO_DOWNLOAD
  corpus = iam_files

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'name': tfds.features.Text(),
          'text': tfds.features.Text(),
          'points': tfds.features.Tensor(shape=(None, 3), dtype=np.float32),
        }
      ),
      homepage=iam_files.URL,
      metadata=tfds.core.MetadataDict(),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    folder = self.manual_dir(dl_manager)
    if folder is None:
      raise UserError(iam_files.NO_DOWNLOAD)
    corpus = iam_files.read_raw(folder)
    self.info.metadata.update(
      name=corpus.name,
      report=corpus.report,
      sha256=iam_files.sha256(corpus),
    )
    return {
      split: self._generate_examples(lines)
      for split, lines in corpus.splits.items()
      if lines  # tfds writes no empty split
    }

  def _generate_examples(self, lines):
    for place, line in enumerate(lines):
      yield place, line._asdict()
