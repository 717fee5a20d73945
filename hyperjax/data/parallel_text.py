"""Pairs of sentences in two languages, read one after the other from files.

Nothing here holds more of a corpus than a line of each language. A file is
UTF-8, plain or (`.gz`) compressed; a byte order mark and white space around a
sentence are taken away, and only a line feed ends a line, so that both sides
of a corpus agree about what a line is.
"""

import dataclasses
import gzip
import hashlib
import itertools
import pathlib
import re
import unicodedata
import zlib
from collections.abc import Iterator
from typing import Protocol

from hyperjax.errors import UserError

Pair = tuple[str, str]  # a sentence and its translation

TRAIN, VALID = 'train', 'valid'
WORDS = {
  TRAIN: {'train', 'training'},
  VALID: {'valid', 'validation', 'val', 'dev'},
}
TESTS = ('test', 'newstest')  # what the name of a test set begins with
BYTE_ORDER_MARK = '\ufeff'
CHUNK = 2**20  # bytes
LONGEST = 2**20  # bytes of a line; a compressed file may hold an endless one


class Corpus(Protocol):
  """Pairs of sentences, by split; those of 'train' are one.

  Pairs may have empty sides: who reads them leaves those out.
  """

  splits: tuple[str, ...]

  def pairs(self, split: str) -> Iterator[Pair]:
    """The pairs of a split, in the order of the files."""

  def fingerprint(self, split: str) -> str:
    """A hash that is another one if the pairs of a split are others."""


@dataclasses.dataclass(frozen=True)
class AlignedFiles:
  """A corpus of two files for each split: line k of both is a pair.

  Attributes:
    files: the file of the source and that of the target, by split.
  """

  files: dict[str, tuple[pathlib.Path, pathlib.Path]]

  @property
  def splits(self) -> tuple[str, ...]:
    """Their names."""
    return tuple(self.files)

  def pairs(self, split: str) -> Iterator[Pair]:
    """The pairs of a split; see `aligned`."""
    return aligned(*self.files[split])

  def fingerprint(self, split: str) -> str:
    """A hash of both files, as they lie there."""
    return ' '.join(file_hash(path) for path in self.files[split])


@dataclasses.dataclass(frozen=True)
class TabSeparated:
  """A corpus of one file that has no splits; it is split 90/5/5.

  A pair goes where the hash of its source sends it (`split_of`), so that the
  translations of one sentence, or of nearly the same, are in one split.

  Attributes:
    file: a line is a sentence, a tab, its translation, and what may follow
      another tab.
    splits: their names.
  """

  file: pathlib.Path
  splits: tuple[str, ...] = (TRAIN, VALID, 'test')

  def pairs(self, split: str) -> Iterator[Pair]:
    """The pairs of a split; see `tab_separated`."""
    for pair in tab_separated(self.file):
      if split_of(pair[0]) == split:
        yield pair

  def fingerprint(self, split: str) -> str:
    """A hash of the file and the split's name."""
    return f'{file_hash(self.file)} {split}'


def lines(path: pathlib.Path) -> Iterator[str]:
  """Yields the lines of a file, without white space around them.

  Raises:
    UserError: see `raw_lines`; or a line is not UTF-8, or has a zero byte, as
      files have that are no text. It names the line.
  """
  for line in _texts(path):
    yield line.strip()


def _texts(path):
  """The lines of a file, with the white space."""
  for number, line in enumerate(raw_lines(path), 1):
    try:
      text = line.decode()
    except UnicodeDecodeError as error:
      raise UserError(
        f'{path}: line {number:,} is not UTF-8 ({error.reason} at byte '
        f'{error.start:,} of the line); convert the file to UTF-8'
      ) from error
    if '\0' in text:
      raise UserError(
        f'{path}: line {number:,} has a zero byte; give a text file'
      )
    if number == 1:
      text = text.removeprefix(BYTE_ORDER_MARK)
    yield text


def raw_lines(path: pathlib.Path) -> Iterator[bytes]:
  """Yields the lines of a file, decompressed, each with its line feed.

  Raises:
    UserError: the file is missing, empty or damaged, or a line is too long.
  """
  number = 0
  try:
    with gzip.open(path) if path.suffix == '.gz' else path.open('rb') as file:
      while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
          raise UserError(
            f'{path}: line {number:,} has more than {LONGEST:,} bytes; give a '
            f'file with a sentence a line'
          )
        yield line
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise UserError(
      f'{path}: the compressed file is cut off or damaged after line '
      f'{number:,}; get it again'
    ) from error
  except OSError as error:
    raise UserError(f'{path}: {error.strerror or error}') from error
  if not number:
    raise UserError(f'{path}: the file is empty')


