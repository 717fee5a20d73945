import functools
import hashlib
import logging
import math
import os
import pathlib
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.data import stdlib, text
from hyperjax.errors import UserError

# (N, B, T): symbols of the training text, streams, length of a window.
TRAINING = [
  (2, 1, 1),  # the shortest text there is
  (7, 2, 3),  # N - 1 == B * T: one window, one offset
  (12, 2, 3),  # one short of two windows
  (13, 2, 3),  # N - 1 == 2 * B * T: one window is given up for the offsets
  (16, 2, 3),  # N - 1 == 2 * B * T + T: two windows
  (31, 5, 1),
  (127, 7, 3),
  (500, 1, 13),
  (1001, 10, 100),
]
# (N, S, T): symbols of the split, streams, length of a window.
EVALUATION = [
  (2, 1, 1),
  (2, 1, 9),
  (2, 5, 3),  # one prediction, five streams
  (11, 1, 10),
  (12, 1, 10),
  (100, 1, 7),
  (100, 99, 1),  # as many streams as predictions
  (100, 3, 40),
  (50, 60, 7),  # more streams than predictions
  (601, 2, 100),  # streams of three windows, warmed up on five
  (1001, 2, 500),
  (1002, 2, 500),
  (1700, 3, 499),
  (1703, 3, 501),
  (2000, 4, 600),  # one window warms up
  (2500, 7, 13),
  (3001, 16, 10),
  (4999, 5, 1),
]
KEYWORDS = {'batch_size': 1, 'sequence_length': 1, 'vocab_size': 256}


@functools.cache
def make_source(n, batch_size=1, sequence_length=1):
  return text.TextSource(
    {'train': b'a' * n, 'valid': b'ab', 'test': b'ab'},
    name='toy',
    batch_size=batch_size,
    sequence_length=sequence_length,
    vocab_size=256,
  )


@functools.cache
def compiled(source):
  return jax.jit(jax.vmap(source.batch, (None, None, 0)))


def places(source, n, seed, steps):
  """Batches over a text in which each symbol is its own place."""
  batches = compiled(source)(jnp.arange(n), jnp.uint32(seed), jnp.array(steps))
  return jax.tree.map(np.asarray, batches)


def letters(*, size=20_000, seed=0):
  return bytes(random.Random(seed).choices(b'abcdefgh \n', k=size))


def write(folder, files):
  for name, content in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return folder


def one_line(error):
  message = str(error.value)
  assert message and '\n' not in message
  return message


# Training batches.


@pytest.mark.parametrize(('n', 'b', 't'), TRAINING)
def test_streams_go_on_where_their_last_window_ended(n, b, t):
  source = make_source(n, b, t)
  windows = source.windows_per_epoch
  assert windows >= 1
  num_epochs = 3
  batches = places(source, n, 5, range(num_epochs * windows))
  inputs, targets = batches['inputs'], batches['targets']
  assert inputs.shape == targets.shape == (num_epochs * windows, b, t)
  assert inputs.dtype == targets.dtype == np.int32
  assert batches['fresh'].shape == (num_epochs * windows, b)
  np.testing.assert_array_equal(targets, inputs + 1)
  inputs = inputs.reshape(num_epochs, windows, b, t)
  fresh = batches['fresh'].reshape(num_epochs, windows, b)
  assert fresh.dtype == bool
  assert fresh[:, 0].all()
  assert not fresh[:, 1:].any()
  for epoch in inputs:
    streams = epoch.swapaxes(0, 1).reshape(b, windows * t)
    # Within a stream, and from a stream to the next, place follows place: so
    # streams are contiguous and share no prediction.
    np.testing.assert_array_equal(
      streams.ravel(), streams[0, 0] + np.arange(b * windows * t)
    )
    assert streams.min() >= 0
    assert streams.max() <= n - 2  # the last symbol is a target alone


@pytest.mark.parametrize(('n', 'b', 't'), TRAINING)
def test_an_epoch_covers_all_but_a_window_and_the_room_for_offsets(n, b, t):
  source = make_source(n, b, t)
  left = n - 1 - source.windows_per_epoch * b * t
  assert 0 <= left < b * t + t


@pytest.mark.parametrize(('n', 'b', 't'), [(12, 2, 3), (16, 2, 3)])
def test_all_offsets_that_fit_are_drawn(n, b, t):
  source = make_source(n, b, t)
  windows = source.windows_per_epoch
  room = n - windows * b * t
  steps = windows * np.arange(60 * room)
  offsets = places(source, n, 0, steps)['inputs'][:, 0, 0]
  assert set(offsets.tolist()) == set(range(room))


