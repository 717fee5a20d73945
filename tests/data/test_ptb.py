import hashlib

import pytest

from hyperjax.data import ptb
from hyperjax.errors import UserError

TEXTS = {
  'train': b' the cat sat on the mat \n a dog \n',
  'valid': b' the dog sat \n',
  'test': b' a cat \n',
}
VOCAB_SIZE = len(set(TEXTS['train']))


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder with small files in place of the real ones."""
  files = {}
  for split, (name, _, _) in ptb.FILES.items():
    content = TEXTS[split]
    files[split] = name, len(content), hashlib.sha256(content).hexdigest()
    (tmp_path / name).write_bytes(content)
  monkeypatch.setattr(ptb, 'FILES', files)
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  return tmp_path


def build(folder='', vocab_size=VOCAB_SIZE):
  return ptb.build(
    dir=str(folder), batch_size=2, sequence_length=5, vocab_size=vocab_size
  )


def refusal(folder=''):
  with pytest.raises(UserError) as error:
    build(folder)
  message = str(error.value)
  assert message and '\n' not in message
  return message


def test_the_splits_are_the_files(folder):
  source = build(folder)
  alphabet = bytes(source.meta['alphabet'])
  for split, content in TEXTS.items():
    symbols = source.symbols[split].tolist()
    assert bytes(alphabet[symbol] for symbol in symbols) == content
  assert source.meta['name'] == 'Penn Treebank'
  assert (source.batch_size, source.sequence_length) == (2, 5)


def test_the_root_of_all_data_has_a_folder_for_it(folder, monkeypatch):
  root = folder / 'data'
  root.mkdir()
  (root / 'ptb').symlink_to(folder)
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(root))
  assert build().meta == build(folder).meta


def test_a_folder_in_the_config_goes_before_the_environment(
  folder, monkeypatch
):
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(folder / 'nowhere'))
  assert build(folder).meta['sizes']['test'] == len(TEXTS['test'])


def test_the_folder_may_be_a_tilde(folder, monkeypatch):
  monkeypatch.setenv('HOME', str(folder))
  assert build('~').meta == build(folder).meta


def test_a_missing_folder_is_refused(folder):
  message = refusal(folder / 'nowhere')
  assert message.startswith('config.data.dir: ')
  assert f'{folder / "nowhere"} is not a folder' in message
  assert 'ptb.valid.txt' in message


def test_a_file_in_place_of_the_folder_is_refused(folder):
  message = refusal(folder / 'ptb.train.txt')
  assert f'{folder / "ptb.train.txt"} is not a folder' in message


def test_a_missing_root_is_refused(folder, monkeypatch):
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(folder / 'nowhere'))
  message = refusal()
  assert message.startswith('HYPERJAX_DATA_DIR: ')
  assert f'{folder / "nowhere"} is not a folder' in message


@pytest.mark.parametrize('split', ['train', 'valid', 'test'])
def test_a_missing_file_is_named(folder, split):
  path = folder / f'ptb.{split}.txt'
  path.unlink()
  assert f'{path}: No such file' in refusal(folder)


@pytest.mark.parametrize('split', ['train', 'valid', 'test'])
@pytest.mark.parametrize(
  ('kind', 'damage'),
  [
    ('empty', lambda content: b''),
    ('cut off', lambda content: content[:-1]),
    ('too long', lambda content: content + b'\n'),
    ('altered', lambda content: content[:-1] + b'?'),
  ],
)
def test_a_damaged_file_is_named_with_its_damage(folder, split, kind, damage):
  path = folder / f'ptb.{split}.txt'
  path.write_bytes(damage(TEXTS[split]))
  message = refusal(folder)
  assert message.startswith(f'{path}: ')
  assert kind in message
  others = {'empty', 'cut off', 'too long', 'altered'} - {kind}
  assert not any(other in message for other in others)


def test_a_folder_in_place_of_a_file_is_named(folder):
  path = folder / 'ptb.test.txt'
  path.unlink()
  path.mkdir()
  assert f'{path}: Is a directory' in refusal(folder)


def test_another_alphabet_is_refused(folder):
  with pytest.raises(UserError, match='vocab_size is 49'):
    build(folder, vocab_size=49)


def test_dummies_of_the_real_sizes_are_altered(tmp_path):
  for name, size, _ in ptb.FILES.values():
    (tmp_path / name).write_bytes(b'a' * size)
  assert f'{tmp_path / "ptb.train.txt"}: altered' in refusal(tmp_path)


@pytest.mark.data('ptb')
def test_the_real_files():
  source = ptb.build(batch_size=128, sequence_length=100)
  assert source.meta['sizes'] == {
    'train': 5_101_618,
    'valid': 399_782,
    'test': 449_945,
  }
  assert len(source.meta['alphabet']) == 50
  assert bytes(source.meta['alphabet'])[:2] == b'\n '
  assert all(symbols.max() < 50 for symbols in source.symbols.values())
  assert sum(b['mask'].sum() for b in source.eval('test', 32)) == 449_944
