"""Which pairs of sentences are batched together, and when each batch comes."""

import bisect
import dataclasses
from typing import NamedTuple

import numpy as np

UNIT = 4  # widths are multiples of it
GROUP = 4  # batches of one bucket that come one after the other


@dataclasses.dataclass(frozen=True, eq=False)
class Bucket:
  """Pairs of about the same length; all its batches have one shape.

  Attributes:
    members: [N], the places of the pairs.
    rows: of a batch, B.
    widths: of a batch's source and target, W_s and W_t.
  """

  members: np.ndarray
  rows: int
  widths: tuple[int, int]

  @property
  def num_batches(self) -> int:
    """Batches of an epoch; the last may have empty rows."""
    return -(-len(self.members) // self.rows)


def make_buckets(
  lengths: np.ndarray, num_buckets: int, tokens_per_batch: int, batch_size: int
) -> list[Bucket]:
  """Deals pairs into buckets of about equal length.

  Args:
    lengths: int [P, 2], of source and target.
    num_buckets: at most.
    tokens_per_batch: rows x width of a batch, of the wider side, at most;
      unless not even `batch_size` rows fit.
    batch_size: what the number of rows is a multiple of.
  """
  longest = np.max(lengths, axis=1)
  # Places of a corpus that fits int32 take half the memory so.
  dtype = np.int32 if len(lengths) < 2**31 else np.int64
  buckets, below = [], 0
  for boundary in boundaries(longest, num_buckets):
    inside = np.flatnonzero((below < longest) & (longest <= boundary))
    widths = tuple(round_up(int(n), UNIT) for n in lengths[inside].max(0))
    fitting = tokens_per_batch // max(widths) // batch_size * batch_size
    buckets.append(
      Bucket(inside.astype(dtype), max(batch_size, fitting), widths)
    )
    below = boundary
  return buckets


def boundaries(longest: np.ndarray, num_buckets: int) -> list[int]:
  """The largest length of each bucket, so that there is the least padding.

  Args:
    longest: [P], the length of each pair's longer side.
    num_buckets: at most.

  Returns:
    Ascending multiples of `UNIT`.
  """
  widths, counts = np.unique(-(-longest // UNIT) * UNIT, return_counts=True)
  below = np.cumsum([0, *counts])  # pairs under each width
  # least[j]: the positions of all pairs under widths[j], in a bucket more each
  # time round; cuts says where the last bucket begins.
  least = np.where(below == 0, 0, np.inf)
  cuts = []
  for _ in range(min(num_buckets, len(widths))):
    cost = least[:-1, None] + widths * (below[1:] - below[:-1, None])
    cost[np.tril_indices(len(widths), -1)] = np.inf
    cuts.append(np.argmin(cost, axis=0))
    least = np.array([np.inf, *np.min(cost, axis=0)])
  found, end = [], len(widths)
  for cut in reversed(cuts):
    found.append(int(widths[end - 1]))
    end = cut[end - 1]
  return found[::-1]


def round_up(number: int, unit: int) -> int:
  """The next multiple of a unit."""
  return -(-number // unit) * unit


class Group(NamedTuple):
  """Batches that come one after the other, of one bucket.

  Attributes:
    epoch: of the batches.
    bucket: its number.
    index: which `GROUP` of the bucket's batches.
    first: the step of the first of them.
    size: how many they are.
  """

  epoch: int
  bucket: int
  index: int
  first: int
  size: int


class Schedule:
  """Which group of batches comes when; the same for all seeds.

  Args:
    buckets: of the pairs.
  """

  def __init__(self, buckets: list[Bucket]):
    groups = [
      (number, index, min(GROUP, bucket.num_batches - index * GROUP))
      for number, bucket in enumerate(buckets)
      for index in range(-(-bucket.num_batches // GROUP))
    ]
    self._groups = np.array(groups, np.int64)
    self.batches_per_epoch = int(self._groups[:, 2].sum())
    self._epoch = (-1, None, None)

  def group(self, step: int) -> Group:
    """The group that a step is in."""
    epoch, place = divmod(int(step), self.batches_per_epoch)
    if (cached := self._epoch)[0] != epoch:
      order = draws(0, epoch, 'groups').permutation(self._groups)
      cached = self._epoch = epoch, order, np.cumsum(order[:, 2])
    _, order, ends = cached
    found = bisect.bisect_right(ends, place)
    bucket, index, size = order[found].tolist()
    first = epoch * self.batches_per_epoch + int(ends[found]) - size
    return Group(epoch, bucket, index, first, size)


def draws(seed: int, epoch: int, use: str, *more: int) -> np.random.Generator:
  """The random numbers of one use in one epoch."""
  name = int.from_bytes(use.encode())
  return np.random.default_rng([int(seed), epoch, *more, name])