def offsets_of(seed, num_epochs=6):
  source = make_source(5_003, 4, 50)
  steps = source.windows_per_epoch * np.arange(num_epochs)
  return places(source, 5_003, seed, steps)['inputs'][:, 0, 0].tolist()


def test_each_epoch_starts_at_an_offset_of_its_own():
  assert len(set(offsets_of(seed=1))) > 4


def test_each_seed_has_offsets_of_its_own():
  pairs = zip(offsets_of(seed=1), offsets_of(seed=2), strict=True)
  assert sum(a != b for a, b in pairs) > 4


def test_offsets_are_reproducible():
  expected = offsets_of(seed=7)
  make_source.cache_clear()
  assert offsets_of(seed=7) == expected


@pytest.mark.parametrize(
  ('n', 'b', 't'), [(41, 2, 10), (61, 2, 10), (64, 3, 7), (5_001, 4, 50)]
)
def test_offsets_reach_over_a_window_where_the_text_has_several(n, b, t):
  source = make_source(n, b, t)
  assert source.num_offsets > t
  assert n - 1 - source.windows_per_epoch * b * t == source.num_offsets - 1


def test_a_batch_is_a_pure_function_of_seed_and_step():
  n, seed = 301, 3
  source = make_source(n, 3, 5)
  steps = list(range(2 * source.windows_per_epoch + 1))
  expected = places(source, n, seed, steps)
  arrays, jitted = jnp.arange(n), jax.jit(source.batch)
  for step in random.Random(0).sample(steps, len(steps)):
    batch = jitted(arrays, jnp.uint32(seed), jnp.int32(step))
    for name, value in expected.items():
      np.testing.assert_array_equal(batch[name], value[step])
  plain = source.batch(arrays, seed, 20)
  for name, value in expected.items():
    np.testing.assert_array_equal(plain[name], value[20])
    assert plain[name].dtype == value.dtype


@pytest.mark.parametrize('seed', [2**31, 2**32 - 1])
def test_large_seeds_are_seeds(seed):
  # The train step closes over the seed as a number of Python's.
  source = make_source(301, 3, 5)
  batch = source.batch(jnp.arange(301), seed, 3)
  expected = places(source, 301, seed, [3] * 39)
  np.testing.assert_array_equal(batch['inputs'], expected['inputs'][0])


def test_batches_hold_the_symbols_of_the_text():
  content = letters(size=997)
  source = text.TextSource(
    {'train': content, 'valid': b'ab', 'test': b'ab'},
    name='toy',
    batch_size=4,
    sequence_length=10,
    vocab_size=10,
  )
  arrays = source.arrays()
  assert arrays.dtype == jnp.uint8
  alphabet = bytes(source.meta['alphabet'])
  steps = jnp.arange(source.windows_per_epoch)
  batches = compiled(source)(arrays, jnp.uint32(0), steps)
  for name in ('inputs', 'targets'):
    streams = np.swapaxes(batches[name], 0, 1).reshape(4, -1)
    for symbols in streams.tolist():
      assert bytes(alphabet[symbol] for symbol in symbols) in content


@pytest.mark.parametrize(('b', 't'), [(2, 3), (3, 2), (100, 7), (1, 50)])
def test_one_symbol_too_few_is_refused(b, t):
  make_source(b * t + 1, b, t)
  with pytest.raises(UserError) as error:
    make_source(b * t, b, t)
  message = one_line(error)
  assert f'config.data.batch_size {b}' in message
  assert f'config.data.sequence_length {t}' in message
  assert f'{b * t + 1:,}' in message


# Evaluation.


def eval_places(n, s, t, split='test'):
  """The batches [K, S, T] of a pass over a text of places."""
  source = make_source.__wrapped__(t + 1, 1, t)
  source.symbols = {split: np.arange(n)}
  batches = list(source.eval(split, s))
  assert len(batches) == len(source.eval(split, s))
  s = min(s, math.ceil((n - 1) / t))  # no stream without a window
  for batch in batches:
    assert batch['inputs'].shape == (s, t)
    assert batch['targets'].shape == (s, t)
    assert batch['mask'].shape == (s, t)
    assert batch['fresh'].shape == (s,)
    assert batch['inputs'].dtype == batch['targets'].dtype == np.int32
    assert batch['mask'].dtype == batch['fresh'].dtype == bool
  return {key: np.stack([b[key] for b in batches]) for key in batches[0]}


