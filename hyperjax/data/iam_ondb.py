"""IAM-OnDB: 12,195 lines that 221 people wrote on a whiteboard.

It can only be had from its publisher, for non-commercial research (`URL` of
`data.iam_files`). Where it is not at hand, lines drawn with a vector font take
its place, and are called synthetic wherever a result stands.
"""

import logging
from typing import Any

from hyperjax.data import iam_files, pen_font, prepared
from hyperjax.data.files import data_dir
from hyperjax.data.iam_files import Corpus, protocol_splits
from hyperjax.data.strokes import StrokeSource, check_options, make_source

logger = logging.getLogger(__name__)


def build(
  *,
  dir: str = '',
  protocol: str = 'graves',
  skip_damaged: bool = False,
  batch_size: int,
  min_points: int = 300,
  scale_range: float = 0.0,
  alphabet: str = '',
) -> StrokeSource:
  """The source over the raw files, or over the prepared data set.

  Args:
    dir: the folder with the raw files; if empty, `$HYPERJAX_DATA_DIR/iam_ondb`
      where there is one, else the prepared tfds data set, and without that
      synthetic lines.
    protocol: which lists are which split, see `iam_files.PROTOCOLS`.
    skip_damaged: leaves out damaged files, which else are an error.
    batch_size: lines in a training batch.
    min_points: see `StrokeSource`.
    scale_range: see `StrokeSource`.
    alphabet: see `StrokeSource`.

  Raises:
    UserError: there is no such protocol, or a file is missing or damaged; see
      `iam_files.read_raw`.
  """
  # Before half a minute of reading.
  iam_files.check_protocol(protocol)
  check_options(batch_size, min_points, scale_range, alphabet)
  corpus = _read(dir, skip_damaged)
  return make_source(
    protocol_splits(corpus, protocol),
    name=corpus.name,
    batch_size=batch_size,
    min_points=min_points,
    scale_range=scale_range,
    alphabet=alphabet,
    report={'protocol': protocol, **corpus.report},
  )


def stand_in(
  *,
  dir: str = '',
  protocol: str = 'graves',
  skip_damaged: bool = False,
  **options: Any,
) -> StrokeSource:
  """The source over synthetic lines, which are fewer and shorter."""
  del dir, skip_damaged
  corpus = Corpus(
    pen_font.lines() | {iam_files.UNLISTED: []}, pen_font.DATA_SET, {}
  )
  return make_source(
    protocol_splits(corpus, protocol), name=corpus.name, **options
  )


def _read(dir, skip_damaged) -> Corpus:
  folder = data_dir(dir, 'iam_ondb', ', '.join(iam_files.raw_files()))
  if folder:
    return iam_files.read_raw(folder, skip_damaged=skip_damaged)
  if prepared.is_prepared('iam_ondb'):
    return iam_files.read_prepared()
  logger.warning(
    'IAM-OnDB is not here (%s): SYNTHETIC lines take its place',
    iam_files.NO_DOWNLOAD,
  )
  lines = pen_font.lines() | {iam_files.UNLISTED: []}
  return Corpus(lines, pen_font.DATA_SET, {})
