"""Pairs of sentences to learn translation from: any corpus, cut into pieces.

The other parallel corpora build the same `TranslationSource`.
"""

import base64
import collections
import logging
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from hyperjax.data import cached, encoded_pairs, word_pieces
from hyperjax.data.encoded_pairs import NO_PAIR, SOURCE, TARGET, Pass
from hyperjax.data.files import find, read_bytes
from hyperjax.data.length_buckets import (
  GROUP,
  Bucket,
  Group,
  Schedule,
  draws,
  make_buckets,
)
from hyperjax.data.parallel_text import (
  TRAIN,
  Corpus,
  Pair,
  TabSeparated,
  find_aligned,
)
from hyperjax.data.word_pieces import WordPieces
from hyperjax.errors import UserError
from hyperjax.types import Batch

logger = logging.getLogger(__name__)


class TranslationSource:
  """Sentences and their translations, in batches of about equal length.

  The pairs may lie on the disk, so batches are made on the host: `window` has
  the arrays of a few steps, of which `batch` takes those of one.

  An epoch has every training pair once. The pairs of a bucket, which are of
  about the same length, are shuffled by (seed, epoch) and cut into batches of
  one shape; up to `GROUP` batches of a bucket follow each other, and which
  bucket comes when is a matter of the epoch alone, so that the batches of
  several seeds have the same shape. Empty places in a bucket's last batch are
  rows of `PAD` alone.

  Args:
    corpus: the texts; the splits are its.
    pieces: the model that cuts them.
    name: of the data set, for `meta`.
    languages: of the source and of the target, for `meta`.
    tokens_per_batch: pieces and padding of a batch on its wider side, about.
    batch_size: the rows of a batch are a multiple of it, and at least as many,
      so that they can be dealt out to devices.
    max_length: training pairs with more pieces on a side, the end's counted,
      are left out; other splits keep theirs.
    num_buckets: at most.

  Raises:
    UserError: a file is not as it should be, a split has no pairs, or an
      option is out of its range.

  Attributes:
    pieces: the model.
    buckets: of the training pairs, with the shape of their batches.
    batches_per_epoch: steps until all pairs have come.
    meta: plain JSON; `pieces_of` has the model back.
  """

  def __init__(
    self,
    corpus: Corpus,
    pieces: WordPieces,
    *,
    name: str,
    languages: tuple[str, str],
    tokens_per_batch: int,
    batch_size: int,
    max_length: int,
    num_buckets: int,
  ):
    check_options(
      tokens_per_batch=tokens_per_batch,
      batch_size=batch_size,
      num_buckets=num_buckets,
    )
    self.pieces = pieces
    self._corpus, self._max_length = corpus, max_length
    self.splits = {
      split: encoded_pairs.encode(corpus, split, pieces, max_length)
      for split in corpus.splits
    }
    self.buckets = make_buckets(
      self.splits[TRAIN].lengths, num_buckets, tokens_per_batch, batch_size
    )
    self._schedule = Schedule(self.buckets)
    self.batches_per_epoch = self._schedule.batches_per_epoch
    self._orders = (-1, {})  # the epoch, and the order by (seed, bucket)
    self.meta = _meta(self.splits, pieces, name, languages)

  def window(
    self, seeds: np.ndarray, step: int
  ) -> tuple[dict[str, np.ndarray], int]:
    """What `batch` makes some training batches of.

    Args:
      seeds: [S], or [] for one.
      step: the first of the batches.

    Returns:
      The arrays, and for how many steps from this one on they serve, at least
      one: first, int32 [], and seeds, uint32 [S], by which `batch` finds its
      place; source, int32 [S, GROUP, B, W_s], and target, int32 [S, GROUP, B,
      W_t]. They have the whole group that the step is in, and empty batches
      where a group has fewer.
    """
    seeds = np.atleast_1d(np.asarray(seeds)).astype(np.uint32)
    group = self._schedule.group(step)
    bucket = self.buckets[group.bucket]
    places = np.stack([self._places(seed, group, bucket) for seed in seeds])
    arrays = {'first': np.array(group.first, np.int32), 'seeds': seeds}
    for side, key in ((SOURCE, 'source'), (TARGET, 'target')):
      rows = self.splits[TRAIN].rows(side, places.ravel(), bucket.widths[side])
      arrays[key] = rows.reshape(len(seeds), GROUP, bucket.rows, -1)
    return arrays, group.first + group.size - int(step)

  def batch(
    self, arrays: Mapping[str, Array], seed: Array, step: Array
  ) -> Batch:
    """Training batch `step`; jittable.

    Args:
      arrays: of `window`, for this seed and this step.
      seed: of the run.
      step: number of the batch.

    Returns:
      source, int32 [B, W_s], and target, int32 [B, W_t], each sentence with
      `END` and then `PAD`.
    """
    place = jnp.argmax(arrays['seeds'] == jnp.asarray(seed).astype(jnp.uint32))
    k = step - arrays['first']
    return {key: arrays[key][place, k] for key in ('source', 'target')}

  def eval(self, split: str, batch_size: int) -> Pass:
    """One pass over a split, each pair once and whole, from the shortest.

    Args:
      split: of the source.
      batch_size: rows of a batch, B.

    Returns:
      A sequence of batches like those of `batch`, in NumPy.
    """
    self._check_split(split)
    pairs = self.splits[split]
    order = np.argsort(np.max(pairs.lengths, axis=1), kind='stable')
    return Pass(pairs, order, batch_size)

  def eval_protocol(self, batch_size: int) -> str:
    """What `eval` does, in words."""
    del batch_size  # it changes nothing in the result
    return 'every sentence once, teacher-forced'

  def texts(self, split: str) -> list[Pair]:
    """The pairs of a split as they are written, in the order of the files."""
    self._check_split(split)
    kept = encoded_pairs.select(
      self._corpus, split, self.pieces, self._max_length, collections.Counter()
    )
    return [pair for pair, _, _ in kept]

  def _places(self, seed, group: Group, bucket: Bucket):
    """The pairs of a group, [GROUP * B]."""
    epoch, orders = self._orders
    if epoch != group.epoch:
      _, orders = self._orders = group.epoch, {}
    key = int(seed), group.bucket
    if key not in orders:
      generator = draws(seed, group.epoch, 'pairs', group.bucket)
      orders[key] = generator.permutation(bucket.members)
    size = GROUP * bucket.rows
    found = orders[key][group.index * size : (group.index + 1) * size]
    return np.pad(found, (0, size - len(found)), constant_values=NO_PAIR)

  def _check_split(self, split):
    if split not in self.splits:
      raise UserError(
        f"config.eval.split: no split '{split}'; known: "
        f'{", ".join(self.splits)}'
      )