@pytest.mark.parametrize(('n', 's', 't'), EVALUATION)
def test_each_prediction_counts_once_and_in_order(n, s, t):
  batches = eval_places(n, s, t)
  by_stream = {
    key: batches[key].swapaxes(0, 1).reshape(batches[key].shape[1], -1)
    for key in ('inputs', 'targets', 'mask')
  }
  counted = by_stream['mask']
  # Stream after stream, window after window: the text from start to end.
  np.testing.assert_array_equal(by_stream['inputs'][counted], np.arange(n - 1))
  np.testing.assert_array_equal(by_stream['targets'][counted], np.arange(1, n))


@pytest.mark.parametrize(('n', 's', 't'), EVALUATION)
def test_streams_are_warm_before_they_count(n, s, t):
  batches = eval_places(n, s, t)
  for stream in range(batches['inputs'].shape[1]):
    inputs = batches['inputs'][:, stream].ravel()
    mask = batches['mask'][:, stream].ravel()
    fresh = batches['fresh'][:, stream]
    assert fresh[0]
    counted = np.flatnonzero(mask)
    if not len(counted):
      continue
    begin, end = counted[0], counted[-1] + 1
    cold = np.flatnonzero(fresh) * t  # where the carry is zero
    assert not ((cold > begin) & (cold < end)).any()
    cold = cold[cold <= begin].max()
    share_start = inputs[begin]
    assert begin - cold >= min(500, share_start)
    # What the carry has read since is the text right before the share.
    np.testing.assert_array_equal(
      inputs[cold:end], share_start - (begin - cold) + np.arange(end - cold)
    )


@pytest.mark.parametrize(('n', 's', 't'), EVALUATION)
def test_the_first_stream_starts_cold_at_the_start_of_the_text(n, s, t):
  batches = eval_places(n, s, t)
  mask, fresh = batches['mask'][:, 0], batches['fresh'][:, 0]
  begin = int(np.argmax(mask.any(axis=1)))
  assert fresh[begin]
  assert mask[begin, 0]
  assert batches['inputs'][begin, 0, 0] == 0
  assert not fresh[begin + 1 :].any()
  assert not mask[:begin].any()


def test_one_stream_is_one_contiguous_pass():
  batches = eval_places(1_234, 1, 100)
  assert len(batches['inputs']) == math.ceil(1_233 / 100)
  assert batches['fresh'].ravel().tolist() == [True] + 12 * [False]
  np.testing.assert_array_equal(
    batches['inputs'].ravel()[:1_233], np.arange(1_233)
  )
  np.testing.assert_array_equal(
    batches['mask'].ravel(), np.arange(1_300) < 1233
  )


def test_more_streams_make_a_pass_shorter():
  lengths = [len(eval_places(20_001, s, 50)['mask']) for s in (1, 2, 10, 40)]
  assert lengths == [400, 210, 50, 20]


@pytest.mark.parametrize('split', ['train', 'valid', 'test'])
def test_evaluation_reads_the_split_that_is_named(split):
  texts = {
    'train': letters(size=300, seed=1),
    'valid': letters(size=40, seed=2),
    'test': letters(size=41, seed=3),
  }
  source = text.TextSource(
    texts, name='toy', batch_size=2, sequence_length=7, vocab_size=256
  )
  batches = list(source.eval(split, 1))
  inputs = np.concatenate([b['inputs'][b['mask']] for b in batches])
  targets = np.concatenate([b['targets'][b['mask']] for b in batches])
  assert bytes(inputs.tolist()) == texts[split][:-1]
  assert bytes(targets.tolist()) == texts[split][1:]


def test_a_pass_can_be_indexed_and_repeated():
  whole = make_source(100, 1, 7).eval('train', 3)
  for _ in range(2):
    for k, batch in enumerate(whole):
      for name, value in whole[k].items():
        np.testing.assert_array_equal(batch[name], value)
  for k in (-1, len(whole)):
    with pytest.raises(IndexError):
      whole[k]


def test_an_unknown_split_is_refused():
  with pytest.raises(UserError) as error:
    make_source(10).eval('dev', 1)
  message = one_line(error)
  assert 'config.eval.split' in message
  assert "'dev'" in message
  assert 'train, valid, test' in message


