"""Multi30k, English captions of photos and their French translations.

The text files of the translation task, as its publisher has them: 29,000
training pairs and four test sets.
"""

import hashlib
import pathlib

from hyperjax.data import made_up, parallel_text, translation
from hyperjax.data.files import data_dir
from hyperjax.data.parallel_text import AlignedFiles
from hyperjax.errors import UserError

LANGUAGES = 'en', 'fr'
URL = 'https://github.com/multi30k/dataset, data/task1/raw'
SIZES = {
  'train': 29_000,
  'valid': 1_014,
  'test_2016_flickr': 1_000,
  'test_2017_flickr': 1_000,
  'test_2017_mscoco': 461,
  'test_2018_flickr': 1_071,
}
STEMS = {'valid': 'val'}  # of the files, where it is not the split's name
SHA256 = {  # of the decompressed files
  'train.en': (
    '460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6'
  ),
  'train.fr': (
    '5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d'
  ),
  'val.en': (
    '1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227'
  ),
  'val.fr': (
    '5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc'
  ),
  'test_2016_flickr.en': (
    '399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182'
  ),
  'test_2016_flickr.fr': (
    'cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6'
  ),
  'test_2017_flickr.en': (
    'ce1450ddc5ab0834502579d77a170849952e15a2938b34cc503bdc25ebb4fb98'
  ),
  'test_2017_flickr.fr': (
    '6f3764e31dac41e9455e612958bcfd4e877c5e15cd66df2c2b2be6d9bd83e5b6'
  ),
  'test_2017_mscoco.en': (
    '43051fdfa86fd5395182e718a94ca67b1b227b9f7c79596ff0f6b813216981d2'
  ),
  'test_2017_mscoco.fr': (
    '39cde3f43f32b0a6bf29ce4917a46329ff32e53070c2fac87506695a740ae0a0'
  ),
  'test_2018_flickr.en': (
    '4e585c2dd525911a6ea7730e9d0b516239af3f1b1ffae6a2130223cfb639f25e'
  ),
  'test_2018_flickr.fr': (
    '234b4a887da0da4801a3e2c6f21336231ff7dd46daeb80cfa1b551c8bbb78239'
  ),
}


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
  """The source over Multi30k, English to French.

  Args:
    dir: the folder with `train.en.gz` and so on, compressed or not; if empty,
      `$HYPERJAX_DATA_DIR/multi30k`.
    tokens_per_batch: see `translation.build`; so are the others.
    batch_size: rows of a batch are a multiple of it.
    vocab_size: pieces of both languages together.
    max_length: of training pairs.
    num_buckets: at most.
    pieces: the file of a sentencepiece model.

  Raises:
    UserError: a file is missing, damaged or altered.
  """
  folder = data_dir(dir, 'multi30k', 'train.en.gz, train.fr.gz and so on')
  if folder is None:
    raise UserError(
      f'config.data.dir is empty, and there is no multi30k in '
      f'$HYPERJAX_DATA_DIR; Multi30k can be had from {URL}: give the folder '
      f'with its files by config.data.dir'
    )
  return translation.make_source(
    find_files(folder),
    name='Multi30k',
    languages=LANGUAGES,
    tokens_per_batch=tokens_per_batch,
    batch_size=batch_size,
    vocab_size=vocab_size,
    max_length=max_length,
    num_buckets=num_buckets,
    pieces=pieces,
  )


stand_in = made_up.Pairs


def find_files(folder: pathlib.Path) -> AlignedFiles:
  """The files of all splits; checked.

  Raises:
    UserError: see `build`.
  """
  files = {
    split: tuple(
      _find(folder, f'{STEMS.get(split, split)}.{language}')
      for language in LANGUAGES
    )
    for split in SIZES
  }
  for split, size in SIZES.items():
    for language, path in zip(LANGUAGES, files[split], strict=True):
      _check(path, size, SHA256.get(f'{STEMS.get(split, split)}.{language}'))
  return AlignedFiles(files)


def _find(folder, name):
  for path in (folder / f'{name}.gz', folder / name):
    if path.is_file():
      return path
  raise UserError(
    f'{folder / name}[.gz]: No such file; Multi30k can be had from {URL}'
  )


def _check(path, size, sha256):
  """Raises `UserError` unless a file has so many lines, and that hash."""
  digest, count = hashlib.sha256(), 0
  for line in parallel_text.raw_lines(path):
    digest.update(line)
    count += 1
  if count != size:
    raise UserError(
      f'{path}: {count:,} lines where Multi30k has {size:,}; get the file '
      f'again from {URL}'
    )
  if sha256 and digest.hexdigest() != sha256:
    raise UserError(
      f'{path}: altered: its sha256, decompressed, is '
      f'{digest.hexdigest()[:12]}... and not {sha256[:12]}...; get the file '
      f'again from {URL}'
    )
