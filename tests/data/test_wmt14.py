import subprocess
import sys
import types

import pytest

from hyperjax.data import wmt14
from hyperjax.errors import UserError

SIZES = {'train': 60, 'validation': 7, 'test': 5}
WORDS = [
  *(('cat', 'chat'), ('house', 'maison'), ('river', 'fleuve')),
  *(('garden', 'jardin'), ('evening', 'soirée')),
]


def pairs_of(split):
  return [
    tuple(
      f'{WORDS[k % 5][side]} {split} {k} {WORDS[k * k % 5][side]}'
      for side in (0, 1)
    )
    for k in range(SIZES[split])
  ]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
  monkeypatch.setenv('HYPERJAX_CACHE_DIR', str(tmp_path / 'cache'))
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)


def build(folder=''):
  return wmt14.build(
    dir=str(folder),
    tokens_per_batch=100,
    batch_size=2,
    vocab_size=42,
    num_buckets=2,
  )


def refusal(folder=''):
  with pytest.raises(UserError) as error:
    build(folder)
  message = str(error.value)
  assert message and '\n' not in message
  return message


def save(folder):
  folder.mkdir(parents=True)
  for split, stem in (
    *(('train', 'train'), ('validation', 'valid')),
    ('test', 'newstest2014'),
  ):
    for side, language in enumerate(('en', 'fr')):
      lines = ''.join(f'{pair[side]}\n' for pair in pairs_of(split))
      (folder / f'{stem}.{language}').write_text(lines)
  return folder


def prepare(root):
  """Writes a small set as tfds does, in array_record; returns its folder."""
  import tensorflow_datasets as tfds

  class Wmt14Translate(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [  # noqa: RUF012
      tfds.core.BuilderConfig(name='fr-en', version='1.0.0')
    ]

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.Translation(languages=('fr', 'en')),
      )

    def _split_generators(self, manager):
      return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
      for k, (english, french) in enumerate(pairs_of(split)):
        yield k, {'en': f' {english} ', 'fr': french}

  tfds.disable_progress_bar()
  builder = Wmt14Translate(
    data_dir=str(root), config='fr-en', file_format='array_record'
  )
  builder.download_and_prepare()
  return root / 'wmt14_translate' / 'fr-en' / '1.0.0'


def test_aligned_files(tmp_path, monkeypatch):
  source = build(save(tmp_path / 'root' / 'wmt14'))
  assert source.meta['sizes'] == {'train': 60, 'valid': 7, 'newstest2014': 5}
  assert source.meta['name'] == "WMT'14 English-French"
  assert source.texts('newstest2014') == pairs_of('test')
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(tmp_path / 'root'))
  assert build().meta == source.meta


def test_half_of_the_aligned_files(tmp_path):
  folder = save(tmp_path / 'data')
  (folder / 'train.fr').unlink()
  assert 'train.en and no .fr file for the train split' in refusal(folder)


@pytest.mark.parametrize('named', [True, False])
def test_the_set_that_tfds_prepared(tmp_path, named):
  prepare(tmp_path / 'tfds')
  source = build(tmp_path / 'tfds' if named else '')
  assert source.meta['sizes'] == {'train': 60, 'valid': 7, 'test': 5}
  for split, theirs in wmt14.SPLITS.items():
    assert sorted(source.texts(split)) == sorted(pairs_of(theirs))
  assert build(tmp_path / 'tfds').meta == source.meta


def test_a_damaged_set_is_named(tmp_path):
  folder = prepare(tmp_path / 'tfds')
  [path] = folder.glob('*train.array_record*')
  path.write_bytes(path.read_bytes()[:100])
  assert refusal().startswith(f'{folder}: can not be read (')
  path.unlink()
  assert f'{path}: No such file' in refusal()
  (folder / 'dataset_info.json').write_text('{')
  assert refusal().startswith(f'{folder}: can not be read (')


def test_where_there_is_none_the_message_says_what_to_do(tmp_path):
  for message in (refusal(), refusal(tmp_path)):
    assert 'has no wmt14_translate/fr-en' in message
    assert "pip install -e '.[tensorflow]'" in message
    assert 'tfds build wmt14_translate/fr-en --file_format' in message
    assert 'config.data.dir' in message
  assert refusal().startswith(f'{tmp_path / "tfds"}: ')
  assert 'is not a folder' in refusal(tmp_path / 'nowhere')


def test_another_format_needs_tensorflow(monkeypatch):
  builder = types.SimpleNamespace(
    data_dir='FOLDER',
    info=types.SimpleNamespace(
      file_format=types.SimpleNamespace(value='tfrecord')
    ),
  )
  monkeypatch.setattr(wmt14.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(UserError) as error:
    next(wmt14._examples(builder, 'train'))
  assert str(error.value).startswith('FOLDER: is in the format tfrecord, which')
  assert "pip install -e '.[tensorflow]'" in str(error.value)


def test_importing_it_imports_no_tfds():
  code = (
    'import sys, hyperjax.data.wmt14; '
    'assert not {"tensorflow_datasets", "tensorflow"} & {*sys.modules}'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
