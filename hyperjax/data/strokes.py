"""Lines of handwriting: people's own, and the source over any such data set.

The other data sets of handwriting build the same `StrokeSource`.
"""

import dataclasses
import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hyperjax.data import stroke_files
from hyperjax.data.files import find
from hyperjax.data.pen_lines import Line, offsets
from hyperjax.errors import UserError
from hyperjax.ops.random import stream
from hyperjax.types import Batch

logger = logging.getLogger(__name__)

PADDING, UNKNOWN = 0, 1  # symbols; the alphabet's begin behind them
FARTHEST = 1e37  # coordinates below it are a move apart that float32 can hold


class StrokeSource:
  """Whole lines as moves of the pen, in batches of about equal length.

  A line of N points is N - 1 predictions: from nothing to its first move, and
  from each move to the next. Moves are normalized by the mean and the standard
  deviation of the training lines' in x and in y.

  An epoch deals the training lines, sorted by length, into buckets, shuffles
  each, and takes the batches in random order: every line comes once, and a
  batch is padded to the longest line of its bucket. Which bucket comes when is
  the same for all seeds, so that seeds side by side have the same padding.

  Args:
    splits: lines for 'train' and any other split, such as 'valid'.
    name: of the data set, for `meta`.
    batch_size: lines in a training batch, B; the last one may have fewer.
    min_points: lines with fewer points are left out.
    scale_range: training lines are stretched in x and in y by factors drawn
      from 1 - this to 1 + this.
    alphabet: the characters that a model may be told to write; batches then
      have the text, and lines whose text is unknown are left out. Empty for
      none.
    report: what reading the data set counted, for `meta`.

  Raises:
    UserError: a split has no lines, a line has coordinates out of all bounds,
      or an option is out of its range.
  """

  def __init__(
    self,
    splits: Mapping[str, Sequence[Line]],
    *,
    name: str,
    batch_size: int,
    min_points: int = 300,
    scale_range: float = 0.0,
    alphabet: str = '',
    report: Mapping[str, Any] | None = None,
  ):
    check_options(batch_size, min_points, scale_range, alphabet)
    self.batch_size = batch_size
    self.scale_range = scale_range
    self.alphabet = alphabet
    kept, left_out = {}, {}
    for split, lines in splits.items():
      kept[split], left_out[split] = _select(lines, min_points, alphabet)
      _check_lines(name, split, len(lines), kept[split], min_points, alphabet)
    mean, std = moments(kept['train'])
    self._mean, self._std = mean.astype(np.float32), std.astype(np.float32)
    self.splits = {
      split: _Lines.of(lines, {'mean': mean, 'std': std}, alphabet)
      for split, lines in kept.items()
    }
    self.meta = {
      'name': name,
      'sizes': {split: len(lines) for split, lines in kept.items()},
      'points': {
        split: sum(len(line.points) for line in lines)
        for split, lines in kept.items()
      },
      'left_out': left_out,
      'sha256': {split: _sha256(lines) for split, lines in kept.items()},
      'mean': mean.tolist(),
      'std': std.tolist(),
      'alphabet': alphabet,
      'report': dict(report or {}),
    }
    train = self.splits['train']
    self.batches_per_epoch = -(-len(train.lengths) // batch_size)
    # Few enough for little padding, enough for other neighbours each epoch.
    self._batches_per_bucket = max(math.isqrt(self.batches_per_epoch) // 2, 2)
    # Places that the last batch leaves empty are lines of no length.
    empty = self.batches_per_epoch * batch_size - len(train.lengths)
    self._slots = np.pad(np.arange(len(train.lengths)), (0, empty), 'edge')
    self._slot_lengths = np.pad(train.lengths, (0, empty))

  def arrays(self) -> dict[str, Array]:
    """The training lines, as `batch` wants them."""
    train = self.splits['train']
    longest = train.lengths[
      np.minimum(
        (np.arange(self.batches_per_epoch) // self._batches_per_bucket + 1)
        * (self._batches_per_bucket * self.batch_size),
        len(train.lengths),
      )
      - 1
    ]
    return {
      'moves': jnp.asarray(train.moves),
      'starts': jnp.asarray(train.starts[self._slots]),
      'lengths': jnp.asarray(self._slot_lengths),
      'longest': jnp.asarray(longest),
      'texts': jnp.asarray(train.texts[self._slots]),
    }

  def batch(self, arrays: dict[str, Array], seed: Array, step: Array) -> Batch:
    """Training batch `step`.

    Returns:
      inputs and targets, float32 [B, T, 3], where T is the longest line's;
      mask [B, T]; length [], up to which any of the mask may be true, the same
      for all seeds; and text, int32 [B, U], if there is an alphabet.
    """
    epoch, place = jnp.divmod(step, self.batches_per_epoch)
    number = jax.random.permutation(
      jax.random.fold_in(stream(0, 'buckets'), epoch), self.batches_per_epoch
    )[place]
    key = jax.random.fold_in(stream(seed, 'data'), epoch)
    size = self.batches_per_epoch * self.batch_size
    bucket = jnp.arange(size) // (self._batches_per_bucket * self.batch_size)
    order = jnp.argsort(bucket + jax.random.uniform(key, (size,)))
    lines = jax.lax.dynamic_slice(
      order, (number * self.batch_size,), (self.batch_size,)
    )
    factors = jax.random.uniform(
      jax.random.fold_in(stream(seed, 'augmentation'), step),
      (self.batch_size, 1, 2),
      minval=1 - self.scale_range,
      maxval=1 + self.scale_range,
    )
    batch = _cut(
      arrays['moves'],
      arrays['starts'][lines],
      arrays['lengths'][lines],
      self.splits['train'].longest,
      factors if self.scale_range else None,
      self._mean / self._std,
    )
    batch['length'] = arrays['longest'][number]
    if self.alphabet:
      batch['text'] = arrays['texts'][lines].astype(jnp.int32)
    return batch

  def eval(self, split: str, batch_size: int) -> 'Pass':
    """One pass over a split, each line once and as it is, from the shortest.

    Args:
      split: of the source.
      batch_size: lines side by side, S; a small split has fewer.

    Returns:
      A sequence of batches like those of `batch`, in NumPy.
    """
    if split not in self.splits:
      raise UserError(
        f"config.eval.split: no split '{split}'; known: "
        f'{", ".join(self.splits)}'
      )
    lines = self.splits[split]
    return Pass(lines, min(batch_size, len(lines.lengths)), bool(self.alphabet))

  def eval_protocol(self, batch_size: int) -> str:
    """What `eval` does, in words."""
    del batch_size  # it changes nothing in the result
    return 'every line once, whole'


@dataclasses.dataclass(frozen=True, eq=False)
class _Lines:
  """Lines from the shortest to the longest, their moves end to end.

  Attributes:
    moves: float32 [P, 3], for each line a start (no move, the pen up) and then
      its moves; behind the last as many zeros as the longest line needs.
    starts: int32 [N], where each line begins there.
    lengths: int32 [N], predictions in it.
    texts: uint8 [N, U], symbols; those behind a text are `PADDING`.
  """

  moves: np.ndarray
  starts: np.ndarray
  lengths: np.ndarray
  texts: np.ndarray

  @property
  def longest(self) -> int:
    """The most predictions in a line."""
    return int(self.lengths[-1])

  @classmethod
  def of(cls, lines, moments, alphabet) -> '_Lines':
    lines = sorted(lines, key=lambda line: len(line.points))
    lengths = np.array([len(line.points) - 1 for line in lines], np.int32)
    parts = []
    for line in lines:
      parts += [np.float32([[0, 0, 1]]), normalize(line, moments)]
    parts.append(np.zeros((lengths[-1] + 1, 3), np.float32))
    starts = np.cumsum([0, *(lengths[:-1] + 1)]).astype(np.int32)
    texts = [encode(line.text, alphabet) for line in lines]
    width = max(map(len, texts)) if alphabet else 0
    table = np.full((len(lines), width), PADDING, np.uint8)
    for row, text in zip(table, texts, strict=True):
      row[: len(text)] = text[:width]
    return cls(np.concatenate(parts), starts, lengths, table)


@dataclasses.dataclass(frozen=True, eq=False)
class Pass:
  """The batches of one pass over a split.

  Attributes:
    lines: of the split.
    batch_size: S.
    has_text: whether batches have the text.
  """

  lines: _Lines
  batch_size: int
  has_text: bool

  def __len__(self) -> int:
    return -(-len(self.lines.lengths) // self.batch_size)

  def __getitem__(self, k: int) -> Batch:
    if not 0 <= k < len(self):
      raise IndexError(k)
    places = k * self.batch_size + np.arange(self.batch_size)
    inside = np.minimum(places, len(self.lines.lengths) - 1)
    lengths = np.where(places == inside, self.lines.lengths[inside], 0)
    batch = _cut(
      self.lines.moves, self.lines.starts[inside], lengths, self.lines.longest
    )
    batch['length'] = np.int32(lengths.max())
    if self.has_text:
      batch['text'] = self.lines.texts[inside].astype(np.int32)
    return batch


def _cut(moves, starts, lengths, num_steps, factors=None, shift=None):
  """Lines out of the row of all, as inputs, targets and mask.

  Args:
    moves: see `_Lines`.
    starts: [B].
    lengths: [B]; 0 for no line.
    num_steps: T.
    factors: [B, 1, 2], by which moves are stretched, or None.
    shift: [2], mean / std: a normalized zero is at minus this.
  """
  numpy = np if isinstance(moves, np.ndarray) else jnp
  places = numpy.arange(num_steps + 1)
  cut = moves[starts[:, None] + places]
  if factors is not None:
    moved = (places > 0)[:, None]
    stretched = cut[..., :2] * factors + shift * (factors - 1)
    stretched = numpy.where(moved, stretched, cut[..., :2])
    cut = numpy.concatenate([stretched, cut[..., 2:]], axis=-1)
  mask = places[:-1] < lengths[:, None]
  return {
    'inputs': numpy.where(mask[..., None], cut[:, :-1], 0),
    'targets': numpy.where(mask[..., None], cut[:, 1:], 0),
    'mask': mask,
  }


def build(
  *,
  path: str = '',
  batch_size: int,
  min_points: int = 300,
  scale_range: float = 0.0,
  alphabet: str = '',
) -> StrokeSource:
  """Handwriting of the user's, in the JSON format of `data.stroke_files`.

  Args:
    path: of the file; a relative one is looked for under `$HYPERJAX_DATA_DIR`,
      too.
    batch_size: lines in a training batch.
    min_points: see `StrokeSource`.
    scale_range: see `StrokeSource`.
    alphabet: see `StrokeSource`.

  Raises:
    UserError: the file is missing or not as it should be.
  """
  if not path:
    raise UserError(
      'config.data.path is empty; give a JSON file of lines, see '
      'hyperjax/data/stroke_files.py'
    )
  splits = stroke_files.read(find('config.data.path', path))
  if not splits['test']:  # a small file may have none
    del splits['test']
  return make_source(
    splits,
    name=path,
    batch_size=batch_size,
    min_points=min_points,
    scale_range=scale_range,
    alphabet=alphabet,
  )


def make_source(
  splits: Mapping[str, Sequence[Line]], **options: Any
) -> StrokeSource:
  """The source, which says what it has and what it left out."""
  source = StrokeSource(splits, **options)
  meta = source.meta
  for split in splits:
    left_out = ', '.join(
      f'{count:,} {why}' for why, count in meta['left_out'][split].items()
    )
    logger.info(
      '%s: %s, %s lines, %s points, left out: %s; sha256 %s',
      meta['name'],
      split,
      f'{meta["sizes"][split]:,}',
      f'{meta["points"][split]:,}',
      left_out or 'none',
      meta['sha256'][split],
    )
  return source


def num_symbols(alphabet: str) -> int:
  """How many symbols `encode` makes: the characters, and `UNKNOWN`."""
  return 1 + len(alphabet) if alphabet else 0


def encode(text: str, alphabet: str) -> np.ndarray:
  """The symbols of a text, uint8 [U]: places in the alphabet, from 2 on.

  A character that is not in it is `UNKNOWN`, 1.
  """
  symbols = {
    letter: place for place, letter in enumerate(alphabet, UNKNOWN + 1)
  }
  return np.array([symbols.get(c, UNKNOWN) for c in text], np.uint8)


def normalize(line: Line, meta: Mapping[str, Any]) -> np.ndarray:
  """The moves of a line as models see them, float32 [N - 1, 3].

  Args:
    line: of N points.
    meta: of the source: mean and std of its moves.
  """
  moves = offsets(line.points)
  moves[:, :2] = (moves[:, :2] - np.float32(meta['mean'])) / meta['std']
  return moves


def points_of(moves: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
  """The points [N + 1, 3] of normalized moves [N, 3], from the origin on."""
  moved = moves[:, :2] * np.float64(meta['std']) + meta['mean']
  points = np.zeros((len(moves) + 1, 3))
  points[1:, :2] = np.cumsum(moved, axis=0)
  points[1:, 2] = moves[:, 2]
  points[-1, 2] = 1
  return points


def moments(lines: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of the moves in x and y, float64 [2] each.

  Where all moves are the same the deviation is 1.
  """
  moves = np.concatenate([offsets(line.points)[:, :2] for line in lines])
  mean, std = moves.mean(0, dtype=np.float64), moves.std(0, dtype=np.float64)
  return mean, np.where(std > 0, std, 1.0)


def _select(lines, min_points, alphabet):
  """The lines to keep, and how many are left out, by the reason."""
  long = [line for line in lines if len(line.points) >= max(min_points, 2)]
  kept = [line for line in long if line.text or not alphabet]
  left_out = {
    f'under {min_points} points': len(lines) - len(long),
    'without a text': len(long) - len(kept),
  }
  return kept, {why: count for why, count in left_out.items() if count}


def _check_lines(name, split, count, kept, min_points, alphabet):
  if not count:
    raise UserError(f'{name}: the {split} split has no lines; give it some')
  if not kept:
    also, or_else = '', ''
    if alphabet:
      also, or_else = ' and a text', ', or leave config.data.alphabet empty'
    raise UserError(
      f'{name}: none of the {count:,} lines of the {split} split has '
      f'config.data.min_points {min_points}{also}; make it smaller{or_else}'
    )
  for line in kept:
    if not np.abs(line.points[:, :2]).max() < FARTHEST:
      raise UserError(
        f'{name}: {line.name} has a coordinate of {FARTHEST:g} or more; take '
        f'the line away, or choose another unit'
      )


def check_options(
  batch_size: int, min_points: int, scale_range: float, alphabet: str
) -> None:
  """Raises `UserError` at an option of `StrokeSource` that is out of range."""
  if batch_size < 1:
    raise UserError(
      f'config.data.batch_size is {batch_size}; it must be at least 1'
    )
  if min_points < 2:
    raise UserError(
      f'config.data.min_points is {min_points}; it must be at least 2'
    )
  if not 0 <= scale_range < 1:
    raise UserError(
      f'config.data.scale_range is {scale_range}; it must be at least 0 and '
      f'below 1'
    )
  if len(set(alphabet)) < len(alphabet) or len(alphabet) > 254:
    raise UserError(
      f'config.data.alphabet {alphabet!r}: it must have up to 254 characters, '
      f'each once'
    )


def _sha256(lines):
  digest = hashlib.sha256()
  for line in lines:
    head = f'{line.name}\0{line.text}\0{len(line.points)}\0'
    # JSON may hold half of a pair that only together is a character.
    digest.update(head.encode('utf-8', 'surrogatepass'))
    digest.update(line.points.astype('<f4').tobytes())
  return digest.hexdigest()
