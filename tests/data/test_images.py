import functools
import hashlib
import io
import json
import logging
import struct
import tarfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from hyperjax.data import image_files, images
from hyperjax.errors import UserError
from hyperjax.ops.augment import crop_and_flip
from hyperjax.ops.random import stream
from tests.conftest import REAL_FILES


def numbered(count, shape=(4, 5, 3), seed=0):
  """Random images, and labels by which each can be told from the others."""
  pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape))
  return pixels.astype(np.uint8), np.arange(count)


def make_source(count=10, batch_size=3, **keywords):
  splits = {
    'train': numbered(count),
    'valid': numbered(7, seed=1),
    'test': numbered(8, seed=2),
  }
  options = {'classes': [str(k) for k in range(count)], **keywords}
  return images.ImageSource(
    splits, name='toy', batch_size=batch_size, **options
  )


def run_steps(source, steps, seed=0):
  arrays, batch = source.arrays(), jax.jit(source.batch)
  batches = [batch(arrays, jnp.uint32(seed), jnp.int32(k)) for k in steps]
  return {
    name: np.stack([batch[name] for batch in batches]) for name in batches[0]
  }


def one_line(error):
  message = str(error.value)
  assert message and '\n' not in message
  return message


# Training batches.


@pytest.mark.parametrize(('count', 'batch_size'), [(10, 3), (6, 6), (5, 12)])
def test_each_image_comes_once_an_epoch_with_its_label(count, batch_size):
  source = make_source(count, batch_size, normalize='unit')
  epochs = 6
  found = run_steps(source, range(-(-epochs * count // batch_size)))
  labels = found['targets'].ravel()
  assert found['targets'].dtype == np.int32
  assert found['inputs'].dtype == np.float32
  assert found['inputs'].shape[1:] == (batch_size, 4, 5, 3)
  orders = labels[: epochs * count].reshape(epochs, count)
  np.testing.assert_array_equal(
    np.sort(orders), np.tile(np.arange(count), (epochs, 1))
  )
  assert len(np.unique(orders, axis=0)) > epochs // 2
  pixels, _ = numbered(count)
  expected = pixels[labels].astype(np.float32) / 255
  # XLA may multiply by the inverse, which differs by the last bit.
  np.testing.assert_allclose(
    found['inputs'].reshape(-1, 4, 5, 3), expected, rtol=2e-7
  )


def test_a_batch_is_a_function_of_seed_and_step():
  source = make_source(pad=1, flip=True)
  found = run_steps(source, [4, 9, 4])
  other = run_steps(source, [4], seed=1)
  for name, value in found.items():
    np.testing.assert_array_equal(value[0], value[2])
    assert (value[0] != value[1]).any()
    assert (value[0] != other[name][0]).any()
  vmapped = jax.jit(jax.vmap(source.batch, (None, 0, None)))
  seeds = jnp.arange(2, dtype=jnp.uint32)
  side_by_side = vmapped(source.arrays(), seeds, jnp.int32(4))
  np.testing.assert_array_equal(side_by_side['targets'][0], found['targets'][0])
  # Under vmap XLA may round in another way.
  np.testing.assert_allclose(
    side_by_side['inputs'][0], found['inputs'][0], rtol=1e-6
  )


def test_large_seeds_are_seeds():
  # The train step closes over the seed as a number of Python's.
  source, seed = make_source(), 2**32 - 1
  plain = jax.jit(lambda arrays: source.batch(arrays, seed, 3))(source.arrays())
  expected = run_steps(source, [3], seed)
  np.testing.assert_array_equal(plain['targets'], expected['targets'][0])


def test_augmentation_comes_before_normalization():
  source = make_source(pad=2, flip=True)
  found = run_steps(source, [5])
  labels = found['targets'][0]
  pixels, _ = numbered(10)
  key = jax.random.fold_in(stream(0, 'augmentation'), 5)
  augmented = crop_and_flip(key, jnp.asarray(pixels[labels]), 2, True)
  augmented = np.asarray(augmented).astype(np.float64)
  assert (augmented == 0).all(-1).any()  # some padding is in sight
  flat = pixels.reshape(-1, 3).astype(np.float64)
  expected = (augmented - flat.mean(0)) / flat.std(0)
  # float32, of numbers around 1.
  np.testing.assert_allclose(found['inputs'][0], expected, atol=1e-5)


def test_each_step_crops_and_mirrors_anew():
  pixels = np.zeros((1, 5, 5, 1), np.uint8)
  pixels[0, 2, 3] = 255
  splits = dict.fromkeys(('train', 'valid', 'test'), (pixels, np.zeros(1)))
  source = images.ImageSource(
    splits,
    name='a dot',
    classes=['dot'],
    batch_size=40,
    pad=1,
    flip=True,
    normalize='unit',
  )
  found = run_steps(source, range(20))['inputs']
  rows, columns = np.nonzero(found.reshape(-1, 5, 5))[1:]
  assert len(rows) == 800  # never cut off
  assert set(rows.tolist()) == {1, 2, 3}
  # Column 3 goes to 2, 3, 4, or mirrored to 2, 1, 0.
  share = np.bincount(columns, minlength=5) / 800
  deviation = np.sqrt(0.25 / 800)
  np.testing.assert_allclose(
    share, np.array([1, 1, 2, 1, 1]) / 6, atol=5 * deviation
  )
  per_step = columns.reshape(20, 40)
  assert len(np.unique(per_step, axis=0)) == 20


def test_pixels_are_scaled_by_the_training_split():
  source = make_source()
  pixels, _ = numbered(10)
  flat = pixels.reshape(-1, 3).astype(np.float64)
  np.testing.assert_allclose(source.meta['mean'], flat.mean(0), rtol=1e-12)
  np.testing.assert_allclose(source.meta['std'], flat.std(0), rtol=1e-12)
  inputs = run_steps(source, range(10))['inputs'].reshape(-1, 3)  # 3 epochs
  np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(inputs.std(0), 1, atol=1e-5)


def test_a_channel_of_one_value_is_centred_alone():
  pixels = np.full((4, 3, 3, 1), 7, np.uint8)
  splits = dict.fromkeys(('train', 'valid', 'test'), (pixels, np.zeros(4)))
  source = images.ImageSource(
    splits, name='grey', classes=['grey'], batch_size=2
  )
  assert (source.meta['mean'], source.meta['std']) == ([7.0], [1.0])
  assert (run_steps(source, [0])['inputs'] == 0).all()


def test_meta_is_plain_json_and_tells_the_data():
  source = make_source()
  assert json.loads(json.dumps(source.meta)) == source.meta
  assert source.meta['shape'] == [4, 5, 3]
  assert source.meta['sizes'] == {'train': 10, 'valid': 7, 'test': 8}
  pixels, labels = numbered(7, seed=1)
  content = pixels.tobytes() + labels.astype(np.int32).tobytes()
  sha256 = hashlib.sha256(content).hexdigest()
  assert source.meta['sha256']['valid'] == sha256
  assert len(set(source.meta['sha256'].values())) == 3


@pytest.mark.parametrize(
  ('keywords', 'message'),
  [
    ({'pad': -1}, 'config.data.pad is -1'),
    ({'normalize': 'units'}, "did you mean 'unit'?"),
    ({'batch_size': 2**32 - 1}, 'config.data.batch_size 4294967295'),
  ],
)
def test_options_out_of_range_are_refused(keywords, message):
  with pytest.raises(UserError) as error:
    make_source(**keywords)
  assert message in one_line(error)


# Evaluation.


@pytest.mark.parametrize('split', ['train', 'valid', 'test'])
@pytest.mark.parametrize('batch_size', [1, 3, 4, 7, 8, 100])
def test_a_pass_counts_each_image_once_and_in_order(split, batch_size):
  source = make_source(pad=1, flip=True)
  pixels, labels = source.splits[split]
  batches = list(source.eval(split, batch_size))
  assert len(batches) == len(source.eval(split, batch_size))
  rows = min(batch_size, len(labels))
  for batch in batches:
    assert batch['inputs'].shape == (rows, 4, 5, 3)
    assert batch['inputs'].dtype == np.float32
    assert batch['targets'].shape == batch['mask'].shape == (rows,)
    assert batch['targets'].dtype == np.int32
    assert batch['mask'].dtype == bool
  assert all(batch['mask'].all() for batch in batches[:-1])
  counted = np.concatenate(
    [batch['targets'][batch['mask']] for batch in batches]
  )
  np.testing.assert_array_equal(counted, labels)
  inputs = np.concatenate([batch['inputs'][batch['mask']] for batch in batches])
  # As it is: neither cropped nor mirrored.
  mean, std = (np.array(source.meta[name]) for name in ('mean', 'std'))
  np.testing.assert_allclose(inputs, (pixels - mean) / std, atol=1e-5)
  assert source.eval_protocol(batch_size) == 'every image once'


def test_a_pass_can_be_indexed_and_ends():
  batches = make_source().eval('test', 3)
  assert batches[2]['mask'].tolist() == [True, True, False]
  for k in (-1, 3):
    with pytest.raises(IndexError):
      batches[k]


def test_another_split_is_refused():
  with pytest.raises(UserError) as error:
    make_source().eval('tset', 3)
  assert one_line(error) == (
    "config.eval.split: no split 'tset'; known: train, valid, test"
  )


# Holding out.


def test_what_is_held_out_is_no_longer_trained_on():
  pixels, labels = numbered(100)
  split = images.hold_out(pixels, labels, 30, 0)
  train, valid = split['train'][1], split['valid'][1]
  assert len(valid) == 30
  assert sorted([*train, *valid]) == list(range(100))
  assert (np.diff(train) > 0).all()
  assert (np.diff(valid) > 0).all()
  assert 20 < valid.mean() < 80  # from everywhere
  for part, places in split.values():
    np.testing.assert_array_equal(part, pixels[places])


def test_what_is_held_out_is_the_same_for_ever():
  _, valid = images.hold_out(*numbered(20), 5, 0)['valid']
  assert valid.tolist() == [1, 8, 10, 18, 19]
  _, other = images.hold_out(*numbered(20), 5, 1)['valid']
  assert other.tolist() != valid.tolist()


@pytest.mark.parametrize(
  ('num_valid', 'split_seed', 'message'),
  [
    (0, 0, 'config.data.num_valid is 0'),
    (20, 0, 'from 1 to 19'),
    (5, -1, 'config.data.split_seed is -1'),
    (5, 2**32, 'config.data.split_seed is 4294967296'),
  ],
)
def test_a_bad_hold_out_is_refused(num_valid, split_seed, message):
  with pytest.raises(UserError) as error:
    images.hold_out(*numbered(20), num_valid, split_seed)
  assert message in one_line(error)


# Files.


def encoded(pixels, form='PNG', **keywords):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, form, **keywords)
  return file.getvalue()


def image_of(k, *, grey=False, size=(6, 5), form='PNG'):
  draws = np.random.default_rng(k)
  shape = size if grey else (*size, 3)
  return encoded(draws.integers(0, 256, shape).astype(np.uint8), form)


@functools.cache
def tree(splits=('train', 'test'), form='PNG', grey=False, suffix='.png'):
  """The files of a small set: three classes, four images each."""
  files, k = {}, 0
  for split in splits:
    for name in ('cat', 'dog', 'owl'):
      for number in range(4):
        content = image_of(k, form=form, grey=grey)
        files[f'{split}/{name}/{number}{suffix}'] = content
        k += 1
  return files


def write(folder, files):
  for name, content in files.items():
    path = folder / name
    if content is None:
      path.mkdir(parents=True)
      continue
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return folder


def pack(path, files):
  with tarfile.open(
    path, f'w:{path.suffix[1:].removeprefix("tar")}'
  ) as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      if content is None:
        member.type = tarfile.DIRTYPE
      member.size = len(content or b'')
      archive.addfile(member, io.BytesIO(content or b''))
  return path


def build(path, **keywords):
  options = {'num_classes': 3, 'num_valid': 4, 'batch_size': 2, **keywords}
  return images.build(path=str(path), **options)


def refusal(path, **keywords):
  with pytest.raises(UserError) as error:
    build(path, **keywords)
  return one_line(error)


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
  files = tree(('train', 'valid', 'test'))
  source = build(write(tmp_path / 'pets', files))
  assert source.meta['name'] == 'pets: PNG images'
  assert source.meta['classes'] == ['cat', 'dog', 'owl']
  assert source.meta['sizes'] == dict.fromkeys(('train', 'valid', 'test'), 12)
  for split, (pixels, labels) in source.splits.items():
    names = sorted(name for name in files if name.startswith(split))
    classes = [name.split('/')[1] for name in names]
    assert [source.meta['classes'][k] for k in labels] == classes
    for name, found in zip(names, pixels, strict=True):
      with Image.open(io.BytesIO(files[name])) as image:
        np.testing.assert_array_equal(found, np.asarray(image))


@pytest.mark.parametrize('suffix', ['.tar', '.tar.gz', '.tar.xz', '.tar.bz2'])
def test_an_archive_is_the_same_as_its_folder(tmp_path, suffix):
  files = dict(reversed(tree().items()))  # in another order
  folder = write(tmp_path / 'pets', files)
  archive = pack(tmp_path / f'pets{suffix}', files)
  assert build(archive).meta == build(folder).meta


@pytest.mark.parametrize('prefix', ['pets-1.0/', './', './pets/'])
def test_an_archive_may_have_all_in_one_folder(tmp_path, prefix):
  files = {f'{prefix}{name}': content for name, content in tree().items()}
  files = {'.': None, prefix: None, **files, f'{prefix}README': b'pets'}
  folder = write(tmp_path / 'pets', tree())
  archive = pack(tmp_path / 'pets.tar.gz', files)
  assert build(archive).meta == build(folder).meta


@pytest.mark.parametrize('kind', [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_in_an_archive_is_what_it_leads_to(tmp_path, kind):
  path = pack(tmp_path / 'pets.tar', tree())
  same = tree()['train/cat/0.png']
  folder = write(tmp_path / 'pets', tree() | {'train/cat/link.png': same})
  with tarfile.open(path, 'a') as archive:
    member = tarfile.TarInfo('train/cat/link.png')
    member.type = kind
    hard = kind == tarfile.LNKTYPE
    member.linkname = 'train/cat/0.png' if hard else '0.png'
    archive.addfile(member)
  assert build(path).meta == build(folder).meta
  with tarfile.open(path, 'a') as archive:
    member.name, member.linkname = 'train/cat/lost.png', 'nowhere.png'
    archive.addfile(member)
  assert 'nowhere.png' in refusal(path)


def test_without_valid_images_are_held_out(tmp_path):
  source = build(write(tmp_path, tree()), num_valid=5)
  assert source.meta['sizes'] == {'train': 7, 'valid': 5, 'test': 12}
  other = build(tmp_path, num_valid=5, split_seed=1)
  assert other.meta['sha256']['test'] == source.meta['sha256']['test']
  assert other.meta['sha256']['valid'] != source.meta['sha256']['valid']


def test_the_name_tells_how_images_were_compressed(tmp_path):
  jpeg = write(tmp_path / 'a', tree(form='JPEG', suffix='.JPG'))
  assert build(jpeg).meta['name'] == 'a: JPEG images'
  # What counts is what is in the file.
  named = write(tmp_path / 'b', tree(form='JPEG'))
  assert build(named).meta['name'] == 'b: JPEG images'
  mixed = write(tmp_path / 'c', tree() | tree(('test',), 'JPEG'))
  assert build(mixed).meta['name'] == 'c: JPEG and PNG images'


def test_grey_images_stay_grey_unless_others_have_colours(tmp_path):
  grey = tree(grey=True)
  source = build(write(tmp_path / 'grey', grey))
  assert source.meta['shape'] == [6, 5, 1]
  mixed = grey | {'train/cat/0.png': image_of(0)}
  source = build(write(tmp_path / 'mixed', mixed))
  assert source.meta['shape'] == [6, 5, 3]
  pixels, _ = source.splits['test']
  assert (pixels == pixels[..., :1]).all()


def test_all_modes_of_8_bits_are_read(tmp_path):
  shape = np.arange(30, dtype=np.uint8).reshape(6, 5)
  grey = Image.fromarray(shape * 8)
  files = dict(tree())
  for k, mode in enumerate(('1', 'L', 'LA', 'RGBA', 'P')):
    file = io.BytesIO()
    transparency = {'transparency': b'\0' * 9} if mode == 'P' else {}
    grey.convert(mode).save(file, 'PNG', **transparency)
    files[f'test/cat/{k}.png'] = file.getvalue()
  pixels, _ = build(write(tmp_path, files)).splits['test']
  for k in range(1, 4):
    np.testing.assert_array_equal(pixels[k], np.stack([shape * 8] * 3, -1))
  assert set(np.unique(pixels[0]).tolist()) <= {0, 255}


def test_other_files_are_counted_and_hidden_ones_are_none(tmp_path, caplog):
  write(tmp_path, tree())
  others = {
    'README.md': b'pets',
    'train/labels.csv': b'1',
    'train/cat/notes.txt': b'cats',
    'train/.DS_Store': b'1',
    'train/cat/._0.png': b'no image',
    '.cache/train/cow/0.png': b'no image',
    '__MACOSX/train/cat/._0.png': b'no image',
  }
  plain = build(tmp_path).meta
  write(tmp_path, others)
  with caplog.at_level(logging.INFO, 'hyperjax'):
    assert build(tmp_path).meta == plain
  assert (
    f'24 images, {len(others)} other files left out, such as' in caplog.text
  )
  for split in ('train', 'valid', 'test'):
    assert plain['sha256'][split] in caplog.text


DAMAGES = {
  'empty': (b'', ('empty', 'UnidentifiedImageError')),
  'text': (b'no image', ('UnidentifiedImageError',)),
  'cut': (image_of(5)[:-40], ('can be read',)),
  'cut jpeg': (image_of(5, form='JPEG')[:-60], ('can be read',)),
  'gif': (image_of(5, form='GIF'), ('UnidentifiedImageError',)),
  'deep': (
    encoded(np.zeros((6, 5), np.uint16)),
    ('more than 8 bits a channel',),
  ),
  'size': (image_of(5, size=(7, 5)), ('5 x 7 pixels, but',)),
}


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('damage', DAMAGES)
def test_a_bad_image_is_named(tmp_path, damage, packed):
  content, words = DAMAGES[damage]
  files = tree() | {'test/dog/2.png': content}
  if packed:
    path = pack(tmp_path / 'pets.tar.xz', files)
    where = f'{path}, test/dog/2.png: '
  else:
    path = write(tmp_path, files)
    where = f'{path}/test/dog/2.png: '
  message = refusal(path)
  assert message.startswith(where)
  assert any(word in message for word in words), message
  if damage == 'size':
    assert 'train/cat/0.png has 5 x 6 pixels' in message


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'train/0.png': image_of(0)}, 'train/0.png: an image that is not in'),
    ({'val/cat/0.png': image_of(0)}, 'val/cat/0.png: an image that is not in'),
    ({'train/cow/0.png': image_of(0)}, 'num_classes is 3, but'),
    ({'train/cow': None}, 'has 4 (cat, cow, dog, owl)'),
    ({'valid/cat/0.png': image_of(0)}, 'no images in valid/dog/'),
  ],
)
def test_a_folder_of_another_shape_is_refused(tmp_path, change, message):
  assert message in refusal(write(tmp_path, tree() | change))


