"""Prepares data as a tfds data set (array_record) ahead of its first run.

python scripts/prepare_data.py --name=ptb|enwik8|mnist|cifar10|iam_ondb \
  [--raw_dir=FOLDER] [--data_dir=FOLDER]

Without --raw_dir the raw files are downloaded, but for those of iam_ondb, which
one has to ask its publisher for. Runs look for the set in
$TFDS_DATA_DIR, or else in ~/tensorflow_datasets; so does --data_dir's default.
"""

import importlib
from collections.abc import Sequence

from absl import flags

from hyperjax import command_line
from hyperjax.data import iam_files, prepared
from hyperjax.errors import UserError

_NAME = flags.DEFINE_enum('name', None, prepared.NAMES, 'The data set.')
_RAW_DIR = flags.DEFINE_string('raw_dir', '', 'Folder with the raw files.')
_DATA_DIR = flags.DEFINE_string('data_dir', '', 'Folder of all tfds data sets.')


def main(argv: Sequence[str]) -> None:
  """Prepares the set, reads it back and prints where and what it is."""
  del argv  # flags alone
  if not _NAME.value:
    raise UserError(
      f'--name is missing: give one of {", ".join(prepared.NAMES)}'
    )
  folder = prepared.prepare(_NAME.value, _DATA_DIR.value, _RAW_DIR.value)
  for split, size in _sizes(_NAME.value, _DATA_DIR.value):
    print(f'{split}: {size}')
  print(f'{_NAME.value} is prepared in {folder}')


def _sizes(name, data_dir):
  """Reads a set back: each split's name, and its size in words."""
  if name == 'iam_ondb':
    for split, lines in iam_files.read_prepared(data_dir).splits.items():
      yield split, f'{len(lines):,} lines'
    return
  corpus = importlib.import_module(f'hyperjax.data.{name}')
  for split, content in corpus.read_prepared(data_dir).items():
    if isinstance(content, bytes):
      yield split, f'{len(content):,} bytes'
    else:
      yield split, f'{len(content[1]):,} images'


if __name__ == '__main__':
  command_line.launch(main)