def test_the_protocol_is_said_in_words():
  source = make_source(10)
  assert source.eval_protocol(1) == 'one contiguous pass'
  source.symbols = {'test': np.zeros(32 * source.sequence_length + 1)}
  assert source.eval_protocol(32).startswith('32 streams')
  assert source.eval_protocol(33).startswith('32 streams')


# Alphabets and texts that do not do.


def make(texts, **changes):
  return text.TextSource(texts, name='toy', **{**KEYWORDS, **changes})


def test_256_symbols_are_the_bytes_themselves():
  content = bytes(range(256)) * 2
  source = make({'train': content, 'valid': b'\xff\x00', 'test': b'zz'})
  assert source.symbols['train'].tolist() == list(content)
  assert source.symbols['valid'].tolist() == [255, 0]
  assert source.meta['alphabet'] == list(range(256))


def test_fewer_symbols_are_those_of_the_training_text_sorted():
  source = make(
    {'train': b'hello world', 'valid': b'wow', 'test': b'oh'}, vocab_size=8
  )
  assert bytes(source.meta['alphabet']) == b' dehlorw'
  assert source.symbols['valid'].tolist() == [7, 5, 7]
  assert source.symbols['test'].tolist() == [5, 3]
  assert source.symbols['train'].dtype == np.uint8


def test_meta_says_what_the_data_is():
  texts = {'train': b'hello', 'valid': b'ell', 'test': b'oh'}
  meta = make(texts).meta
  assert meta['name'] == 'toy'
  assert meta['sizes'] == {'train': 5, 'valid': 3, 'test': 2}
  assert meta['sha256'] == {
    split: hashlib.sha256(content).hexdigest()
    for split, content in texts.items()
  }


@pytest.mark.parametrize('vocab_size', [1, 7, 9, 255])
def test_a_wrong_vocabulary_size_is_refused(vocab_size):
  with pytest.raises(UserError) as error:
    make(
      {'train': b'hello world', 'valid': b'wow', 'test': b'oh'},
      vocab_size=vocab_size,
    )
  message = one_line(error)
  assert f'config.data.vocab_size is {vocab_size}' in message
  assert '8 symbols' in message


@pytest.mark.parametrize('split', ['valid', 'test'])
def test_a_symbol_that_training_lacks_is_refused(split):
  texts = {'train': b'abcabc', 'valid': b'abc', 'test': b'cab'}
  texts[split] = b'cabba!b?!'
  with pytest.raises(UserError) as error:
    make(texts, vocab_size=3)
  message = one_line(error)
  assert 'toy' in message
  assert f'byte 5 of the {split} text' in message
  assert "b'!'" in message
  assert 'one of 2 symbols' in message
  assert 'vocab_size=256' in message
  assert make(texts).meta['sizes'][split] == 9


@pytest.mark.parametrize('split', ['train', 'valid', 'test'])
@pytest.mark.parametrize('content', [b'', b'a'])
def test_a_split_without_a_prediction_is_refused(split, content):
  texts = {'train': b'ab', 'valid': b'ab', 'test': b'ab', split: content}
  with pytest.raises(UserError) as error:
    make(texts)
  message = one_line(error)
  assert f'the {split} text has {len(content)} symbols' in message


# Files and folders.


def build(path, **changes):
  return text.build(path=str(path), **{**KEYWORDS, **changes})


def decoded(source):
  return {split: symbols.tobytes() for split, symbols in source.symbols.items()}


@pytest.mark.parametrize('size', [40, 41, 59, 60, 61, 100, 1_000, 1_019])
def test_a_file_is_split_90_5_5_in_order(tmp_path, size):
  content = letters(size=size)
  path = tmp_path / 'book.txt'
  path.write_bytes(content)
  splits = decoded(build(path))
  assert list(splits) == ['train', 'valid', 'test']
  assert b''.join(splits.values()) == content
  for split, part in (('train', 0.9), ('valid', 0.05), ('test', 0.05)):
    assert abs(len(splits[split]) - part * size) <= 1


def test_the_home_folder_may_be_a_tilde(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'book.txt').write_bytes(letters(size=100))
  assert build('~/book.txt').meta['sizes']['train'] == 90


@pytest.mark.parametrize('size', [1, 2, 3, 10, 21])
def test_a_file_too_short_to_be_split_is_refused(tmp_path, size):
  path = tmp_path / 'book.txt'
  path.write_bytes(b'a' * size)
  with pytest.raises(UserError) as error:
    build(path)
  message = one_line(error)
  assert str(path) in message
  assert 'a prediction needs 2' in message


