"""WMT'14 English to French: 40 million training pairs, newstest2013 and 2014.

Aligned files of one's own, or tfds' `wmt14_translate/fr-en`. Preparing that
needs TensorFlow, and so does reading it unless it is in array_record. tfds
takes half a second to import, so only functions here do it.
"""

import dataclasses
import importlib.util
import itertools
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from hyperjax.data import made_up, prepared, translation
from hyperjax.data.files import data_dir
from hyperjax.data.parallel_text import (
  Corpus,
  Pair,
  file_hash,
  find_aligned,
)
from hyperjax.errors import UserError

LANGUAGES = 'en', 'fr'
SET = 'wmt14_translate/fr-en'  # of tfds
SPLITS = {'train': 'train', 'valid': 'validation', 'test': 'test'}
BLOCK = 1024  # examples that are read at a time
HOW_TO = (
  "prepare it: pip install -e '.[tensorflow]', then tfds build "
  f'{SET} --file_format=array_record; or give a folder with train.en, '
  'train.fr, valid.en and so on by config.data.dir'
)


def build(
  *,
  dir: str = '',
  tokens_per_batch: int,
  batch_size: int,
  vocab_size: int,
  max_length: int = 100,
  num_buckets: int = 6,
  pieces: str = '',
) -> translation.TranslationSource:
  """The source over WMT'14, English to French.

  Args:
    dir: a folder with train.en, train.fr, valid.en and so on, or one where
      tfds keeps data; if empty, `$HYPERJAX_DATA_DIR/wmt14` where there is one,
      and else what `$TFDS_DATA_DIR` or tfds' default folder has.
    tokens_per_batch: see `translation.build`; so are the others.
    batch_size: rows of a batch are a multiple of it.
    vocab_size: pieces of both languages together.
    max_length: of training pairs.
    num_buckets: at most.
    pieces: the file of a sentencepiece model.

  Raises:
    UserError: neither is there, or what is there can not be read.
  """
  return translation.make_source(
    find_corpus(dir),
    name="WMT'14 English-French",
    languages=LANGUAGES,
    tokens_per_batch=tokens_per_batch,
    batch_size=batch_size,
    vocab_size=vocab_size,
    max_length=max_length,
    num_buckets=num_buckets,
    pieces=pieces,
  )


stand_in = made_up.Pairs


def find_corpus(dir: str = '') -> Corpus:
  """Aligned files or the prepared set; see `build`."""
  folder = data_dir(dir, 'wmt14', 'train.en, train.fr and so on')
  if folder and _has_text(folder):
    return find_aligned('config.data.dir', folder, *LANGUAGES)
  root = prepared.root(dir)
  versions = sorted(
    root.joinpath(SET).glob('*/dataset_info.json'), key=_version
  )
  if not versions:
    # tfds can download and prepare it only where there is TensorFlow, and
    # that takes hours: nothing to begin within a run.
    raise UserError(f'{root}: has no {SET}; {HOW_TO}')
  return PreparedPairs(versions[-1].parent)


@dataclasses.dataclass(frozen=True)
class PreparedPairs:
  """The corpus in a folder that tfds prepared.

  Attributes:
    folder: of one version.
    splits: their names, as ours.
  """

  folder: pathlib.Path
  splits: tuple[str, ...] = tuple(SPLITS)

  def pairs(self, split: str) -> Iterator[Pair]:
    """The pairs of a split, in the order of the records."""
    try:
      for example in _examples(self._open(), SPLITS[split]):
        yield tuple(_text(example[language]) for language in LANGUAGES)
    except UserError:
      raise
    except Exception as error:  # whatever tfds and array_record raise
      raise self._unreadable(error) from error

  def fingerprint(self, split: str) -> str:
    """A hash of the split's files."""
    builder = self._open()
    try:
      paths = builder.info.splits[SPLITS[split]].filepaths
    except Exception as error:  # whatever tfds raises
      raise self._unreadable(error) from error
    return ' '.join(file_hash(pathlib.Path(os.fspath(path))) for path in paths)

  def _open(self) -> Any:
    import tensorflow_datasets as tfds

    try:
      return tfds.builder_from_directory(self.folder)
    except Exception as error:  # it reads dataset_info.json, and may stumble
      raise self._unreadable(error) from error

  def _unreadable(self, error):
    reason = f'{type(error).__name__}: {error}'.split('\n')[0]
    return UserError(
      f'{self.folder}: can not be read ({reason}); delete this folder and '
      f'{HOW_TO}'
    )


def _examples(builder, split):
  """Yields the examples of a split."""
  form = builder.info.file_format.value
  if form == 'array_record':
    source = builder.as_data_source(split=split)
    places = iter(range(len(source)))
    while block := list(itertools.islice(places, BLOCK)):
      yield from source.__getitems__(block)
    return
  if importlib.util.find_spec('tensorflow') is None:
    raise UserError(
      f'{builder.data_dir}: is in the format {form}, which only TensorFlow '
      f"reads; pip install -e '.[tensorflow]', or have it in array_record: "
      f'{HOW_TO}'
    )
  import tensorflow_datasets as tfds

  yield from tfds.as_numpy(builder.as_dataset(split=split))


def _text(content):
  text = content.decode() if isinstance(content, bytes) else str(content)
  return text.strip()


def _has_text(folder):
  return any(
    re.search(r'\.(en|fr)(\.gz)?$', path.name) for path in folder.iterdir()
  )


def _version(path):
  return [int(n) for n in re.findall(r'\d+', path.parent.name)]
