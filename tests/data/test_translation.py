import base64
import collections
import functools
import itertools
import json
import logging
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.data import cached, length_buckets, translation, word_pieces
from hyperjax.data.length_buckets import GROUP
from hyperjax.data.word_pieces import END, PAD
from hyperjax.errors import UserError

NOUNS = 'cat', 'dog', 'house', 'river', 'garden', 'teacher', 'apple', 'street'
NOMS = 'chat', 'chien', 'maison', 'fleuve', 'jardin', 'maître', 'pomme', 'rue'


def make_pairs(count, seed=0, longest=12):
  """Pairs that are all different, of 1 to `longest` words and a number."""
  draws, pairs = np.random.default_rng(seed), []
  for k in range(count):
    words = draws.integers(len(NOUNS), size=draws.integers(1, longest + 1))
    source = ' '.join(NOUNS[word] for word in words)
    target = ' '.join(NOMS[word] for word in words[: 1 + len(words) // 2])
    pairs.append((f'{seed}{k:03} {source}', f'{seed}{k:03} {target}'))
  return pairs


def save(folder, **splits):
  folder.mkdir(exist_ok=True)
  for split, pairs in splits.items():
    for side, language in enumerate(('en', 'fr')):
      text = ''.join(f'{pair[side]}\n' for pair in pairs)
      (folder / f'{split}.{language}').write_text(text, encoding='utf-8')
  return folder


def save_all(folder, count=200):
  return save(
    folder,
    train=make_pairs(count),
    val=make_pairs(11, 1),
    test=make_pairs(9, 2, longest=30),
  )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('HYPERJAX_CACHE_DIR', str(tmp_path / 'cache'))
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  return tmp_path / 'cache'


def build(path, **options):
  options = {
    'tokens_per_batch': 128,
    'batch_size': 2,
    'vocab_size': 60,
    'num_buckets': 4,
    **options,
  }
  return translation.build(path=str(path), **options)


def refusal(*arguments, **options):
  with pytest.raises(UserError) as error:
    build(*arguments, **options)
  message = str(error.value)
  assert message and '\n' not in message
  return message


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp('corpus')
  before = os.environ.get('HYPERJAX_CACHE_DIR')
  os.environ['HYPERJAX_CACHE_DIR'] = str(folder / 'cache')
  try:
    return build(save_all(folder / 'data'))
  finally:
    os.environ.pop('HYPERJAX_CACHE_DIR')
    if before is not None:
      os.environ['HYPERJAX_CACHE_DIR'] = before


@functools.cache
def compiled(source):
  return jax.jit(source.batch)


def run_epoch(source, epoch, seed=0):
  """The batches of an epoch, NumPy, cut out of the windows."""
  batches, first = [], epoch * source.batches_per_epoch
  while len(batches) < source.batches_per_epoch:
    step = first + len(batches)
    arrays, count = source.window(np.uint32(seed), step)
    for k in range(step, step + count):
      batch = compiled(source)(arrays, jnp.uint32(seed), jnp.int32(k))
      batches.append(jax.tree.map(np.asarray, batch))
  assert len(batches) == source.batches_per_epoch
  return batches


def pairs_of(source, batch):
  """The texts of a batch's rows, but for those of padding; all checked."""
  pairs = []
  for row in zip(batch['source'], batch['target'], strict=True):
    if not any(side.any() for side in row):
      continue
    for side in row:
      end = side.tolist().index(END)
      assert (side[:end] != PAD).all()
      assert (side[end + 1 :] == PAD).all()
    pairs.append(tuple(source.pieces.decode(side) for side in row))
  return pairs


# Training batches.


def test_each_pair_comes_once_an_epoch(source):
  expected = sorted(make_pairs(200))
  orders = []
  for epoch in range(3):
    batches = run_epoch(source, epoch)
    pairs = [pairs_of(source, batch) for batch in batches]
    assert all(pairs)  # no batch is empty
    found = [pair for batch in pairs for pair in batch]
    assert sorted(found) == expected
    orders.append(found)
  assert orders[0] != orders[1] != orders[2]


def test_only_the_last_batch_of_a_bucket_has_empty_rows(source):
  short = collections.Counter()
  for batch in run_epoch(source, 0):
    empty = ~batch['source'].any(1)
    np.testing.assert_array_equal(empty, ~batch['target'].any(1))
    assert (np.diff(empty.astype(int)) >= 0).all()  # they are the last rows
    if empty.any():
      short[batch['source'].shape] += 1
  assert short
  assert set(short.values()) == {1}


def test_a_bucket_has_one_shape(source):
  shapes = {
    (batch['source'].shape, batch['target'].shape)
    for batch in run_epoch(source, 0)
  }
  assert len(shapes) == len(source.buckets) >= 3
  lengths = np.asarray(source.splits['train'].lengths)
  below = 0
  for bucket in source.buckets:
    inside = lengths[bucket.members]
    shape = bucket.rows, bucket.widths[0]
    assert (shape, (bucket.rows, bucket.widths[1])) in shapes
    for side, width in enumerate(bucket.widths):
      assert width % 4 == 0
      assert 0 <= width - inside[:, side].max() < 4
    assert bucket.rows == max(2, 128 // max(bucket.widths) // 2 * 2)
    assert inside.max(1).min() > below
    below = inside.max()


def test_a_batch_depends_on_seed_and_step_alone(source, tmp_path):
  again = build(save_all(tmp_path / 'data'))
  epochs = [run_epoch(source, epoch, seed=5) for epoch in range(2)]
  batches = [batch for epoch in epochs for batch in epoch]
  for step in (len(batches) - 1, 0, 7, source.batches_per_epoch, 3):
    arrays, _ = again.window(np.uint32(5), step)
    batch = again.batch(arrays, jnp.uint32(5), jnp.int32(step))
    for name, value in batches[step].items():
      np.testing.assert_array_equal(batch[name], value)


def test_another_seed_has_other_batches_of_the_same_shapes(source):
  epochs = [run_epoch(source, 1, seed) for seed in (0, 1, 2**32 - 1)]
  shapes = [[batch['source'].shape for batch in epoch] for epoch in epochs]
  assert shapes[0] == shapes[1] == shapes[2]
  assert shapes[0] != [b['source'].shape for b in run_epoch(source, 0)]
  pairs = [[pairs_of(source, batch) for batch in epoch] for epoch in epochs]
  assert pairs[0] != pairs[1] != pairs[2]


def test_a_window_ends_with_its_group(source):
  step, sizes = 0, collections.Counter()
  while step < 2 * source.batches_per_epoch:
    arrays, count = source.window(np.uint32(0), step)
    assert 1 <= count <= GROUP
    assert arrays['first'] == step
    for k in range(count):
      other, left = source.window(np.uint32(0), step + k)
      assert left == count - k
      for name, value in arrays.items():
        np.testing.assert_array_equal(other[name], value)
    # What is behind the group is empty.
    assert not arrays['source'][:, count:].any()
    sizes[count] += 1
    step += count
  assert step == 2 * source.batches_per_epoch
  assert sizes[GROUP] >= 2
  assert len(sizes) > 1


def test_the_arrays_of_a_window(source):
  for seeds, count in ((np.uint32(7), 1), (np.arange(3), 3), ([9], 1)):
    arrays, _ = source.window(seeds, 2)
    assert arrays['first'].shape == ()
    assert arrays['first'].dtype == np.int32
    assert arrays['seeds'].shape == (count,)
    assert arrays['seeds'].dtype == np.uint32
    for name in ('source', 'target'):
      assert arrays[name].shape[:2] == (count, GROUP)
      assert arrays[name].ndim == 4
      assert arrays[name].dtype == np.int32


def test_seeds_side_by_side_have_the_batches_that_they_have_alone(source):
  seeds, step = np.array([4, 0, 2**32 - 1], np.uint32), 5
  arrays, count = source.window(seeds, step)
  for k in range(step, step + count):
    side_by_side = jax.jit(jax.vmap(source.batch, (None, 0, None)))(
      arrays, jnp.asarray(seeds), jnp.int32(k)
    )
    for place, seed in enumerate(seeds):
      alone, _ = source.window(seed, k)
      batch = source.batch(alone, jnp.uint32(seed), jnp.int32(k))
      for name, value in batch.items():
        np.testing.assert_array_equal(side_by_side[name][place], value)


# Buckets.


@pytest.mark.parametrize('trial', range(20))
def test_no_other_buckets_have_less_padding(trial):
  rng = np.random.default_rng(trial)
  longest = rng.integers(1, 40, rng.integers(1, 60))
  most = int(rng.integers(1, 5))
  *rest, last = sorted({-(-n // 4) * 4 for n in longest.tolist()})
  found = length_buckets.boundaries(longest, most)

  def positions(bounds):
    return sum(min(b for b in bounds if b >= n) for n in longest)

  assert len(found) <= most
  assert positions(found) == min(
    positions([*chosen, last])
    for count in range(most)
    for chosen in itertools.combinations(rest, count)
  )


def test_every_pair_is_in_one_bucket():
  lengths = np.random.default_rng(0).integers(1, 101, (20_000, 2))
  buckets = length_buckets.make_buckets(lengths, 5, 1_000, 8)
  assert len(buckets) == 5
  members = np.concatenate([bucket.members for bucket in buckets])
  assert sorted(members) == list(range(20_000))
  for bucket in buckets:
    assert bucket.rows % 8 == 0
    assert bucket.rows == 8 or bucket.rows * max(bucket.widths) <= 1_000


def test_equal_lengths_are_one_bucket():
  lengths = np.full((10, 2), [7, 3])
  [bucket] = length_buckets.make_buckets(lengths, 6, 20, 4)
  assert (bucket.rows, bucket.widths, bucket.num_batches) == (4, (8, 4), 3)


# Evaluation.


@pytest.mark.parametrize('batch_size', [1, 4, 9, 40])
def test_a_pass_has_each_pair_once_from_the_shortest(source, batch_size):
  batches = source.eval('test', batch_size)
  assert len(list(batches)) == len(batches) == -(-9 // batch_size)
  found, lengths = [], []
  for batch in batches:
    assert batch['source'].shape == batch['target'].shape
    assert batch['source'].shape[0] == batch_size
    assert batch['source'].shape[1] % 8 == 0
    assert batch['source'].dtype == batch['target'].dtype == np.int32
    found += pairs_of(source, batch)
    both = np.maximum(
      (batch['source'] != PAD).sum(1), (batch['target'] != PAD).sum(1)
    )
    lengths += both[both > 0].tolist()
  assert lengths == sorted(lengths)
  texts = source.texts('test')
  assert texts == make_pairs(9, 2, longest=30)
  assert found == [texts[place] for place in batches.order]
  for k in (-1, len(batches)):
    with pytest.raises(IndexError):
      batches[k]


def test_other_splits_are_refused(source):
  for ask in (source.texts, lambda split: source.eval(split, 3)):
    with pytest.raises(UserError) as error:
      ask('tset')
    assert str(error.value) == (
      "config.eval.split: no split 'tset'; known: train, valid, test"
    )
  assert source.eval_protocol(3) == 'every sentence once, teacher-forced'


# What is kept, and meta.


def test_meta_is_plain_json_and_has_the_pieces(source, tmp_path):
  meta = json.loads(json.dumps(source.meta))
  assert meta == source.meta
  assert meta['languages'] == ['en', 'fr']
  assert meta['sizes'] == {'train': 200, 'valid': 11, 'test': 9}
  assert meta['left_out'] == {'train': {}, 'valid': {}, 'test': {}}
  assert len(set(meta['sha256'].values())) == 3
  assert meta['vocab_size'] == 60
  pieces = translation.pieces_of(meta)
  assert pieces.model == source.pieces.model == base64.b64decode(meta['pieces'])
  targets = pieces.encode([target for _, target in make_pairs(11, 1)])
  assert meta['tokens']['valid'] == sum(len(ids) + 1 for ids in targets)
  assert not hasattr(source, 'arrays')
  again = build(save_all(tmp_path / 'data'))
  assert again.meta | {'name': ''} == source.meta | {'name': ''}


def test_long_and_empty_pairs(tmp_path):
  long = ('cat ' * 40, 'chat'), ('dog', 'chien ' * 40)
  empty = ('', 'chat'), ('dog', ' '), ('', '')
  folder = save(
    tmp_path / 'data',
    train=[*make_pairs(100), *long, *empty, *empty],
    val=[*long, *make_pairs(3, 1), *empty],
  )
  source = build(folder, max_length=36)
  assert source.meta['sizes'] == {'train': 100, 'valid': 5}
  assert source.meta['left_out'] == {
    'train': {'over 36 pieces': 2, 'with an empty side': 6},
    'valid': {'with an empty side': 3},
  }
  assert source.texts('train') == make_pairs(100)
  assert len(source.texts('valid')) == 5
  found = [p for b in run_epoch(source, 0) for p in pairs_of(source, b)]
  assert sorted(found) == sorted(make_pairs(100))
  assert max(map(max, (b.widths for b in source.buckets))) <= 36
  assert max(b['source'].shape[1] for b in source.eval('valid', 2)) > 36
  # The end counts.
  lengths = np.asarray(source.splits['train'].lengths)
  most = int(lengths.max())
  count = int((lengths.max(1) == most).sum())
  source = build(folder, max_length=most - 1)
  assert source.meta['left_out']['train'] == {
    f'over {most - 1} pieces': 2 + count,
    'with an empty side': 6,
  }


def test_only_training_pairs_make_the_pieces(source, tmp_path):
  folder = save(
    tmp_path / 'data', train=make_pairs(200), val=[('ZQ', 'QZ')] * 50
  )
  other = build(folder)
  assert other.pieces.model == source.pieces.model
  assert other.pieces.decode(other.pieces.encode(['ZQ'])[0]) != 'ZQ'
  folder = save(tmp_path / 'data', train=[*make_pairs(200), ('ZQ', 'QZ')])
  assert build(folder).pieces.model != source.pieces.model


def test_a_split_without_pairs_is_refused(tmp_path):
  folder = save(tmp_path / 'data', train=make_pairs(200), val=[('', 'x')])
  assert 'the valid split has no pair' in refusal(folder)
  folder = save(tmp_path / 'data', val=make_pairs(3))
  assert 'the train split has no pair' in refusal(folder, max_length=1)


def test_a_tab_separated_file(tmp_path):
  pairs = [(s, f'{t} {n}') for s, t in make_pairs(300) for n in ('un', 'deux')]
  path = tmp_path / 'pairs.tsv'
  path.write_text(''.join(f'{s}\t{t}\tCC-BY {s}\n' for s, t in pairs))
  source = build(path)
  assert sum(source.meta['sizes'].values()) == 600
  texts = {split: source.texts(split) for split in source.splits}
  assert sorted(p for split in texts.values() for p in split) == sorted(pairs)
  sources = [{s for s, _ in split} for split in texts.values()]
  assert sum(map(len, sources)) == len(set.union(*sources)) == 300
  assert min(map(len, sources)) >= 5


# Options.


@pytest.mark.parametrize(
  'field',
  [
    *('tokens_per_batch', 'batch_size', 'vocab_size', 'max_length'),
    'num_buckets',
  ],
)
def test_options_below_one_are_refused(tmp_path, field):
  folder = save_all(tmp_path / 'data')
  assert refusal(folder, **{field: 0}).startswith(f'config.data.{field} is 0;')


def test_vocabularies_out_of_reach_are_refused(tmp_path):
  folder = save_all(tmp_path / 'data')
  assert refusal(folder, vocab_size=5_000).startswith(
    'config.data.vocab_size is 5,000, but the training text gives at most'
  )
  assert not list((tmp_path / 'cache').iterdir())


def test_a_path_must_be_given(tmp_path):
  assert 'config.data.path' in refusal('')
  assert 'config.data.path' in refusal(tmp_path, dir=str(tmp_path))
  assert (
    refusal(tmp_path / 'no') == f'{tmp_path / "no"}: No such file or directory'
  )
  folder = save_all(tmp_path / 'data')
  assert build('', dir=str(folder)).meta == build(folder).meta


def test_other_languages_and_a_root_of_all_data(tmp_path, monkeypatch):
  folder = save_all(tmp_path / 'data')
  for path in folder.iterdir():
    path.rename(path.with_suffix({'.en': '.aa', '.fr': '.bb'}[path.suffix]))
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(tmp_path))
  source = build('data', source_language='bb', target_language='aa')
  assert source.meta['languages'] == ['bb', 'aa']
  assert source.texts('valid') == [(t, s) for s, t in make_pairs(11, 1)]


def test_pieces_of_a_file(source, tmp_path):
  folder, file = save_all(tmp_path / 'data'), tmp_path / 'own.model'
  own = word_pieces.train(NOUNS * 9 + NOMS * 9 + ('0123456789',) * 9, 40)
  file.write_bytes(own.model)
  found = build(folder, pieces=str(file), vocab_size=40)
  assert found.pieces.model == own.model
  assert refusal(folder, pieces=str(file)) == (
    f'config.data.vocab_size is 60, but {file} has 40 pieces; give that number'
  )
  file.write_bytes(b'no model')
  assert f'{file}: not a sentencepiece' in refusal(folder, pieces=str(file))


# The cache.


def entries(cache):
  return sorted(path.name for path in cache.iterdir())


def test_what_was_encoded_is_not_encoded_again(tmp_path, cache, monkeypatch):
  folder = save_all(tmp_path / 'data')
  first = build(folder)
  names = entries(cache)
  assert [name.split('-')[0] for name in names] == ['pairs'] * 3 + ['pieces']

  def forbidden(*arguments):
    raise AssertionError

  with monkeypatch.context() as patch:
    patch.setattr(word_pieces, 'train', forbidden)
    patch.setattr(word_pieces.WordPieces, 'encode', forbidden)
    again = build(folder, tokens_per_batch=200, num_buckets=2)
  assert again.meta == first.meta
  assert entries(cache) == names
  build(folder, max_length=20)  # is another training split alone
  assert len(entries(cache)) == 5


def test_the_arrays_stay_on_the_disk(tmp_path, monkeypatch):
  source = build(save_all(tmp_path / 'data', 300))
  pairs = source.splits['train']
  for array in (pairs.pieces, pairs.starts, pairs.lengths):
    assert isinstance(array, np.memmap)
  assert pairs.pieces.dtype == np.uint16
  read = []

  class Watched:
    def __getitem__(self, places):
      read.append(np.ravel(places))
      return pairs.pieces[places]

  watched = type(pairs)(
    Watched(), pairs.starts, pairs.lengths, pairs.left_out, pairs.sha256
  )
  monkeypatch.setitem(source.splits, 'train', watched)
  arrays, _ = source.window(np.uint32(0), 3)
  places = np.concatenate(read)
  asked = sum((arrays[name] != PAD).sum() for name in ('source', 'target'))
  assert len(places) == asked < len(pairs.pieces) / 2


@pytest.mark.parametrize(
  'damage',
  [
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: path.write_bytes(b'\7' + path.read_bytes()[1:]),
    lambda path: path.unlink(),
    lambda path: path.write_bytes(b''),
    lambda path: path.write_bytes(b'[' * 100_000),
    lambda path: path.write_bytes(b'{"report": {}, "files": 5}'),
  ],
)
@pytest.mark.parametrize(
  'name', ['pieces', 'starts', 'lengths', 'report.json', 'model']
)
def test_a_damaged_entry_is_made_anew(tmp_path, cache, caplog, name, damage):
  folder = save_all(tmp_path / 'data')
  meta = build(folder).meta
  [path] = cache.glob(
    'pieces-*/model' if name == 'model' else f'pairs-train-*/{name}'
  )
  content, names = path.read_bytes(), entries(cache)
  damage(path)
  with caplog.at_level(logging.WARNING, 'hyperjax'):
    source = build(folder)
  assert 'damaged' in caplog.text
  assert source.meta == meta
  assert path.read_bytes() == content
  assert entries(cache) == names


def test_a_changed_report_is_damage(cache):
  def write(open_file):
    with open_file('file') as file:
      file.write(b'content')
    return {'count': 4}

  cached.fetch('kind', [1], write)
  [path] = cache.glob('kind-*/report.json')
  path.write_text(path.read_text().replace('"count": 4', '"count": 5'))
  assert cached.fetch('kind', [1], write).report == {'count': 4}


def test_an_interrupted_entry_is_no_entry(tmp_path, cache, monkeypatch):
  folder = save_all(tmp_path / 'data')

  def interrupt(*arguments):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    # When all but the report of the training split is written.
    patch.setattr(cached, '_signature', interrupt)
    with pytest.raises(KeyboardInterrupt):
      build(folder)
  assert entries(cache) == []
  # One that could not even clean up is in no one's way.
  (cache / 'pairs-train-0.part-x').mkdir()
  assert build(folder).meta['sizes']['train'] == 200


def test_another_process_may_be_faster(cache):
  def write(open_file):
    with open_file('file') as file:
      file.write(b'mine')
    if not [path for path in cache.iterdir() if '.part-' not in path.name]:
      theirs = cached.fetch('kind', [1], write_theirs)
      assert theirs.read('file') == b'theirs'
    return {}

  def write_theirs(open_file):
    with open_file('file') as file:
      file.write(b'theirs')
    return {}

  assert cached.fetch('kind', [1], write).read('file') == b'theirs'
  assert len(entries(cache)) == 1


def test_without_a_cache_all_stays_in_memory(tmp_path, monkeypatch, caplog):
  folder = save_all(tmp_path / 'data')
  first = build(folder)
  (tmp_path / 'file').write_text('in the way')
  monkeypatch.setenv('HYPERJAX_CACHE_DIR', str(tmp_path / 'file' / 'x'))
  with caplog.at_level(logging.WARNING, 'hyperjax'):
    source = build(folder)
  assert 'HYPERJAX_CACHE_DIR' in caplog.text
  assert not isinstance(source.splits['train'].pieces, np.memmap)
  assert source.meta == first.meta
  for name, value in source.window(np.uint32(1), 6)[0].items():
    np.testing.assert_array_equal(value, first.window(np.uint32(1), 6)[0][name])


def test_the_cache_is_in_the_home_by_default(monkeypatch):
  monkeypatch.delenv('HYPERJAX_CACHE_DIR')
  monkeypatch.setenv('HOME', '/home/x')
  assert cached.root() == pathlib.Path('/home/x/.cache/hyperjax')