def test_an_empty_file_is_refused(tmp_path):
  path = tmp_path / 'book.txt'
  path.touch()
  with pytest.raises(UserError) as error:
    build(path)
  assert f'{path}: the file is empty' in one_line(error)


def test_a_missing_path_is_refused(tmp_path):
  path = tmp_path / 'nowhere'
  with pytest.raises(UserError) as error:
    build(path)
  message = one_line(error)
  assert 'config.data.path' in message
  assert f'{path} does not exist' in message


@pytest.mark.parametrize(
  'files',
  [
    {},
    {'empty.txt': b''},
    {'.hidden': b'text', '.git/config': b'text'},
    {'image.png': b'\x89PNG\0\0'},
  ],
)
def test_a_folder_without_text_is_refused(tmp_path, files):
  write(tmp_path, files)
  with pytest.raises(UserError) as error:
    build(tmp_path)
  assert f'{tmp_path}: no text' in one_line(error)


def numbered_files(count=30):
  """Names, some nested, with contents that can be told apart."""
  return {
    f'{"sub/deep/" if k % 3 else ""}file{k:02}.txt': b'<%02d>' % k * 10
    for k in range(count)
  }


def test_a_folder_is_all_its_text_files_nested_ones_too(tmp_path, caplog):
  files = numbered_files()
  write(tmp_path, files)
  write(
    tmp_path,
    {
      '.hidden.txt': b'HIDDEN' * 9,
      '.git/objects/a.txt': b'HIDDEN' * 9,
      'sub/.cache/b.txt': b'HIDDEN' * 9,
      'sub/c.npy': b'BINARY\0' * 9,
      'd.zip': b'\0BINARY' * 9,
      'empty.txt': b'',
    },
  )
  with caplog.at_level(logging.INFO, 'hyperjax'):
    source = build(tmp_path)
  joined = b''.join(decoded(source).values())
  assert len(joined) == sum(map(len, files.values()))
  for content in files.values():
    assert content in joined
  assert '31 files read, 2 left out' in caplog.text
  for split in ('train', 'valid', 'test'):
    assert source.meta['sha256'][split] in caplog.text


def test_files_are_in_the_order_of_a_hash_of_their_names(tmp_path):
  files = numbered_files()
  write(tmp_path, files)
  joined = b''.join(decoded(build(tmp_path)).values())
  names = sorted(files, key=lambda f: hashlib.sha256(f.encode()).digest())
  assert joined == b''.join(files[name] for name in names)
  assert names != sorted(names)  # each split is spread over the folder


def test_the_order_is_not_that_of_the_file_system(tmp_path, monkeypatch):
  files = numbered_files()
  first = write(tmp_path / 'first', files)
  second = write(tmp_path / 'second', dict(reversed(files.items())))
  expected = decoded(build(first))
  assert decoded(build(second)) == expected
  listing = pathlib.Path.rglob

  def shuffled(self, pattern):
    found = list(listing(self, pattern))
    random.Random(1).shuffle(found)
    return iter(found)

  monkeypatch.setattr(pathlib.Path, 'rglob', shuffled)
  assert decoded(build(first)) == expected


def test_a_file_with_a_name_that_is_not_unicode_is_read(tmp_path):
  write(tmp_path, {'a.txt': letters(size=100)})
  try:
    with open(os.fsencode(tmp_path) + b'/caf\xe9.txt', 'wb') as file:
      file.write(b'LATIN')
  except OSError:
    pytest.skip('this file system takes no such names')
  assert b'LATIN' in b''.join(decoded(build(tmp_path)).values())


def test_a_file_in_a_folder_that_can_not_be_read_is_named(
  tmp_path, monkeypatch
):
  write(tmp_path, {'a.txt': letters(size=100), 'locked.txt': b'text'})
  read = pathlib.Path.read_bytes

  def read_bytes(self):
    if self.name == 'locked.txt':
      raise PermissionError(13, 'Permission denied')
    return read(self)

  monkeypatch.setattr(pathlib.Path, 'read_bytes', read_bytes)
  with pytest.raises(UserError) as error:
    build(tmp_path)
  message = one_line(error)
  assert 'locked.txt' in message
  assert 'Permission denied' in message


NAMES = [
  ('train.txt', 'valid.txt', 'test.txt'),
  ('wiki.train.raw', 'wiki.val.raw', 'wiki.test.raw'),
  ('my-train', 'my-dev', 'my-test'),
  ('TRAIN.TXT', 'Validation.txt', 'Test.txt'),
  ('sub/train.txt', 'sub/valid.txt', 'sub/test.txt'),
]


