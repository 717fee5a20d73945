import hashlib
import io
import json
import pickle
import tarfile
from typing import ClassVar

import numpy as np
import pytest

from hyperjax.data import cifar10
from hyperjax.errors import UserError

IN_BATCH = 20  # images in a file, in place of 10,000
KINDS = ['bin folder', 'bin archive', 'py folder', 'py archive']


class Python2Pickler(pickle._Pickler):
  """Pickles as Python 2 did with protocol 2, in which the files are.

  Byte strings are strings there, and NumPy's modules had other names.
  """

  dispatch: ClassVar = dict(pickle._Pickler.dispatch)

  def save_string(self, text):
    content = text if isinstance(text, bytes) else text.encode('latin1')
    self.write(b'T' + len(content).to_bytes(4, 'little') + content)
    self.memoize(text)

  dispatch[bytes] = dispatch[str] = save_string


def pickled(batch):
  file = io.BytesIO()
  Python2Pickler(file, 2).dump(batch)
  return file.getvalue().replace(b'numpy._core.', b'numpy.core.')


def raw_batches(in_batch=IN_BATCH):
  """Rows of pixels uint8 [n, 3072] and labels of the six files."""
  draws = np.random.default_rng(0)
  return [
    (
      draws.integers(0, 256, (in_batch, 3072)).astype(np.uint8),
      draws.permutation(np.arange(in_batch) % 10),
    )
    for _ in range(6)
  ]


def contents(batches):
  """The files of both versions, by folder and name."""
  files = {'cifar-10-batches-bin': {}, 'cifar-10-batches-py': {}}
  for k, (pixels, labels) in enumerate(batches):
    name = 'test_batch' if k == 5 else f'data_batch_{k + 1}'
    files['cifar-10-batches-bin'][f'{name}.bin'] = b''.join(
      bytes([label]) + row.tobytes()
      for row, label in zip(pixels, labels, strict=True)
    )
    files['cifar-10-batches-py'][name] = pickled(
      {
        'batch_label': f'batch {k + 1}',
        'labels': labels.tolist(),
        'data': pixels,
        'filenames': [f'{k}_{j}.png' for j in range(len(labels))],
      }
    )
  return files


def expect(monkeypatch, files):
  """Makes these the files that CIFAR-10 should have."""
  binary, python = files.values()
  monkeypatch.setattr(cifar10, 'IN_BATCH', IN_BATCH)
  monkeypatch.setattr(
    cifar10,
    'BINARY',
    {k: hashlib.sha1(v).hexdigest() for k, v in binary.items()},
  )
  monkeypatch.setattr(
    cifar10,
    'PICKLED',
    {k: (len(v), hashlib.md5(v).hexdigest()) for k, v in python.items()},
  )


