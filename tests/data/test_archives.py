import bz2
import gzip
import io
import lzma
import tarfile

import pytest

from hyperjax.data import archives
from hyperjax.errors import UserError

COMPRESS = [bytes, gzip.compress, bz2.compress, lzma.compress]


def tar(*members):
  """An archive of (name, fields of its header, bytes)."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as archive:
    for name, fields, content in members:
      info = tarfile.TarInfo(name)
      info.size = len(content)
      for field, value in fields.items():
        setattr(info, field, value)
      # `addfile` would copy as many bytes as the header claims.
      header = info.tobuf(tarfile.GNU_FORMAT)
      padding = bytes(-len(content) % tarfile.BLOCKSIZE)
      file.write(header + content + padding)
      archive.offset += len(header + content + padding)
  return file.getvalue()


def read(path, content):
  path.write_bytes(content)
  return {
    member.name: member.read()
    for member in archives.members(path, 'broken')
    if not member.is_folder
  }


def refusal(path, content):
  with pytest.raises(UserError) as error:
    read(path, content)
  message = str(error.value)
  assert message.startswith(f'{path}: ')
  return message


GOOD = ('a/b.txt', {}, b'hello')


@pytest.mark.parametrize('compress', COMPRESS)
def test_any_compression_is_read(tmp_path, compress):
  content = tar(('a', {'type': tarfile.DIRTYPE}, b''), GOOD, ('c', {}, b''))
  found = read(tmp_path / 'a.tar', compress(content))
  assert found == {'a/b.txt': b'hello', 'c': b''}


def test_links_are_what_they_lead_to_and_devices_are_empty(tmp_path):
  content = tar(
    GOOD,
    ('hard', {'type': tarfile.LNKTYPE, 'linkname': 'a/b.txt'}, b''),
    ('a/soft', {'type': tarfile.SYMTYPE, 'linkname': 'b.txt'}, b''),
    ('device', {'type': tarfile.CHRTYPE}, b''),
  )
  found = read(tmp_path / 'a.tar', content)
  assert found['hard'] == found['a/soft'] == b'hello'
  assert found['device'] == b''


@pytest.mark.parametrize('name', ['../b', 'a/../../b', '/etc/passwd', '//b'])
def test_names_that_lead_out_are_refused(tmp_path, name):
  message = refusal(tmp_path / 'a.tar', tar(GOOD, (name, {}, b'')))
  assert f"member '{name}'" in message


@pytest.mark.parametrize(
  'member',
  [
    ('x', {'type': tarfile.SYMTYPE, 'linkname': 'x'}, b''),
    ('x', {'type': tarfile.LNKTYPE, 'linkname': 'x'}, b''),
    ('x', {'type': tarfile.SYMTYPE, 'linkname': '../../etc/passwd'}, b''),
    ('x', {'type': tarfile.SYMTYPE, 'linkname': '/etc/passwd'}, b''),
    ('.', {}, b''),
  ],
)
def test_links_out_or_in_a_circle_are_refused(tmp_path, member):
  assert ': broken (' in refusal(tmp_path / 'a.tar', tar(GOOD, member))


@pytest.mark.parametrize('compress', COMPRESS)
@pytest.mark.parametrize(
  'kind', [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE]
)
def test_a_size_beyond_the_file_takes_no_memory(tmp_path, kind, compress):
  content = tar(('x', {'type': kind, 'size': 2**33 - 1}, b'abc'))
  assert ': broken (' in refusal(tmp_path / 'a.tar', compress(content))


def test_bombs_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(archives, 'SLACK', 10_000)
  bomb = gzip.compress(tar(('x', {}, bytes(2_000_000))))
  assert 'plausible' in refusal(tmp_path / 'a.tar.gz', bomb)
  # No bytes of their own, but as many as the file each time.
  link = {'type': tarfile.LNKTYPE, 'linkname': 'x'}
  links = [(f'{k}', link, b'') for k in range(400)]
  content = tar(('x', {}, bytes(1_000_000)), *links)
  assert 'plausible' in refusal(tmp_path / 'a.tar', content)


def test_each_cut_is_noticed(tmp_path):
  content = tar(GOOD)[: 3 * tarfile.BLOCKSIZE]
  for cut in range(1, 2 * tarfile.BLOCKSIZE, 100):
    assert ': broken (' in refusal(tmp_path / 'a.tar', content[:cut])
  packed = gzip.compress(tar(GOOD))
  for cut in range(len(packed)):
    assert ': broken (' in refusal(tmp_path / 'a.tar', packed[:cut])