def aligned(source: pathlib.Path, target: pathlib.Path) -> Iterator[Pair]:
  """Yields line k of one file with line k of the other.

  Raises:
    UserError: see `lines`; or one file has more lines than the other, which
      is known only at the end.
  """
  counts = [0, 0]
  for pair in itertools.zip_longest(lines(source), lines(target)):
    for side, line in enumerate(pair):
      counts[side] += line is not None
    if counts[0] == counts[1]:
      yield pair
  if counts[0] != counts[1]:
    raise UserError(
      f'{source} has {counts[0]:,} lines and {target} has {counts[1]:,}; line '
      f'k of one must be the translation of line k of the other'
    )


def tab_separated(path: pathlib.Path) -> Iterator[Pair]:
  """Yields the first two columns of a file; further ones are ignored.

  Lines of white space alone are passed over.

  Raises:
    UserError: see `lines`; or a line has no tab.
  """
  for number, line in enumerate(_texts(path), 1):
    if line.isspace():
      continue
    source, tab, rest = line.partition('\t')
    if not tab:
      raise UserError(
        f'{path}: line {number:,} has no tab; a line must be a sentence, a '
        f'tab and its translation'
      )
    yield source.strip(), rest.partition('\t')[0].strip()


def split_of(sentence: str) -> str:
  """The split where a sentence goes: 'train', 'valid' or 'test', 90/5/5.

  Sentences that differ only in capitals, punctuation or white space go to the
  same one.
  """
  text = unicodedata.normalize('NFKC', sentence).casefold()
  key = ' '.join(re.sub(r'[^\w\s]|_', '', text).split())
  place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % 20
  return {0: 'test', 1: VALID}.get(place, TRAIN)


def file_hash(path: pathlib.Path) -> str:
  """The sha256 of a file's bytes, in hexadecimal."""
  digest = hashlib.sha256()
  try:
    with path.open('rb') as file:
      while chunk := file.read(CHUNK):
        digest.update(chunk)
  except OSError as error:
    raise UserError(f'{path}: {error.strerror or error}') from error
  return digest.hexdigest()


def find_aligned(
  field: str, folder: pathlib.Path, source: str, target: str
) -> AlignedFiles:
  """The files of a folder, by the words in their names.

  A name is a stem, the language and, if it is compressed, `.gz`. The stem has
  the word train or training; or valid, validation, val or dev; or it begins
  with test or newstest and is a split of that name. Other files are ignored.

  Args:
    field: of the config, which names the folder.
    folder: to look in, not below.
    source: the language of the source, such as 'en'.
    target: the language of the target.

  Raises:
    UserError: a split's files are missing or ambiguous.
  """
  sides = [_stems(field, folder, language) for language in (source, target)]
  files = {}
  for split in (
    TRAIN,
    VALID,
    *sorted(filter(_is_test, {*sides[0], *sides[1]})),
  ):
    stems = [
      {stem for stem in side if _split_named(stem) == split} for side in sides
    ]
    both = stems[0] | stems[1]
    if len(both) != 1 or stems[0] != stems[1]:
      raise UserError(
        f'{field}: {folder} has {_listed(stems[0], source)} and '
        f'{_listed(stems[1], target)} for the {split} split; give one file for '
        f'each language, such as {split}.{source} and {split}.{target}'
      )
    [stem] = both
    files[split] = sides[0][stem], sides[1][stem]
  return AlignedFiles(files)


def _stems(field, folder, language):
  """The files of a language in a folder, by stem."""
  found = {}
  try:
    paths = sorted(folder.iterdir())
  except OSError as error:
    raise UserError(f'{field}: {folder}: {error.strerror}') from error
  for path in paths:
    name = path.name.removesuffix('.gz')
    stem = name.removesuffix(f'.{language}')
    if stem == name or not path.is_file():
      continue
    if stem in found:
      raise UserError(
        f'{field}: {folder} has both {found[stem].name} and {path.name}; take '
        f'one away'
      )
    found[stem] = path
  return found


def _is_test(stem):
  return stem.startswith(TESTS)


def _split_named(stem):
  """The split of a stem; None if its name says none."""
  if _is_test(stem):
    return stem
  words = set(re.split('[^a-z]+', stem.lower()))
  return next((split for split in WORDS if WORDS[split] & words), None)


def _listed(stems, language):
  return ', '.join(f'{stem}.{language}' for stem in sorted(stems)) or (
    f'no .{language} file'
  )
