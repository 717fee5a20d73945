import gzip
import hashlib

import pytest

from hyperjax.data import multi30k
from hyperjax.errors import UserError

WORDS = [
  *(
    ('a man', 'un homme'),
    ('a woman', 'une femme'),
    ('two dogs', 'deux chiens'),
  ),
  *(
    ('the street', 'la rue'),
    ('a boy', 'un garçon'),
    ('the beach', 'la plage'),
  ),
]
STEMS = 'train', 'val', 'test_2016_flickr', 'test_2017_flickr'
OTHERS = 'test_2017_mscoco', 'test_2018_flickr'


def text(stem, language, count):
  side = multi30k.LANGUAGES.index(language)
  return ''.join(
    f'{WORDS[k % 6][side]} {stem} {k} {WORDS[k * k % 5][side]}\n'
    for k in range(count)
  ).encode()


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder with small files in place of the real ones."""
  sizes, hashes = {}, {}
  (tmp_path / 'data').mkdir()
  for number, split in enumerate(multi30k.SIZES):
    stem = multi30k.STEMS.get(split, split)
    sizes[split] = 60 - 10 * number
    for language in multi30k.LANGUAGES:
      content = text(stem, language, sizes[split])
      name = f'{stem}.{language}'
      hashes[name] = hashlib.sha256(content).hexdigest()
      path = tmp_path / 'data' / f'{name}.gz'
      path.write_bytes(gzip.compress(content))
  monkeypatch.setattr(multi30k, 'SIZES', sizes)
  monkeypatch.setattr(multi30k, 'SHA256', hashes)
  monkeypatch.setenv('HYPERJAX_CACHE_DIR', str(tmp_path / 'cache'))
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  return tmp_path / 'data'


def build(folder='', **options):
  options = {
    'tokens_per_batch': 100,
    'batch_size': 2,
    'vocab_size': 45,
    'num_buckets': 2,
    **options,
  }
  return multi30k.build(dir=str(folder), **options)


def refusal(folder=''):
  with pytest.raises(UserError) as error:
    build(folder)
  message = str(error.value)
  assert message and '\n' not in message
  return message


def test_the_splits_are_the_files(folder):
  source = build(folder)
  assert source.meta['name'] == 'Multi30k'
  assert source.meta['languages'] == ['en', 'fr']
  assert source.meta['sizes'] == multi30k.SIZES
  assert source.texts('valid')[1] == (
    'a woman val 1 a woman',
    'une femme val 1 une femme',
  )


def test_the_root_of_all_data_has_a_folder_for_it(folder, monkeypatch):
  meta = build(folder).meta
  root = folder.parent / 'root'
  root.mkdir()
  (root / 'multi30k').symlink_to(folder)
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(root))
  assert build().meta == meta


def test_files_may_be_decompressed(folder):
  meta = build(folder).meta
  for path in list(folder.iterdir()):
    path.with_suffix('').write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
  assert build(folder).meta == meta


def test_where_it_is_to_be_had(folder, monkeypatch):
  message = refusal()
  assert message.startswith('config.data.dir is empty')
  assert 'https://github.com/multi30k/dataset' in message
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(folder))  # no multi30k below it
  assert refusal() == message
  assert 'is not a folder' in refusal(folder / 'nowhere')


@pytest.mark.parametrize('stem', [*STEMS, *OTHERS])
@pytest.mark.parametrize('language', ['en', 'fr'])
def test_a_missing_or_damaged_file_is_named(folder, stem, language):
  path = folder / f'{stem}.{language}.gz'
  content = gzip.decompress(path.read_bytes())
  altered = content.replace(b'a', b'o', 1)
  for damaged, part in (
    (content[: content[:-1].rindex(b'\n') + 1], 'lines where Multi30k has'),
    (content + b'x\n', 'lines where Multi30k has'),
    (altered, 'altered: its sha256'),
  ):
    path.write_bytes(gzip.compress(damaged))
    message = refusal(folder)
    assert message.startswith(f'{path}: ')
    assert part in message
  path.write_bytes(path.read_bytes()[:-9])
  assert f'{path}: the compressed file is cut off' in refusal(folder)
  path.unlink()
  assert f'{path.with_suffix("")}[.gz]: No such file' in refusal(folder)


@pytest.mark.data('multi30k')
def test_the_real_files(tmp_path, monkeypatch):
  monkeypatch.setenv('HYPERJAX_CACHE_DIR', str(tmp_path))
  source = build(tokens_per_batch=2_500, vocab_size=4_000, num_buckets=6)
  assert source.meta['sizes'] == {
    'train': 29_000,
    'valid': 1_014,
    'test_2016_flickr': 1_000,
    'test_2017_flickr': 1_000,
    'test_2017_mscoco': 461,
    'test_2018_flickr': 1_071,
  }
  assert not any(source.meta['left_out'].values())
  assert source.texts('valid')[0][0] == (
    'A group of men are loading cotton onto a truck'
  )
  # Nearly every caption comes back from its pieces as it is.
  pairs = source.texts('test_2016_flickr')
  encoded = source.pieces.encode([target for _, target in pairs])
  same = [
    source.pieces.decode(ids) == target
    for ids, (_, target) in zip(encoded, pairs, strict=True)
  ]
  assert sum(same) >= 950
