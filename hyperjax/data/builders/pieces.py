"""What tfds builders share; those of bytes have pieces of 1 MiB, with numbers.

They need no TensorFlow: the records are array_record, read back by
`as_data_source`.
"""

import abc
import hashlib
import pathlib
import types
from typing import Any

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo

from hyperjax.data import prepared
from hyperjax.errors import UserError

PIECE = 2**20  # bytes
CHUNK = 2**16  # bytes
SILENT_SECONDS = 30  # of a server, before it is given up
INSTEAD = (
  'try again, or give the folder with the raw files by '
  '--config.data.dir=FOLDER or HYPERJAX_DATA_DIR'
)


class RawFilesBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A builder from a manual folder (`DownloadConfig.manual_dir`), if it may be.

  Attributes:
    corpus: the module that knows the raw files: `raw_files`.
  """

  VERSION = tfds.core.Version(prepared.VERSION)
  corpus: types.ModuleType

  def __init__(self, *, file_format: str = 'array_record', **kwargs: Any):
    super().__init__(file_format=file_format, **kwargs)

  def has_raw_files(self, folder: pathlib.Path) -> bool:
    """Whether one of the raw files is in a folder."""
    return any((folder / name).exists() for name in self.corpus.raw_files())

  def manual_dir(
    self, dl_manager: tfds.download.DownloadManager
  ) -> pathlib.Path | None:
    """The manual folder; None unless it has one of the raw files."""
    try:
      folder = pathlib.Path(dl_manager.manual_dir)
    except AssertionError:  # tfds: it does not exist, or is empty
      return None
    return folder if self.has_raw_files(folder) else None


class PieceBuilder(RawFilesBuilder, skip_registration=True):
  """A builder of one long string of bytes for each split.

  Without a manual folder, the raw files are downloaded.

  Attributes:
    corpus: the module that knows the raw files: `raw_files` and `downloads`.
    field: the name of the bytes in a record.
    splits: their names.
  """

  field: str
  splits: tuple[str, ...]

  @property
  def url_infos(self) -> dict[str, UrlInfo]:
    """The size and sha256 by which each download is checked."""
    return {
      url: UrlInfo(size, sha256, name)
      for url, (name, size, sha256) in self.corpus.downloads().items()
    }

  @abc.abstractmethod
  def read(self, folder: pathlib.Path) -> dict[str, bytes]:
    """The bytes of each split, from the raw files; checked."""

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {'piece': np.int64, self.field: tfds.features.Text()}
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    folder = self.manual_dir(dl_manager)
    contents = self.read(folder or _download(dl_manager, self.url_infos))
    return {
      split: self._generate_examples(contents[split]) for split in self.splits
    }

  def _generate_examples(self, content):
    for piece, start in enumerate(range(0, len(content), PIECE)):
      yield piece, {'piece': piece, self.field: content[start : start + PIECE]}


def _download(dl_manager, url_infos):
  """Downloads files; returns a folder that has them by their own names."""
  folder = pathlib.Path(dl_manager.download_dir) / 'raw'
  folder.mkdir(exist_ok=True)
  for url, info in url_infos.items():
    _fetch(url, info, folder / info.filename)
  return folder


def _fetch(url, info, path):
  """Downloads a file and checks it.

  Not by tfds, which waits for ever for a server that has fallen silent, and
  takes all that one sends that does not end.
  """
  size, digest, reached = 0, hashlib.sha256(), False
  try:
    with (
      requests.get(url, stream=True, timeout=SILENT_SECONDS) as response,
      path.open('wb') as file,
    ):
      reached = True
      if not response.ok:
        raise UserError(
          f'{url}: the server answers {response.status_code} '
          f'{response.reason}; {INSTEAD}'
        )
      for block in response.iter_content(CHUNK):
        size += len(block)
        if size > info.size:
          break
        digest.update(block)
        file.write(block)
  except requests.RequestException as error:
    what = 'the download broke off' if reached else 'can not be reached'
    hint = '' if reached else ' is there a network?'
    raise UserError(
      f'{url}: {what} ({type(error).__name__});{hint} {INSTEAD}'
    ) from error
  if size != info.size or digest.hexdigest() != info.checksum:
    raise UserError(
      f'{url}: the download is cut off or altered: it should have '
      f'{info.size:,} bytes and the sha256 {info.checksum[:12]}...; {INSTEAD}'
    )