@pytest.mark.parametrize('names', NAMES)
@pytest.mark.parametrize(
  'beside', [(), ('README.md',), ('readme', 'LICENSE'), ('.DS_Store',)]
)
def test_a_folder_of_named_splits_is_used_as_it_is(tmp_path, names, beside):
  texts = {'train': b'long ' * 9, 'valid': b'valid', 'test': b'the test'}
  files = dict(zip(names, texts.values(), strict=True))
  write(tmp_path, {**files, **{name: b'About.' for name in beside}})
  source = build(tmp_path)
  assert decoded(source) == texts
  assert list(source.symbols) == ['train', 'valid', 'test']


def test_an_empty_named_split_is_refused(tmp_path):
  write(tmp_path, {'train.txt': b'abc', 'valid.txt': b'', 'test.txt': b'ab'})
  with pytest.raises(UserError) as error:
    build(tmp_path)
  assert f'{tmp_path / "valid.txt"}: the file is empty' in one_line(error)


@pytest.mark.parametrize(
  'names',
  [
    ('train.txt', 'valid.txt'),
    ('train1.txt', 'train2.txt', 'test.txt'),
    ('a.txt', 'b.txt', 'c.txt'),
  ],
)
def test_any_other_folder_is_split_90_5_5(tmp_path, names):
  write(tmp_path, {name: letters(size=200) for name in names})
  size = 200 * len(names)
  sizes = build(tmp_path).meta['sizes']
  assert sizes['train'] == size * 90 // 100
  assert sum(sizes.values()) == size


def test_an_alphabet_may_be_given():
  texts = {'train': b'abab', 'valid': b'ba', 'test': b'cab'}
  keywords = {'name': 'x', 'batch_size': 1, 'sequence_length': 2}
  source = text.TextSource(texts, vocab_size=4, alphabet=b'dcba', **keywords)
  assert source.meta['alphabet'] == list(b'dcba')
  assert source.symbols['test'].tolist() == [1, 3, 2]
  with pytest.raises(ValueError, match="b'c' is not in the alphabet"):
    text.TextSource(texts, vocab_size=3, alphabet=b'abd', **keywords)


# The default text.


@pytest.fixture(scope='module')
def default_source():
  return text.build(batch_size=4, sequence_length=10, vocab_size=256)


@pytest.fixture(scope='module')
def default_files():
  files = stdlib.source_files()
  return {file.relative_to(stdlib.root()).as_posix(): file for file in files}


def test_the_default_text_is_split_90_5_5(default_source):
  sizes = default_source.meta['sizes']
  total = sum(sizes.values())
  assert abs(sizes['train'] - 0.9 * total) <= 1
  for split in ('valid', 'test'):
    assert abs(sizes[split] - 0.05 * total) <= 1
    assert 400_000 <= sizes[split] <= 800_000
  assert default_source.meta['name'] == (
    f'Python {stdlib.version()} standard library'
  )


def test_the_default_text_has_no_tests_and_no_installed_packages(default_files):
  assert {'os.py', 'json/decoder.py', 'asyncio/tasks.py'} <= set(default_files)
  for name in default_files:
    *folders, file = name.split('/')
    assert file.endswith('.py')
    assert not file.startswith('test_')
    assert not {'test', 'tests', 'idle_test'} & set(folders)
    assert not {'site-packages', 'dist-packages'} & set(folders)


def test_the_default_text_is_the_same_however_files_are_listed(
  default_source, default_files
):
  names = random.Random(0).sample(list(default_files), len(default_files))
  names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
  contents = [default_files[name].read_bytes() for name in names]
  joined = b''.join(content for content in contents if b'\0' not in content)
  assert joined == b''.join(decoded(default_source).values())


def test_a_python_without_its_sources_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(stdlib, 'root', lambda: tmp_path)
  with pytest.raises(UserError) as error:
    text.build(**KEYWORDS)
  message = one_line(error)
  assert str(tmp_path) in message
  assert '--config.data.path' in message


def test_named_splits_among_other_files_are_refused(tmp_path):
  names = ('train.txt', 'valid.txt', 'test.txt', 'notes.md')
  write(tmp_path, {name: b'some text' for name in names})
  with pytest.raises(UserError) as error:
    build(tmp_path)
  assert '1 more' in one_line(error)