@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_missing_class_or_split_is_named(tmp_path, split):
  def without(start):
    return {k: v for k, v in tree().items() if not k.startswith(start)}

  lacking = write(tmp_path / 'a', without(f'{split}/dog'))
  assert f'{lacking}: no images in {split}/dog/' in refusal(lacking)
  empty = write(
    tmp_path / 'b', without(f'{split}/dog') | {f'{split}/dog': None}
  )
  assert f'{empty}: no images in {split}/dog/' in refusal(empty)
  missing = write(tmp_path / 'c', without(split))
  assert f'{missing}: has no {split}/<class>/' in refusal(missing)


def test_a_folder_without_images_is_refused(tmp_path):
  assert 'has no train/<class>/' in refusal(tmp_path)
  write(tmp_path, {'train/cat/a.txt': b'', 'test/cat': None})
  assert 'no images in train/cat/' in refusal(tmp_path, num_classes=1)


def test_a_path_that_is_none_is_refused(tmp_path):
  assert 'config.data.path is empty' in refusal('')
  message = refusal(tmp_path / 'nowhere')
  assert f'config.data.path: {tmp_path}/nowhere does not exist' in message
  assert 'config.data.path: ' in refusal('x' * 5000)


@pytest.mark.parametrize('suffix', ['.tar', '.tar.gz', '.tar.xz', '.tar.bz2'])
def test_a_broken_archive_is_refused(tmp_path, suffix):
  path = pack(tmp_path / f'pets{suffix}', tree())
  content = path.read_bytes()
  half = len(content) // 1024 * 512  # a .tar is cut off between two blocks
  for damaged in (content[:half], content[: half - 7], b'no archive', b''):
    path.write_bytes(damaged)
    message = refusal(path)
    assert message.startswith(f'{path}: neither a folder nor a whole tar')


