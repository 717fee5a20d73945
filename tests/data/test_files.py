import os

import pytest

from hyperjax.data import files
from hyperjax.errors import UserError


def test_a_pipe_or_device_is_not_read_for_ever(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'zero').symlink_to('/dev/zero')
  for name in ('pipe', 'zero'):
    with pytest.raises(UserError, match=f'{name}: is a device or a pipe'):
      files.read_bytes(tmp_path / name)


def test_another_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
  path = tmp_path / 'a'
  path.write_bytes(b'12345')
  assert files.read_bytes(path, size=5) == b'12345'
  monkeypatch.setattr('pathlib.Path.read_bytes', None)
  for size, words in ((4, 'too long: 5 bytes'), (6, 'cut off: 5 bytes')):
    with pytest.raises(UserError, match=words):
      files.read_exactly(path, size, '')


def test_a_file_beyond_memory_is_named(tmp_path, monkeypatch):
  def fail(path):
    raise MemoryError

  (tmp_path / 'a').touch()
  monkeypatch.setattr('pathlib.Path.read_bytes', fail)
  with pytest.raises(UserError, match='a: does not fit into memory'):
    files.read_bytes(tmp_path / 'a')


def test_names_that_no_file_can_have_are_refused(tmp_path, monkeypatch):
  with pytest.raises(UserError, match='null byte'):
    files.read_bytes(tmp_path / 'a\0b')
  for name in ('~nobody-of-that-name/x', 'x' * 5_000):
    with pytest.raises(UserError, match=r'config\.data\.dir'):
      files.data_dir(name, 'ptb', 'files')
    monkeypatch.setenv(files.ROOT, name)
    with pytest.raises(UserError, match=files.ROOT):
      files.data_dir('', 'ptb', 'files')
