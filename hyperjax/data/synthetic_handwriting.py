"""Synthetic handwriting as a data set of its own, made on the spot."""

from hyperjax.data import pen_font
from hyperjax.data.strokes import StrokeSource, make_source


def build(
  *,
  num_train: int = 960,
  num_valid: int = 96,
  num_test: int = 96,
  lines_seed: int = 0,
  batch_size: int,
  min_points: int = 300,
  scale_range: float = 0.0,
  alphabet: str = '',
) -> StrokeSource:
  """The source over lines of `data.pen_font`.

  Args:
    num_train: lines to train on.
    num_valid: lines to validate on.
    num_test: lines to test on.
    lines_seed: the same seed gives the same lines.
    batch_size: lines in a training batch.
    min_points: see `StrokeSource`.
    scale_range: see `StrokeSource`.
    alphabet: see `StrokeSource`.

  Raises:
    UserError: a number is out of its range.
  """
  lines = pen_font.lines(
    num_train=num_train,
    num_valid=num_valid,
    num_test=num_test,
    seed=lines_seed,
  )
  return make_source(
    {
      'train': lines['trainset'],
      'valid': lines['testset_v'],
      'test': lines['testset_f'],
    },
    name=pen_font.DATA_SET,
    batch_size=batch_size,
    min_points=min_points,
    scale_range=scale_range,
    alphabet=alphabet,
  )
