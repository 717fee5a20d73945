"""Data as tfds data sets: prepared once, then read without raw files.

tfds takes half a second to import, so only the functions here do it.
"""

import contextlib
import io
import logging
import os
import pathlib
import tempfile

from hyperjax.errors import UserError

logger = logging.getLogger(__name__)

FOLDERS = {  # of each data set, under `root`
  'ptb': 'ptb',
  'enwik8': 'enwik8',
  # tfds has sets of its own that are called 'mnist' and 'cifar10'.
  'mnist': 'hyperjax_mnist',
  'cifar10': 'hyperjax_cifar10',
  'iam_ondb': 'hyperjax_iam_ondb',
}
NAMES = tuple(FOLDERS)
VERSION = '1.0.0'
REMEDY = 'delete this folder, and it is prepared again'


def root(data_dir: str = '') -> pathlib.Path:
  """Where tfds keeps data: in `data_dir`, `$TFDS_DATA_DIR` or its default."""
  named = data_dir or os.environ.get('TFDS_DATA_DIR', '')
  return pathlib.Path(named or '~/tensorflow_datasets').expanduser()


def is_prepared(name: str, data_dir: str = '') -> bool:
  """Whether `read` finds a data set, and so does not prepare it.

  Args:
    name: one of `NAMES`.
    data_dir: see `root`.
  """
  return (root(data_dir) / FOLDERS[name] / VERSION).exists()


def prepare(name: str, data_dir: str = '', raw_dir: str = '') -> pathlib.Path:
  """Writes a data set as array_record, unless it is there already.

  Args:
    name: one of `NAMES`.
    data_dir: see `root`.
    raw_dir: the folder with the raw files; empty downloads them, where that
      can be done.

  Returns:
    The folder of the prepared set.

  Raises:
    UserError: the raw files are missing or damaged, can not be downloaded, or
      there is no place to write. Nothing half-prepared is left behind.
  """
  import tensorflow_datasets as tfds

  folder = root(data_dir)
  builder = _builder(name, folder)
  try:
    if builder.data_path.exists():
      return pathlib.Path(builder.data_dir)
    if raw_dir:
      raw_dir = pathlib.Path(raw_dir).expanduser()
      if not builder.has_raw_files(raw_dir):
        raise UserError(
          f'{raw_dir}: has no raw files of {name}; they are called '
          f'{", ".join(builder.corpus.raw_files())}'
        )
    origin = f' from {raw_dir}' if raw_dir else ''
    logger.info('%s: preparing it%s in %s', name, origin, builder.data_dir)
    tfds.disable_progress_bar()  # it would stand between our lines
    folder.mkdir(parents=True, exist_ok=True)
    # The downloads go with their folder, whole or not. What tfds prints is
    # kept out of stdout, where a result may follow.
    with (
      tempfile.TemporaryDirectory(dir=folder, prefix='download-') as downloads,
      contextlib.redirect_stdout(io.StringIO()),
    ):
      builder.download_and_prepare(
        download_dir=downloads,
        download_config=tfds.download.DownloadConfig(
          manual_dir=raw_dir or None,
          force_checksums_validation=True,
          try_download_gcs=False,
        ),
      )
  except OSError as error:
    if not builder.data_path.exists():  # else another process was faster
      raise UserError(
        f'{error.filename or folder}: {name} can not be prepared here: '
        f'{error.strerror or error}; name another folder by TFDS_DATA_DIR'
      ) from error
  finally:
    with contextlib.suppress(OSError):  # not empty, unless there was an error
      (folder / builder.name).rmdir()
  return pathlib.Path(builder.data_dir)


def read(
  name: str, data_dir: str = ''
) -> tuple[dict[str, bytes], pathlib.Path]:
  """Reads a text or images, which are prepared first if need be.

  Args:
    name: one of `NAMES`.
    data_dir: see `root`.

  Returns:
    The bytes of each split as they were found, which are not checked here: a
    text, or `records` of images. And the folder that they were read from.

  Raises:
    UserError: see `prepare`; or the records can not be read.
  """
  contents, _, folder = _read(name, data_dir, _join)
  return contents, folder


def read_examples(
  name: str, data_dir: str = ''
) -> tuple[dict[str, list[dict]], dict, pathlib.Path]:
  """Reads the examples of a data set, which is prepared first if need be.

  Args:
    name: one of `NAMES`.
    data_dir: see `root`.

  Returns:
    The examples of each split that has some, in their order, with their
    features, unchecked; what the builder noted of the whole set; the folder
    that it was read from.

  Raises:
    UserError: see `prepare`; or the records can not be read.
  """
  return _read(name, data_dir, _list)


def _read(name, data_dir, convert):
  """The splits as `convert` gives them, the metadata and the folder."""
  folder = prepare(name, data_dir)
  try:
    builder = _builder(name, root(data_dir))
    splits = convert(builder, builder.as_data_source())
    metadata = dict(builder.info.metadata or {})
  except Exception as error:  # whatever tfds and array_record raise
    reason = f'{type(error).__name__}: {error}'.split('\n')[0]
    raise UserError(
      f'{folder}: can not be read ({reason}); {REMEDY}'
    ) from error
  return splits, metadata, folder


def _join(builder, source):
  contents = {}
  for split in builder.splits:
    pieces = sorted(source[split], key=lambda record: record['piece'])
    contents[split] = b''.join(piece[builder.field] for piece in pieces)
  return contents


def _list(builder, source):
  return {split: list(source[split]) for split in builder.info.splits}


def _builder(name, folder):
  # Not by `tfds.builder_cls`, which has a 'mnist' of its own.
  from hyperjax.data.builders import images, strokes, text

  builder = {
    'ptb': text.Ptb,
    'enwik8': text.Enwik8,
    'mnist': images.HyperjaxMnist,
    'cifar10': images.HyperjaxCifar10,
    'iam_ondb': strokes.HyperjaxIamOndb,
  }[name]
  try:
    return builder(data_dir=os.fspath(folder))
  except Exception as error:  # it reads dataset_info.json, and may stumble
    reason = f'{type(error).__name__}: {error}'.split('\n')[0]
    raise UserError(
      f'{folder / builder.name / str(builder.VERSION)}: can not be read '
      f'({reason}); {REMEDY}'
    ) from error
