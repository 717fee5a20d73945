"""Text as symbols, one a byte: any file or folder, cut into streams."""

import dataclasses
import hashlib
import logging
import os
import pathlib
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hyperjax.data import stdlib
from hyperjax.data.files import read_bytes
from hyperjax.errors import UserError
from hyperjax.ops.random import stream
from hyperjax.types import Batch

logger = logging.getLogger(__name__)

SPLITS = ('train', 'valid', 'test')
WARM_UP = 500  # symbols that an evaluation stream reads before it counts
ALL_BYTES = 256  # this vocabulary size makes every byte value a symbol


class TextSource:
  """Contiguous streams of symbols, with the carry running on (`fresh`).

  An epoch lays `batch_size` streams end to end over the training text, from
  an offset drawn from (seed, epoch), and cuts each into windows. So symbol
  n + 1 of a stream is always predicted from all symbols up to n.

  Args:
    texts: the bytes of each split.
    name: of the data set, for `meta`.
    batch_size: streams in a training batch, B.
    sequence_length: predictions in a window, T.
    vocab_size: 256 makes every byte a symbol; any other number must be that
      of the distinct bytes in the training text, which become the alphabet.
    alphabet: the symbols in their order, all `vocab_size` of them, if they are
      known by other means than the training text.

  Raises:
    UserError: a split is too short, or the alphabet is not as asserted.
  """

  def __init__(
    self,
    texts: dict[str, bytes],
    *,
    name: str,
    batch_size: int,
    sequence_length: int,
    vocab_size: int,
    alphabet: bytes | None = None,
  ):
    if alphabet is None:
      alphabet = (
        bytes(range(ALL_BYTES))
        if vocab_size == ALL_BYTES
        else _training_alphabet(texts, name, vocab_size)
      )
    self.batch_size = batch_size
    self.sequence_length = sequence_length
    self.symbols = {
      split: encode(text, alphabet) for split, text in texts.items()
    }
    self.meta = {
      'name': name,
      'alphabet': list(alphabet),
      'sizes': {split: len(text) for split, text in texts.items()},
      'sha256': {
        split: hashlib.sha256(text).hexdigest() for split, text in texts.items()
      },
    }
    for split, text in texts.items():
      if len(text) < 2:
        raise UserError(
          f'{name}: the {split} text has {len(text)} symbols; a prediction '
          f'needs 2'
        )
    predictions = len(self.symbols['train']) - 1
    window = batch_size * sequence_length
    if predictions < window:
      raise UserError(
        f'{name}: the training text has {predictions + 1:,} symbols, but '
        f'config.data.batch_size {batch_size} x config.data.sequence_length '
        f'{sequence_length} needs {window + 1:,}; make these smaller or the '
        f'text longer'
      )
    # A window is given up, where there are several, so that epochs can start
    # at least `sequence_length` symbols apart.
    spare = sequence_length if predictions >= 2 * window else 0
    self.windows_per_epoch = (predictions - spare) // window
    self.num_offsets = predictions - self.windows_per_epoch * window + 1

  def arrays(self) -> Array:
    """The training text as symbols, uint8 [N]."""
    return jnp.asarray(self.symbols['train'])

  def batch(self, arrays: Array, seed: Array, step: Array) -> Batch:
    """Training batch `step`: inputs and targets [B, T], fresh [B]."""
    epoch, window = jnp.divmod(step, self.windows_per_epoch)
    key = jax.random.fold_in(stream(seed, 'data'), epoch)
    offset = jax.random.randint(key, (), 0, self.num_offsets)
    stream_length = self.windows_per_epoch * self.sequence_length
    starts = (
      offset
      + jnp.arange(self.batch_size) * stream_length
      + window * self.sequence_length
    )
    size = self.sequence_length + 1
    symbols = jax.vmap(
      lambda start: jax.lax.dynamic_slice(arrays, (start,), (size,))
    )(starts).astype(jnp.int32)
    fresh = jnp.full(self.batch_size, window == 0)
    return {
      'inputs': symbols[:, :-1],
      'targets': symbols[:, 1:],
      'fresh': fresh,
    }

  def eval(self, split: str, batch_size: int) -> 'Pass':
    """One pass over a split: N symbols give exactly N - 1 predictions.

    With one stream it is one contiguous pass from a cold start. With more,
    each covers its share of the text, and all but the first are warmed up on
    the (at least) 500 symbols before it, which the mask leaves out.

    Args:
      split: 'train', 'valid' or 'test'.
      batch_size: number of streams, S; a short text has fewer.

    Returns:
      A sequence of batches: inputs, targets and mask [S, T], fresh [S].
    """
    if split not in self.symbols:
      raise UserError(
        f"config.eval.split: no split '{split}'; known: {', '.join(SPLITS)}"
      )
    symbols = self.symbols[split]
    windows = -(-(len(symbols) - 1) // self.sequence_length)
    return Pass(symbols, min(batch_size, windows), self.sequence_length)

  def eval_protocol(self, batch_size: int) -> str:
    """What `eval` does with that many streams, in words."""
    streams = self.eval('test', batch_size).num_streams
    if streams == 1:
      return 'one contiguous pass'
    return f'{streams} streams, each warmed up on the text before it'


@dataclasses.dataclass(frozen=True)
class Pass:
  """The windows of parallel streams that cover a text once.

  Attributes:
    symbols: [N].
    num_streams: S.
    length: of a window, T.
  """

  symbols: np.ndarray
  num_streams: int
  length: int

  @property
  def share(self) -> int:
    """Windows that count in each stream."""
    return -(-(len(self.symbols) - 1) // (self.num_streams * self.length))

  @property
  def warm_up(self) -> int:
    """Windows that each stream reads before those."""
    return -(-WARM_UP // self.length) if self.num_streams > 1 else 0

  def __len__(self) -> int:
    return self.warm_up + self.share

  def __getitem__(self, k: int) -> Batch:
    if not 0 <= k < len(self):
      raise IndexError(k)
    predictions = len(self.symbols) - 1
    streams = np.arange(self.num_streams)[:, None]
    start = (streams * self.share + k - self.warm_up) * self.length
    places = start + np.arange(self.length)
    inside = np.clip(places, 0, predictions - 1)
    return {
      'inputs': self.symbols[inside].astype(np.int32),
      'targets': self.symbols[inside + 1].astype(np.int32),
      'mask': (places < predictions) & (k >= self.warm_up),
      # Streams near the start reach it, or pass it, while others warm up.
      'fresh': ((k == 0) | (start == 0))[:, 0],
    }


def build(
  *, path: str = '', batch_size: int, sequence_length: int, vocab_size: int
) -> TextSource:
  """Text of the user's, or by default the Python standard library's source.

  A file is split 90/5/5 in order. A folder of three files (beside README and
  LICENSE) that have the words 'train', 'valid' (or 'val', 'dev') and 'test' in
  their names, such as ptb.train.txt, is split so. In any other folder the
  files, those in subfolders too, are put in the order of a hash of their names
  and split 90/5/5, so that each split is spread over the whole folder; hidden
  files and files with a zero byte are left out, and the log says how many.

  Args:
    path: a file or folder; empty means the standard library.
    batch_size: streams in a training batch.
    sequence_length: predictions in a window.
    vocab_size: see `TextSource`.
  """
  if path:
    try:
      texts, name = read_texts(pathlib.Path(path).expanduser()), path
    except (OSError, RuntimeError) as error:  # too long a name; no such ~user
      raise UserError(f'config.data.path: {path!r}: {error}') from error
  else:
    files = stdlib.source_files()
    texts = split_in_order(join_files(stdlib.root(), files))
    name = f'Python {stdlib.version()} standard library'
  source = TextSource(
    texts,
    name=name,
    batch_size=batch_size,
    sequence_length=sequence_length,
    vocab_size=vocab_size,
  )
  for split in SPLITS:
    logger.info(
      '%s: %s, %s bytes, sha256 %s',
      name,
      split,
      f'{source.meta["sizes"][split]:,}',
      source.meta['sha256'][split],
    )
  return source


def read_texts(path: pathlib.Path) -> dict[str, bytes]:
  """The splits of a file or folder; see `build`."""
  if path.is_file():
    return split_in_order(read_bytes(path))
  if not path.is_dir():
    raise UserError(f'config.data.path: {path} does not exist')
  files = sorted(
    p
    for p in path.rglob('*')
    if p.is_file()
    and not any(part.startswith('.') for part in p.relative_to(path).parts)
  )
  if named := _named_splits(path, files):
    return {split: read_bytes(file) for split, file in named.items()}
  return split_in_order(join_files(path, files))


def join_files(root: pathlib.Path, files: Sequence[pathlib.Path]) -> bytes:
  """The text files' bytes, in the order of a hash of their names."""
  files = sorted(
    files,
    key=lambda file: hashlib.sha256(
      os.fsencode(file.relative_to(root).as_posix())
    ).digest(),
  )
  contents = [read_bytes(file, may_be_empty=True) for file in files]
  texts = [content for content in contents if b'\0' not in content]
  if not any(texts):
    raise UserError(f'{root}: no text in this folder')
  logger.info(
    '%s: %d files read, %d left out (not text)',
    root,
    len(texts),
    len(contents) - len(texts),
  )
  return b''.join(texts)


def split_in_order(text: bytes) -> dict[str, bytes]:
  """The first 90 % to train on, then 5 % to validate and 5 % to test."""
  first, second = len(text) * 90 // 100, len(text) * 95 // 100
  return {
    'train': text[:first],
    'valid': text[first:second],
    'test': text[second:],
  }


def alphabet_of(text: bytes) -> bytes:
  """The distinct bytes of a text, in the order of their values."""
  return bytes(byte for byte in range(ALL_BYTES) if byte in text)


def encode(text: bytes, alphabet: bytes) -> np.ndarray:
  """Bytes as their places in the alphabet, uint8 [N]; read-only.

  Raises:
    ValueError: a byte of the text is not in the alphabet.
  """
  unknown = text.translate(None, delete=alphabet)
  if unknown:
    raise ValueError(f'{unknown[:1]!r} is not in the alphabet')
  # An array of indices would take eight times the memory of the text.
  table = bytearray(ALL_BYTES)
  for place, byte in enumerate(alphabet):
    table[byte] = place
  return np.frombuffer(text.translate(table), np.uint8)


def _named_splits(root, files):
  """{'train': file, ...} if a folder's files are named so, or None."""
  words = {
    'train': {'train', 'training'},
    'valid': {'valid', 'validation', 'val', 'dev'},
    'test': {'test'},
  }
  files = [
    file
    for file in files
    if not file.name.upper().startswith(('README', 'LICENSE'))
  ]
  named = {
    split: [
      file
      for file in files
      if words[split] & set(re.split('[^a-z]+', file.name.lower()))
    ]
    for split in SPLITS
  }
  if any(len(named[split]) != 1 for split in SPLITS):
    return None
  named = {split: named[split][0] for split in SPLITS}
  if len(files) == len(SPLITS):
    return named
  if all(file.parent == root for file in named.values()):
    raise UserError(
      f'config.data.path: {root} has files named train, valid and test, and '
      f'{len(files) - len(SPLITS)} more; give a folder with those three alone'
    )
  return None


def _training_alphabet(texts, name, vocab_size):
  alphabet = alphabet_of(texts['train'])
  if len(alphabet) != vocab_size:
    raise UserError(
      f'config.data.vocab_size is {vocab_size}, but the training text of '
      f'{name} has {len(alphabet)} symbols; give that number, or 256 for all '
      f'bytes'
    )
  for split, text in texts.items():
    unknown = sorted(set(text) - set(alphabet))
    if unknown:
      place = text.index(bytes(unknown[:1]))
      raise UserError(
        f'{name}: byte {place:,} of the {split} text is '
        f'{bytes(unknown[:1])!r}, one of {len(unknown)} symbols that the '
        f'training text lacks; --config.data.vocab_size=256 makes every byte '
        f'a symbol'
      )
  return alphabet
