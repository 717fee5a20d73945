import hashlib
import io
import json
import zipfile

import numpy as np
import pytest

from hyperjax.data import enwik8
from hyperjax.errors import UserError
from tests.conftest import REAL_FILES

SMALL = 20_000
BYTES = bytes(range(30, 235))  # 205 of them


def text_of(size=SMALL, symbols=BYTES, seed=0):
  """Random bytes; the rarest symbol stands at the very end alone."""
  common = np.frombuffer(symbols[:-1], np.uint8)
  draws = np.random.default_rng(seed).integers(len(common), size=size)
  text = common[draws.astype(np.uint8)]
  text[: len(common)] = common
  text[-1] = symbols[-1]
  return text.tobytes()


def zip_of(**members):
  content = io.BytesIO()
  with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, text in members.items():
      archive.writestr(name, text)
  return content.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder with a small text in place of the real one."""
  monkeypatch.setattr(enwik8, 'SIZE', SMALL)
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  (tmp_path / 'enwik8').write_bytes(text_of())
  return tmp_path


def build(dir='', path='', **keywords):
  sizes = {'batch_size': 4, 'sequence_length': 10, **keywords}
  return enwik8.build(dir=str(dir), path=str(path), **sizes)


def refusal(*args, **keywords):
  with pytest.raises(UserError) as error:
    build(*args, **keywords)
  message = str(error.value)
  assert message and '\n' not in message
  return message


def decoded(source):
  alphabet = np.array(source.meta['alphabet'], np.uint8)
  return b''.join(
    alphabet[source.symbols[split]].tobytes()
    for split in ('train', 'valid', 'test')
  )


def test_a_file_of_the_real_size(tmp_path):
  text = text_of(100_000_000)
  (tmp_path / 'enwik8').write_bytes(text)
  source = build(tmp_path, batch_size=128, sequence_length=250)
  assert source.meta['sizes'] == {
    'train': 90_000_000,
    'valid': 5_000_000,
    'test': 5_000_000,
  }
  assert source.meta['alphabet'] == list(BYTES)
  assert source.meta['name'].endswith('(another checksum)')
  # The symbol at the very end is in no split but that of test.
  assert source.symbols['train'].max() == 203
  assert source.symbols['test'][-1] == 204
  # Windows on both sides of each border are the file's own bytes.
  for border, before, behind in (
    (90_000_000, 'train', 'valid'),
    (95_000_000, 'valid', 'test'),
  ):
    around = text[border - 300 : border + 300]
    ends = source.symbols[before][-300:], source.symbols[behind][:300]
    assert bytes(BYTES[s] for s in np.concatenate(ends)) == around
  first = source.eval('valid', 1)[0]
  expected = text[90_000_000:90_000_251]
  assert bytes(BYTES[s] for s in first['inputs'][0]) == expected[:-1]
  assert bytes(BYTES[s] for s in first['targets'][0]) == expected[1:]


def test_the_file_as_it_is_and_zipped_are_the_same(folder):
  raw = build(folder)
  assert decoded(raw) == text_of()
  (folder / 'enwik8').unlink()
  (folder / 'enwik8.zip').write_bytes(zip_of(enwik8=text_of()))
  zipped = build(folder)
  assert zipped.meta == raw.meta
  assert json.loads(json.dumps(raw.meta)) == raw.meta


def test_only_the_published_checksum_is_called_enwik8(folder, monkeypatch):
  assert build(folder).meta['name'] == (
    'a file of the size and alphabet of enwik8 (another checksum)'
  )
  sha256 = hashlib.sha256(text_of()).hexdigest()
  monkeypatch.setattr(enwik8, 'SHA256', sha256)
  assert build(folder).meta['name'] == 'enwik8'
  assert build(path=folder / 'enwik8').meta['name'] == 'enwik8'


def test_the_root_of_all_data_has_a_folder_for_it(folder, monkeypatch):
  (folder / 'root').mkdir()
  (folder / 'root' / 'enwik8').symlink_to(folder)
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(folder / 'root'))
  assert build().meta == build(folder).meta


@pytest.mark.parametrize('zipped', [False, True])
@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (text_of(SMALL - 1), 'cut off: 19,999 bytes where the data set has 20,000'),
    (text_of(SMALL + 1), 'too long: 20,001 bytes'),
    (text_of(symbols=BYTES[:-1]), 'it has 204 symbols where enwik8 has 205'),
    (text_of(symbols=bytes(range(206))), 'it has 206 symbols'),
  ],
  ids=['short', 'long', '204', '206'],
)
def test_another_file_is_refused(folder, text, message, zipped):
  path = folder / 'enwik8'
  path.write_bytes(text)
  if zipped:
    path.unlink()
    path = folder / 'enwik8.zip'
    path.write_bytes(zip_of(enwik8=text))
  refused = refusal(folder)
  assert refused.startswith(f'{path}: ')
  assert message in refused
  assert refused.endswith('get the file again')


def test_a_missing_file_is_named(folder):
  (folder / 'enwik8').unlink()
  assert f'{folder / "enwik8"}: No such file' in refusal(folder)
  assert 'config.data.dir: ' in refusal(folder / 'nowhere')


def damaged(content):
  """The same zip file with a byte of the packed text changed."""
  place = len(content) // 2
  return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (zip_of(enwik8=text_of())[:-100], 'broken zip'),
    (damaged(zip_of(enwik8=text_of())), 'broken zip'),
    (b'no zip at all', 'broken zip'),
    (b'', 'broken zip'),
    (zip_of(enwik9=text_of()), '1 files (enwik9)'),
    (zip_of(enwik8=text_of(), more=b'more'), '2 files (enwik8, more)'),
    (zip_of(), '0 files'),
  ],
  ids=['cut', 'damaged', 'other', 'empty', 'name', 'two', 'none'],
)
def test_a_broken_or_odd_zip_is_refused(folder, content, message):
  (folder / 'enwik8').unlink()
  path = folder / 'enwik8.zip'
  path.write_bytes(content)
  refused = refusal(folder)
  assert refused.startswith(f'{path}: ')
  assert message in refused


def test_a_zip_of_a_wrong_size_is_not_unpacked(folder, monkeypatch):
  (folder / 'enwik8').unlink()
  (folder / 'enwik8.zip').write_bytes(zip_of(enwik8=bytes(SMALL + 1)))
  monkeypatch.delattr(zipfile.ZipFile, 'read')
  assert 'too long' in refusal(folder)


def test_enwik8_has_205_symbols(folder):
  assert 'config.data.vocab_size is 256' in refusal(folder, vocab_size=256)


def test_a_sample_takes_a_part_of_the_vocabulary(folder):
  path = folder / 'sample.xml'
  text = text_of(size=3_000, symbols=BYTES[:201])
  path.write_bytes(text)
  source = build(path=path)
  assert source.meta['name'] == (
    'sample of MediaWiki text, not enwik8: sample.xml'
  )
  assert source.meta['sizes'] == {'train': 2_700, 'valid': 150, 'test': 150}
  assert decoded(source) == text
  alphabet = source.meta['alphabet']
  assert alphabet[:201] == list(BYTES[:201])
  # Every place has a byte of its own, also those that the sample leaves empty.
  assert len(set(alphabet)) == len(alphabet) == 205
  assert max(symbols.max() for symbols in source.symbols.values()) == 200


@pytest.mark.parametrize('vocab_size', [204, 257])
def test_a_sample_that_does_not_fit_is_refused(folder, vocab_size):
  message = refusal(path=folder / 'enwik8', vocab_size=vocab_size)
  assert f'config.data.vocab_size is {vocab_size}' in message
  assert 'from 205 to 256' in message


def test_a_missing_or_empty_sample_is_refused(folder):
  path = folder / 'sample.xml'
  assert f'{path}: No such file' in refusal(path=path)
  path.write_bytes(b'')
  assert f'{path}: the file is empty' in refusal(path=path)
  assert f'{folder}: Is a directory' in refusal(path=folder)
  assert 'config.data.path' in refusal(path='~no-such-user/x')


def test_a_folder_and_a_sample_are_one_too_many(folder):
  message = refusal(folder, folder / 'enwik8')
  assert 'config.data.dir' in message
  assert 'config.data.path' in message


@pytest.mark.data('enwik8')
def test_the_real_file():
  source = build(REAL_FILES / 'enwik8', batch_size=128, sequence_length=250)
  assert source.meta['name'] == 'enwik8'
  assert len(source.meta['alphabet']) == 205
  assert sum(source.meta['sizes'].values()) == 100_000_000


@pytest.mark.data('enwiki_sample')
def test_the_real_sample():
  path = REAL_FILES / 'enwiki_sample' / 'enwiki-shortened.xml'
  source = build(path=path)
  assert len(source.meta['alphabet']) == 205
  assert max(symbols.max() for symbols in source.symbols.values()) == 200
