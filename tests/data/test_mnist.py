import gzip
import hashlib
import json
import struct

import numpy as np
import pytest

from hyperjax.data import mnist
from hyperjax.errors import UserError

COUNTS = {'train': 40, 'test': 20}


def idx(array):
  header = struct.pack(f'>BBBB{array.ndim}I', 0, 0, 8, array.ndim, *array.shape)
  return header + array.tobytes()


def raw_arrays():
  """Small images and labels of each split."""
  draws = np.random.default_rng(0)
  return {
    split: (
      draws.integers(0, 256, (count, 28, 28)).astype(np.uint8),
      (np.arange(count) % 10).astype(np.uint8),
    )
    for split, count in COUNTS.items()
  }


def contents(arrays):
  """The idx files of arrays, by name."""
  return {
    name: idx(array)
    for split, files in mnist.FILES.items()
    for (name, _), array in zip(files, arrays[split], strict=True)
  }


def expect(monkeypatch, files, counts=COUNTS):
  """Makes these the files that MNIST should have."""
  expected = {
    split: tuple(
      (name, hashlib.sha256(files[name]).hexdigest()) for name, _ in pair
    )
    for split, pair in mnist.FILES.items()
  }
  monkeypatch.setattr(mnist, 'FILES', expected)
  monkeypatch.setattr(mnist, 'SIZES', counts)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder with small files in place of the real ones."""
  files = contents(raw_arrays())
  expect(monkeypatch, files)
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  for name, content in files.items():
    (tmp_path / name).write_bytes(content)
  return tmp_path


def build(folder='', **keywords):
  options = {'batch_size': 5, 'num_valid': 10, **keywords}
  return mnist.build(dir=str(folder), **options)


def refusal(*args, **keywords):
  with pytest.raises(UserError) as error:
    build(*args, **keywords)
  message = str(error.value)
  assert message and '\n' not in message
  return message


def zip_files(folder, names=None):
  for path in list(folder.glob('*ubyte')):
    if names is None or path.name in names:
      path.with_name(f'{path.name}.gz').write_bytes(
        gzip.compress(path.read_bytes())
      )
      path.unlink()


def test_the_splits_are_the_files(folder):
  source = build(folder)
  arrays = raw_arrays()
  pixels, labels = source.splits['test']
  np.testing.assert_array_equal(pixels, arrays['test'][0][..., None])
  np.testing.assert_array_equal(labels, arrays['test'][1])
  both = [
    [*source.splits['train'][k], *source.splits['valid'][k]] for k in (0, 1)
  ]
  found = sorted((x.tobytes(), int(y)) for x, y in zip(*both, strict=True))
  expected = zip(*arrays['train'], strict=True)
  assert found == sorted((x.tobytes(), int(y)) for x, y in expected)
  assert source.meta['name'] == 'MNIST'
  assert source.meta['classes'] == list('0123456789')
  assert source.meta['sizes'] == {'train': 30, 'valid': 10, 'test': 20}
  assert (source.meta['mean'], source.meta['std']) == ([0.0], [255.0])
  assert json.loads(json.dumps(source.meta)) == source.meta


def test_files_may_be_gzipped(folder):
  meta = build(folder).meta
  zip_files(folder, ['t10k-images-idx3-ubyte'])
  assert build(folder).meta == meta
  zip_files(folder)
  assert build(folder).meta == meta


def test_what_is_held_out_follows_its_seed(folder):
  first, again, other = (build(folder, split_seed=k).meta for k in (0, 0, 1))
  assert first == again
  assert first['sha256']['valid'] != other['sha256']['valid']
  assert first['sha256']['test'] == other['sha256']['test']


def test_the_root_of_all_data_has_a_folder_for_it(folder, monkeypatch):
  (folder / 'root').mkdir()
  (folder / 'root' / 'mnist').symlink_to(folder)
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(folder / 'root'))
  assert build().meta == build(folder).meta


def test_a_missing_folder_or_file_is_named(folder):
  message = refusal(folder / 'nowhere')
  assert message.startswith('config.data.dir: ')
  assert 't10k-labels-idx1-ubyte' in message
  path = folder / 'train-labels-idx1-ubyte'
  path.unlink()
  assert f'{path}: No such file' in refusal(folder)


@pytest.mark.parametrize('zipped', [False, True])
@pytest.mark.parametrize(
  ('kind', 'damage'),
  [
    ('cut off', lambda content: content[:-1]),
    ('too long', lambda content: content + b'\0'),
    ('altered', lambda content: content[:-1] + b'?'),
  ],
)
@pytest.mark.parametrize(
  'name', ['train-images-idx3-ubyte', 't10k-labels-idx1-ubyte']
)
def test_a_damaged_file_is_named_with_its_damage(
  folder, name, kind, damage, zipped
):
  path = folder / name
  path.write_bytes(damage(path.read_bytes()))
  if zipped:
    zip_files(folder)
    path = folder / f'{name}.gz'
  message = refusal(folder)
  assert message.startswith(f'{path}: {kind}')


@pytest.mark.parametrize(
  'damage',
  [
    lambda content: content[:-20],
    lambda content: content[:40] + bytes([content[40] ^ 255]) + content[41:],
    lambda content: b'not gzipped',
  ],
)
def test_a_broken_gzip_file_is_refused(folder, damage):
  zip_files(folder)
  path = folder / 'train-images-idx3-ubyte.gz'
  path.write_bytes(damage(path.read_bytes()))
  message = refusal(folder)
  assert message.startswith(f'{path}: a broken gzip file')


def test_a_gzip_bomb_is_not_unpacked(folder):
  zip_files(folder)
  path = folder / 't10k-labels-idx1-ubyte.gz'
  path.write_bytes(gzip.compress(bytes(10**8)))
  assert f'{path}: too long: 29 bytes' in refusal(folder)


@pytest.mark.parametrize(
  ('name', 'place', 'value'),
  [
    ('train-images-idx3-ubyte', 2, 13),  # elements of another type
    ('train-images-idx3-ubyte', 3, 2),  # axes
    ('train-images-idx3-ubyte', 7, 39),  # images
    ('train-images-idx3-ubyte', 11, 27),  # rows
    ('t10k-labels-idx1-ubyte', 7, 19),
  ],
)
def test_another_header_is_refused(folder, monkeypatch, name, place, value):
  path = folder / name
  content = bytearray(path.read_bytes())
  content[place] = value
  path.write_bytes(content)
  expect(
    monkeypatch, {file.name: file.read_bytes() for file in folder.iterdir()}
  )
  message = refusal(folder)
  assert message.startswith(f'{path}: it does not begin as an idx file of ')
  assert ('40 x 28 x 28' if 'images' in name else 'of 20 bytes') in message


def test_another_label_is_refused(folder, monkeypatch):
  arrays = raw_arrays()
  arrays['test'][1][7] = 10
  files = contents(arrays)
  expect(monkeypatch, files)
  path = folder / 't10k-labels-idx1-ubyte'
  path.write_bytes(files[path.name])
  assert f'{path}: has the label 10' in refusal(folder)


def test_mnist_has_ten_classes(folder):
  assert 'config.data.num_classes is 9' in refusal(folder, num_classes=9)


def test_the_records_are_labels_and_pixels(folder):
  for split, (pixels, labels) in raw_arrays().items():
    expected = b''.join(
      bytes([label]) + image.tobytes()
      for image, label in zip(pixels, labels, strict=True)
    )
    assert mnist.read_records(folder)[split] == expected


@pytest.mark.data('mnist')
def test_the_real_files():
  source = mnist.build(batch_size=1000, pad=1)
  assert source.meta['sizes'] == {
    'train': 55_000,
    'valid': 5_000,
    'test': 10_000,
  }
  assert source.meta['shape'] == [28, 28, 1]
  pixels, labels = source.splits['test']
  # The first test digit is a 7; the counts are those that LeCun's page has.
  assert labels[:5].tolist() == [7, 2, 1, 0, 4]
  assert np.bincount(labels).tolist() == [
    980,
    1135,
    1032,
    1010,
    982,
    892,
    958,
    1028,
    974,
    1009,
  ]
  assert sum(b['mask'].sum() for b in source.eval('test', 128)) == 10_000
  # What is published of the 60,000: a mean of 0.1307.
  pixels = np.concatenate([source.splits[k][0] for k in ('train', 'valid')])
  assert abs(pixels.mean() / 255 - 0.1307) < 1e-4
