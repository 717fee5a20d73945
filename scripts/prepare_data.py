"""Prepares a text as a tfds data set (array_record) ahead of its first run.

python scripts/prepare_data.py --name=enwik8|ptb \
  [--raw_dir=FOLDER] [--data_dir=FOLDER]

Without --raw_dir the raw files are downloaded. Runs look for the set in
$TFDS_DATA_DIR, or else in ~/tensorflow_datasets; so does --data_dir's default.
"""

import importlib
import logging
import sys
from collections.abc import Sequence

from absl import app, flags
from absl import logging as absl_logging

from hyperjax.data import prepared
from hyperjax.errors import UserError

_NAME = flags.DEFINE_enum('name', None, ['ptb', 'enwik8'], 'The data set.')
_RAW_DIR = flags.DEFINE_string('raw_dir', '', 'Folder with the raw files.')
_DATA_DIR = flags.DEFINE_string('data_dir', '', 'Folder of all tfds data sets.')


def main(argv: Sequence[str]) -> None:
  """Prepares the set, reads it back and prints where and what it is."""
  if argv[1:]:
    raise UserError(f"'{argv[1]}' is not a flag; flags begin with --")
  if not _NAME.value:
    raise UserError('--name is missing: give ptb or enwik8')
  folder = prepared.prepare(_NAME.value, _DATA_DIR.value, _RAW_DIR.value)
  corpus = importlib.import_module(f'hyperjax.data.{_NAME.value}')
  for split, text in corpus.read_prepared(_DATA_DIR.value).items():
    print(f'{split}: {len(text):,} bytes')
  print(f'{_NAME.value} is prepared in {folder}')


def parse(argv: Sequence[str]) -> list[str]:
  """Parses flags; a wrong one is a `UserError`."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    raise UserError(str(error).split('\n')[0]) from error


if __name__ == '__main__':
  absl_logging.set_verbosity(absl_logging.ERROR)
  absl_logging.get_absl_handler().setFormatter(logging.Formatter('%(message)s'))
  logging.getLogger('hyperjax').setLevel(logging.INFO)
  try:
    app.run(main, flags_parser=parse)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
