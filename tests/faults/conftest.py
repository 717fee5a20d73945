import functools
import os
import pathlib

import pytest

from tests.faults import runs


@pytest.fixture(scope='session')
def data(text_file, small_images) -> dict[str, pathlib.Path]:
  """What each kind of run learns from."""
  return {'language': text_file, 'images': small_images}


@pytest.fixture(scope='session')
def whole(tmp_path_factory, data, compile_once):
  """The workdir of a run of a kind that nothing happened to."""

  @functools.cache
  def train(kind):
    workdir = tmp_path_factory.mktemp(kind) / 'whole'
    runs.finish(kind, data[kind], workdir)
    return workdir

  return train


@pytest.fixture(scope='session', autouse=True)
def compile_once(tmp_path_factory):
  """What children compile is kept for those that come after them."""
  with pytest.MonkeyPatch.context() as patch:
    if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
      folder = tmp_path_factory.mktemp('compiled')
      patch.setenv('JAX_COMPILATION_CACHE_DIR', str(folder))
    patch.setenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
    patch.setenv('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')
    yield
