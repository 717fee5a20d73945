"""Penn Treebank, Mikolov's word-level files read as characters.

The paper's parameter counts need these bytes: 50 symbols, with the spaces
between words and the newlines between sentences (not `ptb.char.*`, which has
49). The text is licensed by the LDC and is not downloaded here.
"""

from hyperjax.data.files import data_dir, read_exactly
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


def build(
  *,
  dir: str = '',
  batch_size: int,
  sequence_length: int,
  vocab_size: int = 50,
) -> TextSource:
  """The source over `ptb.{train,valid,test}.txt` in `dir`.

  Raises:
    UserError: a file is missing, cut off or altered.
  """
  folder = data_dir(dir, 'ptb', 'ptb.train.txt, ptb.valid.txt, ptb.test.txt')
  texts = {
    split: read_exactly(folder / name, size, sha256)
    for split, (name, size, sha256) in FILES.items()
  }
  return TextSource(
    texts,
    name='Penn Treebank',
    batch_size=batch_size,
    sequence_length=sequence_length,
    vocab_size=vocab_size,
  )
