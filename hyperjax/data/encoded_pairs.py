"""Pairs of sentences as numbers, in arrays that may lie on the disk."""

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator

import numpy as np

from hyperjax.data import cached
from hyperjax.data.length_buckets import round_up
from hyperjax.data.parallel_text import TRAIN, Corpus, Pair
from hyperjax.data.word_pieces import END, PAD, WordPieces
from hyperjax.errors import UserError
from hyperjax.training.progress import track
from hyperjax.types import Batch

FORMAT = 1  # of the files; another number makes them anew
BLOCK = 1024  # pairs that are encoded at a time
NO_PAIR = -1  # the place of an empty row
SOURCE, TARGET = 0, 1
EMPTY_SIDE = 'with an empty side'


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedPairs:
  """The pairs of a split.

  Attributes:
    pieces: uint16 or int32 [N], all sentences end to end: the source of the
      first pair, its target, the source of the next; each ends with `END`.
    starts: int64 [P], where each pair begins there.
    lengths: int32 [P, 2], pieces of source and target, with `END`.
    left_out: how many pairs are not there, by the reason.
    sha256: of the texts of those that are.
  """

  pieces: np.ndarray
  starts: np.ndarray
  lengths: np.ndarray
  left_out: dict[str, int]
  sha256: str

  def __len__(self) -> int:
    return len(self.starts)

  def rows(self, side: int, places: np.ndarray, width: int) -> np.ndarray:
    """The sentences of some pairs, padded; only they are read.

    Args:
      side: `SOURCE` or `TARGET`.
      places: [B], of the pairs; `NO_PAIR` is a row of `PAD` alone.
      width: W, no less than the longest of them.

    Returns:
      int32 [B, W].

    Raises:
      UserError: a file was cut off since it was opened.
    """
    for array in (self.pieces, self.starts, self.lengths):
      cached.check_whole(array)
    inside = np.maximum(places, 0)
    lengths = np.asarray(self.lengths[inside])
    starts = np.asarray(self.starts[inside])
    if side == TARGET:
      starts = starts + lengths[:, SOURCE]
    counts = np.where(places == NO_PAIR, 0, lengths[:, side])
    columns = np.arange(width)
    mask = columns < counts[:, None]
    rows = np.full((len(places), width), PAD, np.int32)
    rows[mask] = self.pieces[(starts[:, None] + columns)[mask]]
    return rows


@dataclasses.dataclass(frozen=True, eq=False)
class Pass:
  """The batches of one pass over a split.

  Attributes:
    pairs: of the split.
    order: [P], their places, in the order that they come in; those are also
      the places in `TranslationSource.texts`.
    batch_size: B.
  """

  pairs: EncodedPairs
  order: np.ndarray
  batch_size: int

  def __len__(self) -> int:
    return -(-len(self.order) // self.batch_size)

  def __getitem__(self, k: int) -> Batch:
    if not 0 <= k < len(self):
      raise IndexError(k)
    places = self.order[k * self.batch_size : (k + 1) * self.batch_size]
    width = self._width(int(self.pairs.lengths[places].max()))
    places = np.pad(
      places, (0, self.batch_size - len(places)), constant_values=NO_PAIR
    )
    return {
      'source': self.pairs.rows(SOURCE, places, width),
      'target': self.pairs.rows(TARGET, places, width),
    }

  def _width(self, longest):
    """One of few widths, as each makes a program: 8, 16, ... 64, 80, ..."""
    return round_up(longest, max(8, 2 ** (longest.bit_length() - 3)))


def encode(
  corpus: Corpus, split: str, pieces: WordPieces, max_length: int
) -> EncodedPairs:
  """Encodes a split, or finds what was encoded before.

  Args:
    corpus: of the texts.
    split: of the corpus.
    pieces: the model.
    max_length: see `select`.

  Raises:
    UserError: a file is not as it should be, or no pair is left.
  """
  dtype = np.dtype(np.uint16 if pieces.vocab_size <= 2**16 else np.int32)
  entry = cached.fetch(
    f'pairs-{split}',
    [
      corpus.fingerprint(split),
      hashlib.sha256(pieces.model).hexdigest(),
      max_length if split == TRAIN else None,
      FORMAT,
    ],
    lambda open_file: _write(
      open_file, corpus, split, pieces, max_length, dtype
    ),
  )
  return EncodedPairs(
    entry.array('pieces', dtype),
    entry.array('starts', np.int64),
    entry.array('lengths', np.int32).reshape(-1, 2),
    **entry.report,
  )


def select(
  corpus: Corpus,
  split: str,
  pieces: WordPieces,
  max_length: int,
  left_out: collections.Counter,
) -> Iterator[tuple[Pair, list[int], list[int]]]:
  """Yields the pairs to keep, each with its pieces, with `END`.

  Args:
    corpus: of the texts.
    split: of the corpus.
    pieces: the model.
    max_length: a training pair with more pieces on a side is left out.
    left_out: where those that are not kept are counted, by the reason.
  """
  pairs = _with_two_sides(corpus.pairs(split), left_out)
  while block := list(itertools.islice(pairs, BLOCK)):
    sides = [pieces.encode(texts) for texts in zip(*block, strict=True)]
    for pair, source, target in zip(block, *sides, strict=True):
      source.append(END)
      target.append(END)
      if split == TRAIN and max(len(source), len(target)) > max_length:
        left_out[f'over {max_length} pieces'] += 1
      else:
        yield pair, source, target


def texts(corpus: Corpus, split: str) -> Iterator[str]:
  """Yields all sentences of a split, of both languages, but for empty pairs."""
  for pair in _with_two_sides(corpus.pairs(split), collections.Counter()):
    yield from pair


def _with_two_sides(pairs, left_out):
  for pair in pairs:
    if all(pair):
      yield pair
    else:
      left_out[EMPTY_SIDE] += 1


def _write(open_file, corpus, split, pieces, max_length, dtype):
  """Writes the arrays of `EncodedPairs` block by block; returns the rest."""
  left_out, digest, start = collections.Counter(), hashlib.sha256(), 0
  kept = select(corpus, split, pieces, max_length, left_out)
  kept = iter(track(kept, unit='pair'))
  with (
    open_file('pieces') as flat,
    open_file('starts') as starts,
    open_file('lengths') as lengths,
  ):
    while block := list(itertools.islice(kept, BLOCK)):
      counts = np.array([[len(s), len(t)] for _, s, t in block], np.int32)
      ends = start + np.cumsum(counts.sum(1), dtype=np.int64)
      starts.write(np.array([start, *ends[:-1]], np.int64).tobytes())
      lengths.write(counts.tobytes())
      row = itertools.chain.from_iterable(s + t for _, s, t in block)
      flat.write(np.fromiter(row, dtype).tobytes())
      for (source, target), _, _ in block:
        digest.update(f'{source}\0{target}\0'.encode())
      start = int(ends[-1])
  if not start:
    raise UserError(_nothing_left(split, left_out))
  return {'left_out': dict(left_out), 'sha256': digest.hexdigest()}


def _nothing_left(split, left_out):
  counts = ', '.join(f'{n:,} {why}' for why, n in left_out.items())
  return (
    f'config.data: the {split} split has no pair of sentences to keep (left '
    f'out: {counts or "none"}); give it some, or a larger '
    f'config.data.max_length'
  )