def archived(folder, files):
  """A .tar.gz with a folder."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w:gz') as archive:
    directory = tarfile.TarInfo(folder)
    directory.type = tarfile.DIRTYPE
    archive.addfile(directory)
    # The real ones have them in no order, beside others.
    for name, content in reversed({'readme.html': b'', **files}.items()):
      member = tarfile.TarInfo(f'{folder}/{name}')
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))
  return file.getvalue()


ARCHIVES = {'bin': 'cifar-10-binary.tar.gz', 'py': 'cifar-10-python.tar.gz'}


def write(folder, kind, files):
  """Writes one version; returns what messages call each of its files."""
  version, form = kind.split()
  name = f'cifar-10-batches-{version}'
  if form == 'archive':
    path = folder / ARCHIVES[version]
    path.write_bytes(archived(name, files[name]))
    return f'{path}, {name}/'
  (folder / name).mkdir()
  for file, content in files[name].items():
    (folder / name / file).write_bytes(content)
  return f'{folder / name}/'


@pytest.fixture
def files(monkeypatch):
  """Small files in place of the real ones."""
  files = contents(raw_batches())
  expect(monkeypatch, files)
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  return files


def build(folder='', **keywords):
  options = {'batch_size': 5, 'num_valid': 30, **keywords}
  return cifar10.build(dir=str(folder), **options)


def refusal(*args, **keywords):
  with pytest.raises(UserError) as error:
    build(*args, **keywords)
  message = str(error.value)
  assert message and '\n' not in message
  return message


@pytest.mark.parametrize('kind', KINDS)
def test_the_splits_are_the_files(tmp_path, files, kind):
  write(tmp_path, kind, files)
  raw = cifar10.read_raw(tmp_path)
  batches = raw_batches()
  parts = {'train': batches[:5], 'test': batches[5:]}
  for split, part in parts.items():
    pixels, labels = raw[split]
    rows = np.concatenate([rows for rows, _ in part])
    # A row is 1024 reds, line by line, then greens, then blues.
    for k, (row, column, channel) in enumerate(
      [(0, 0, 0), (3, 7, 1), (31, 31, 2)]
    ):
      np.testing.assert_array_equal(
        pixels[k, row, column, channel],
        rows[k, channel * 1024 + row * 32 + column],
      )
    expected = np.stack([row.reshape(3, 32, 32) for row in rows])
    np.testing.assert_array_equal(np.moveaxis(pixels, 3, 1), expected)
    expected = np.concatenate([labels for _, labels in part])
    np.testing.assert_array_equal(labels, expected)


def test_all_versions_are_the_same(tmp_path, files):
  metas = []
  for kind in KINDS:
    folder = tmp_path / kind.replace(' ', '-')
    folder.mkdir()
    write(folder, kind, files)
    metas.append(build(folder).meta)
  assert all(meta == metas[0] for meta in metas)
  meta = metas[0]
  assert meta['name'] == 'CIFAR-10'
  assert meta['classes'][6:] == ['frog', 'horse', 'ship', 'truck']
  assert meta['sizes'] == {'train': 70, 'valid': 30, 'test': 20}
  assert meta['shape'] == [32, 32, 3]
  assert json.loads(json.dumps(meta)) == meta


def test_the_root_of_all_data_has_a_folder_for_it(tmp_path, files, monkeypatch):
  (tmp_path / 'cifar10').mkdir()
  write(tmp_path / 'cifar10', 'bin folder', files)
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(tmp_path))
  assert build().meta == build(tmp_path / 'cifar10').meta


def test_a_folder_without_the_files_is_refused(tmp_path, files):
  message = refusal(tmp_path)
  assert message.startswith(f'{tmp_path}: has none of cifar-10-batches-bin, ')
  assert 'cifar-10-python.tar.gz' in message


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('stem', ['data_batch_3', 'test_batch'])
@pytest.mark.parametrize(
  ('words', 'damage'),
  [
    ('cut off', lambda content: content[:-1]),
    ('too long', lambda content: content + b'\0'),
    ('altered', lambda content: content[:-1] + b'?'),
  ],
)
def test_a_damaged_file_is_named_with_its_damage(
  tmp_path, files, kind, stem, words, damage
):
  version = files[f'cifar-10-batches-{kind.split()[0]}']
  name = next(name for name in version if name.startswith(stem))
  version[name] = damage(version[name])
  origin = write(tmp_path, kind, files)
  message = refusal(tmp_path)
  assert message.startswith(f'{origin}{name}: {words}')


@pytest.mark.parametrize('kind', KINDS)
def test_a_missing_file_is_named(tmp_path, files, kind):
  version = files[f'cifar-10-batches-{kind.split()[0]}']
  name = list(version)[2]
  del version[name]
  write(tmp_path, kind, files)
  assert name in refusal(tmp_path)


@pytest.mark.parametrize('kind', ['bin archive', 'py archive'])
def test_a_broken_archive_is_refused(tmp_path, files, kind):
  write(tmp_path, kind, files)
  path = tmp_path / ARCHIVES[kind.split()[0]]
  content = path.read_bytes()
  for damaged in (content[: len(content) // 2], b'no archive', b''):
    path.write_bytes(damaged)
    assert refusal(tmp_path).startswith(f'{path}: a broken archive')


class Call:
  """Unpickled, it would call something."""

  def __reduce__(self):
    return print, ('called',)


@pytest.mark.parametrize(
  ('batch', 'words'),
  [
    (Call(), 'print is not allowed'),
    ([1, 2], 'TypeError'),
    ({'data': np.zeros((IN_BATCH, 3072), np.uint8)}, 'KeyError'),
    (
      {'data': np.zeros((IN_BATCH, 3071), np.uint8), 'labels': [0] * IN_BATCH},
      'pixels of uint8 (20, 3071)',
    ),
    (
      {'data': np.zeros((IN_BATCH, 3072), np.int8), 'labels': [0] * IN_BATCH},
      'pixels of int8',
    ),
    (
      {'data': np.zeros((IN_BATCH, 3072), np.uint8), 'labels': [0.5]},
      'labels of float64 (1,)',
    ),
  ],
)
def test_another_pickle_is_refused_and_calls_nothing(
  tmp_path, files, monkeypatch, capsys, batch, words
):
  files['cifar-10-batches-py']['data_batch_2'] = pickled(batch)
  expect(monkeypatch, files)
  origin = write(tmp_path, 'py folder', files)
  message = refusal(tmp_path)
  assert message.startswith(f'{origin}data_batch_2: not a batch of CIFAR-10')
  assert words in message
  assert 'called' not in capsys.readouterr().out


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
  ('file', 'value'), [(1, 10), (5, 255), (5, None), (0, None)]
)
def test_other_labels_are_refused(
  tmp_path, files, monkeypatch, kind, file, value
):
  batches = raw_batches()
  labels = batches[file][1]
  labels[0] = (labels[0] + 1) % 10 if value is None else value
  files = contents(batches)
  expect(monkeypatch, files)
  write(tmp_path, kind, files)
  split, each = ('test', 2) if file == 5 else ('train', 10)
  assert f'the {split} labels are not {each} of each' in refusal(tmp_path)


def test_cifar10_has_ten_classes(tmp_path, files):
  write(tmp_path, 'bin folder', files)
  assert 'config.data.num_classes is 100' in refusal(tmp_path, num_classes=100)


def test_the_sizes_are_those_of_the_real_files():
  # Nothing is patched here: 10,000 records of 3,073 bytes in each file.
  assert cifar10.IN_BATCH * cifar10.RECORD == 30_730_000
  assert sum(cifar10.BATCHES.values()) == len(cifar10.BINARY) == 6
  assert list(cifar10.BINARY) == [f'{name}.bin' for name in cifar10.PICKLED]
  for size, _ in cifar10.PICKLED.values():
    assert size > 30_720_000
