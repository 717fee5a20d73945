"""enwik8: the first 100,000,000 bytes of a dump of the English Wikipedia.

It is split in order: 90 million bytes to train on, 5 to validate, 5 to test.
The alphabet is that of the whole file, 205 byte values, as the paper's
parameter counts need it (90 % of a text may lack some). Matt Mahoney's
page http://mattmahoney.net/dc/textdata.html describes the file.
"""

import hashlib
import logging
import pathlib
import zipfile
import zlib

from hyperjax.data import made_up, prepared
from hyperjax.data.files import check_size, data_dir, read_bytes
from hyperjax.data.text import (
  ALL_BYTES,
  TextSource,
  alphabet_of,
  split_in_order,
)
from hyperjax.errors import UserError

logger = logging.getLogger(__name__)

SIZE = 100_000_000
SYMBOLS = 205
SHA256 = '2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8'
URL = 'http://mattmahoney.net/dc/enwik8.zip'
ZIP_SIZE = 36_445_475
ZIP_SHA256 = '547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc'


def build(
  *,
  dir: str = '',
  path: str = '',
  batch_size: int,
  sequence_length: int,
  vocab_size: int = SYMBOLS,
) -> TextSource:
  """The source over enwik8, or over a sample of text of its kind.

  Args:
    dir: the folder with `enwik8` or `enwik8.zip`; if empty,
      `$HYPERJAX_DATA_DIR/enwik8` where there is one, and else the prepared
      tfds data set, which is downloaded if need be.
    path: a file to read in place of enwik8, split in the same proportions. It
      may have fewer than `vocab_size` symbols.
    batch_size: streams in a training batch.
    sequence_length: predictions in a window.
    vocab_size: number of symbols; that of enwik8 is 205.

  Raises:
    UserError: the file is missing or not as it should be, can not be
      downloaded, or both `dir` and `path` are given.
  """
  if path:
    if dir:
      raise UserError(
        f'config.data.dir is {dir} and config.data.path is {path}; give one'
      )
    texts = split_in_order(_read_sample(path))
    name = f'sample of MediaWiki text, not enwik8: {pathlib.Path(path).name}'
  else:
    if vocab_size != SYMBOLS:
      raise UserError(
        f'config.data.vocab_size is {vocab_size}, but enwik8 has {SYMBOLS} '
        f'symbols; give that number'
      )
    folder = data_dir(dir, 'enwik8', ' or '.join(raw_files()))
    texts = read_raw(folder) if folder else read_prepared()
    name = 'a file of the size and alphabet of enwik8 (another checksum)'
  text = b''.join(texts.values())
  sha256 = hashlib.sha256(text).hexdigest()
  if sha256 == SHA256:
    name = 'enwik8'
  logger.info('%s: %s bytes, sha256 %s', name, f'{len(text):,}', sha256)
  return TextSource(
    texts,
    name=name,
    batch_size=batch_size,
    sequence_length=sequence_length,
    vocab_size=vocab_size,
    alphabet=_full_alphabet(text, path, vocab_size),
  )


def stand_in(
  *,
  batch_size: int,
  sequence_length: int,
  vocab_size: int = SYMBOLS,
  dir: str = '',
  path: str = '',
) -> TextSource:
  """The source over made-up text of enwik8's size."""
  del dir, path
  text = made_up.texts({'all': SIZE}, vocab_size)['all']
  return TextSource(
    split_in_order(text),
    name='made-up text',
    batch_size=batch_size,
    sequence_length=sequence_length,
    vocab_size=vocab_size,
  )


def raw_files() -> list[str]:
  """The names that the raw file may have."""
  return ['enwik8', 'enwik8.zip']


def downloads() -> dict[str, tuple[str, int, str]]:
  """What to download: the name, size and sha256 of the file at each URL."""
  return {URL: ('enwik8.zip', ZIP_SIZE, ZIP_SHA256)}


def read_raw(folder: pathlib.Path) -> dict[str, bytes]:
  """The text of each split, from `enwik8` or `enwik8.zip`; checked."""
  path = folder / 'enwik8'
  archive = folder / 'enwik8.zip'
  if not path.exists() and archive.exists():
    return read_zip(archive)
  text = read_bytes(path, size=SIZE)
  _check(path, text)
  return split_in_order(text)


def read_zip(path: pathlib.Path) -> dict[str, bytes]:
  """The text of each split, from a zip file with the one member `enwik8`.

  Raises:
    UserError: the zip is broken, or holds anything else.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      names = archive.namelist()
      if names != ['enwik8']:
        raise UserError(
          f'{path}: has {len(names)} files ({", ".join(names[:3])}) where it '
          f'should have one, enwik8; get the file again'
        )
      # What the header says is checked before anything is unpacked.
      check_size(path, archive.getinfo('enwik8').file_size, SIZE)
      text = archive.read('enwik8')
  except (
    OSError,
    EOFError,
    RuntimeError,  # encrypted, or packed by a method that Python lacks
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
  ) as error:
    reason = str(error).replace('\n', ' ')
    raise UserError(
      f'{path}: a broken zip file ({reason}); get the file again'
    ) from error
  _check(path, text)
  return split_in_order(text)


def read_prepared(data_dir: str = '') -> dict[str, bytes]:
  """The text of each split, from the tfds data set; checked.

  Args:
    data_dir: of tfds; see `prepared.root`.
  """
  texts, folder = prepared.read('enwik8', data_dir)
  _check(folder, b''.join(texts.values()), prepared.REMEDY)
  return texts


def _check(origin, text, remedy='get the file again'):
  check_size(origin, len(text), SIZE, remedy)
  found = len(alphabet_of(text))
  if found != SYMBOLS:
    raise UserError(
      f'{origin}: of the right size, but it has {found} symbols where enwik8 '
      f'has {SYMBOLS}; {remedy}'
    )


def _read_sample(path):
  try:
    return read_bytes(pathlib.Path(path).expanduser())
  except (RuntimeError, ValueError) as error:  # no such ~user; a zero byte
    raise UserError(f'config.data.path: {path!r}: {error}') from error


def _full_alphabet(text, path, vocab_size):
  """The text's symbols, then others, so that every place has its byte."""
  used = alphabet_of(text)
  if not len(used) <= vocab_size <= ALL_BYTES:
    raise UserError(
      f'config.data.vocab_size is {vocab_size}, but {path} has {len(used)} '
      f'symbols; give a number from {len(used)} to {ALL_BYTES}'
    )
  unused = bytes(range(ALL_BYTES)).translate(None, delete=used)
  return used + unused[: vocab_size - len(used)]