@pytest.mark.slow
@pytest.mark.data('cifar10_jpeg')
def test_the_real_jpeg_copy_of_cifar10():
  path = REAL_FILES / 'cifar10_jpeg' / 'cifar10_jpeg.tar.xz'
  source = images.build(path=str(path), batch_size=128, num_classes=10)
  assert source.meta['name'] == 'cifar10_jpeg: JPEG images'
  assert source.meta['shape'] == [32, 32, 3]
  assert source.meta['sizes'] == {
    'train': 45_000,
    'valid': 5_000,
    'test': 10_000,
  }
  _, labels = source.splits['test']
  assert np.bincount(labels).tolist() == [1_000] * 10
  # What is published of CIFAR-10: 125.3, 123.0, 113.9 and 63.0, 62.1, 66.7.
  np.testing.assert_allclose(source.meta['mean'], [125.3, 123, 113.9], atol=0.3)
  np.testing.assert_allclose(source.meta['std'], [63, 62.1, 66.7], atol=1)


def test_an_image_that_claims_too_many_pixels_is_not_decoded(
  tmp_path, monkeypatch
):
  files = dict(tree())
  content = bytearray(files['train/cat/0.png'])
  content[16:24] = struct.pack('>II', 9_000, 9_000)
  content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
  files['train/cat/0.png'] = bytes(content)
  message = refusal(write(tmp_path, files))
  assert '0.png: no image that can be read' in message
  assert '9000 x 9000 pixels are too many' in message


def test_images_beyond_memory_are_refused(tmp_path, monkeypatch):
  def fail(*arguments):
    raise MemoryError

  write(tmp_path, tree())
  monkeypatch.setattr(image_files.np, 'empty', fail)
  assert '24 such images do not fit into memory' in refusal(tmp_path)


def test_the_shape_that_the_config_promises_is_checked(tmp_path):
  write(tmp_path, tree())
  source = build(tmp_path, image_shape=(6, 5, 3))
  assert source.meta['shape'] == [6, 5, 3]

  with pytest.raises(UserError) as error:
    build(tmp_path, image_shape=(6, 5, 1))

  words = 'config.data.image_shape is (6, 5, 1), but the images of '
  assert words in one_line(error)


def test_a_relative_path_may_lie_under_the_data_folder(tmp_path, monkeypatch):
  write(tmp_path / 'root' / 'mine', tree())
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(tmp_path / 'root'))
  assert build('mine').meta['name'] == 'mine: PNG images'
  # What is beside the user comes first.
  monkeypatch.chdir(tmp_path)
  write(tmp_path / 'mine', tree(grey=True))
  assert build('mine').meta['shape'] == [6, 5, 1]