def build(
  *,
  path: str = '',
  dir: str = '',
  source_language: str = 'en',
  target_language: str = 'fr',
  tokens_per_batch: int,
  batch_size: int,
  vocab_size: int,
  max_length: int = 100,
  num_buckets: int = 6,
  pieces: str = '',
) -> TranslationSource:
  """A parallel corpus of the user's.

  A folder has files such as train.en, train.fr, valid.en.gz and so on, see
  `parallel_text.find_aligned`. A file has a sentence, a tab and its
  translation in each line, and is split 90/5/5 so that a sentence with several
  translations is in one split.

  Args:
    path: a folder or a file; a relative one is looked for under
      `$HYPERJAX_DATA_DIR`, too.
    dir: a folder, in place of `path`.
    source_language: what the names of its files end with.
    target_language: of the translations.
    tokens_per_batch: see `TranslationSource`.
    batch_size: see `TranslationSource`.
    vocab_size: pieces of both languages together.
    max_length: see `TranslationSource`.
    num_buckets: see `TranslationSource`.
    pieces: the file of a sentencepiece model; empty trains one on the training
      pairs.

  Raises:
    UserError: a file is missing or not as it should be.
  """
  if bool(path) == bool(dir):
    raise UserError(
      'config.data.path: give either a folder with train.en, train.fr and so '
      'on or a tab-separated file by it, or a folder by config.data.dir'
    )
  field = 'config.data.path' if path else 'config.data.dir'
  found = find(field, path or dir)
  languages = source_language, target_language
  if found.is_dir():
    corpus = find_aligned(field, found, *languages)
  else:
    corpus = TabSeparated(found)
  return make_source(
    corpus,
    name=path or dir,
    languages=languages,
    tokens_per_batch=tokens_per_batch,
    batch_size=batch_size,
    vocab_size=vocab_size,
    max_length=max_length,
    num_buckets=num_buckets,
    pieces=pieces,
  )


def make_source(
  corpus: Corpus,
  *,
  vocab_size: int,
  max_length: int,
  pieces: str = '',
  **options: Any,
) -> TranslationSource:
  """The source, with its pieces; it says what it has and what it left out."""
  check_options(vocab_size=vocab_size, max_length=max_length)
  model = make_pieces(corpus, vocab_size, pieces)
  source = TranslationSource(corpus, model, max_length=max_length, **options)
  meta = source.meta
  for split in source.splits:
    left_out = ', '.join(
      f'{count:,} {why}' for why, count in meta['left_out'][split].items()
    )
    logger.info(
      '%s: %s, %s pairs, left out: %s; sha256 %s',
      meta['name'],
      split,
      f'{meta["sizes"][split]:,}',
      left_out or 'none',
      meta['sha256'][split],
    )
  return source


def make_pieces(corpus: Corpus, vocab_size: int, file: str = '') -> WordPieces:
  """The model of a file, or one of the training pairs' texts alone.

  Raises:
    UserError: it has, or can have, not that many pieces.
  """
  if file:
    path = find('config.data.pieces', file)
    pieces = WordPieces(read_bytes(path), f'{path}')
    if pieces.vocab_size != vocab_size:
      raise UserError(
        f'config.data.vocab_size is {vocab_size:,}, but {path} has '
        f'{pieces.vocab_size:,} pieces; give that number'
      )
    return pieces

  def write(open_file):
    logger.info('training %s pieces of words', f'{vocab_size:,}')
    texts = encoded_pairs.texts(corpus, TRAIN)
    with open_file('model') as model:
      model.write(word_pieces.train(texts, vocab_size).model)
    return {}

  depends_on = [corpus.fingerprint(TRAIN), vocab_size, word_pieces.VERSION]
  return WordPieces(cached.fetch('pieces', depends_on, write).read('model'))


def pieces_of(meta: Mapping[str, Any]) -> WordPieces:
  """The model of a source, from its `meta`."""
  return WordPieces(base64.b64decode(meta['pieces']))


def check_options(**options: int) -> None:
  """Raises `UserError` at an option that is below 1."""
  for name, value in options.items():
    if value < 1:
      raise UserError(f'config.data.{name} is {value}; it must be at least 1')


def _meta(splits, pieces, name, languages):
  return {
    'name': name,
    'languages': list(languages),
    'sizes': {split: len(pairs) for split, pairs in splits.items()},
    'left_out': {split: pairs.left_out for split, pairs in splits.items()},
    'sha256': {split: pairs.sha256 for split, pairs in splits.items()},
    'tokens': {
      split: int(pairs.lengths[:, TARGET].sum(dtype=np.int64))
      for split, pairs in splits.items()
    },
    'vocab_size': pieces.vocab_size,
    'pieces': base64.b64encode(pieces.model).decode(),
  }
