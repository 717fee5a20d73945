"""Content of a given size and no meaning, for programs that are only compiled.

A data module's `stand_in` takes what its `build` takes, and returns a source
whose arrays and batches have the shapes of the real ones, without any file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax.data.length_buckets import GROUP, make_buckets
from hyperjax.data.translation import TranslationSource
from hyperjax.types import Batch


def texts(sizes: Mapping[str, int], vocab_size: int) -> dict[str, bytes]:
  """A text of each split, in which the first `vocab_size` bytes take turns."""
  symbols = np.arange(vocab_size, dtype=np.uint8)
  return {
    split: np.resize(symbols, size).tobytes() for split, size in sizes.items()
  }


def images(
  sizes: Mapping[str, int], shape: Sequence[int], num_classes: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """The same image again and again, and labels that take turns."""
  size = int(np.prod(shape))
  image = np.resize(np.arange(256, dtype=np.uint8), size).reshape(shape)
  return {
    split: (
      np.broadcast_to(image, (count, *shape)),
      np.resize(np.arange(num_classes), count),
    )
    for split, count in sizes.items()
  }


class Pairs:
  """Batches of the widest bucket of a parallel corpus, all padding.

  What `data.translation.TranslationSource` has, as far as a train step and an
  evaluation step need it.

  Args:
    tokens_per_batch: see `TranslationSource`.
    batch_size: see `TranslationSource`.
    max_length: see `TranslationSource`; the width of the batches.
    options: the others, which change no shape.
  """

  def __init__(
    self,
    *,
    tokens_per_batch: int,
    batch_size: int,
    max_length: int = 100,
    **options: Any,
  ):
    del options
    self.meta = {'name': 'made-up pairs'}
    (self.bucket,) = make_buckets(
      np.full((1, 2), max_length), 1, tokens_per_batch, batch_size
    )

  def window(
    self, seeds: np.ndarray, step: int
  ) -> tuple[dict[str, np.ndarray], int]:
    """See `TranslationSource.window`."""
    seeds = np.atleast_1d(np.asarray(seeds)).astype(np.uint32)
    arrays = {'first': np.array(step, np.int32), 'seeds': seeds}
    widths = zip(('source', 'target'), self.bucket.widths, strict=True)
    for key, width in widths:
      shape = len(seeds), GROUP, self.bucket.rows, width
      arrays[key] = np.zeros(shape, np.int32)
    return arrays, GROUP

  batch = TranslationSource.batch

  def eval(self, split: str, batch_size: int) -> list[Batch]:
    """A batch as wide as those of training."""
    del split
    width = max(self.bucket.widths)
    pairs = np.zeros((batch_size, width), np.int32)
    return [{'source': pairs, 'target': pairs}]
