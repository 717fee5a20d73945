import gzip

import pytest

from hyperjax.data import parallel_text
from hyperjax.errors import UserError


def refusal(iterator):
  with pytest.raises(UserError) as error:
    list(iterator)
  message = str(error.value)
  assert message and '\n' not in message
  return message


def save(path, content):
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return path


# Lines.


@pytest.mark.parametrize('end', ['', '\n'])
@pytest.mark.parametrize('name', ['a.en', 'a.en.gz'])
def test_only_a_line_feed_ends_a_line(tmp_path, name, end):
  text = '\ufeff one\u2028two \r\n\r\nthr\x0cee\x85\u00e9' + end
  content = text.encode()
  if name.endswith('.gz'):
    content = gzip.compress(content)
  path = save(tmp_path / name, content)
  assert list(parallel_text.lines(path)) == [
    'one\u2028two',
    '',
    'thr\x0cee\x85\u00e9',
  ]


def test_what_is_no_text_is_named_with_its_line(tmp_path):
  path = save(tmp_path / 'a.en', b'good\nb\xe9d\n')
  message = refusal(parallel_text.lines(path))
  assert message.startswith(f'{path}: line 2 is not UTF-8')
  path = save(tmp_path / 'b.en', b'good\ngood\n\0\n')
  assert f'{path}: line 3 has a zero byte' in refusal(parallel_text.lines(path))


def test_empty_and_missing_files_are_named(tmp_path):
  for path in (
    save(tmp_path / 'a.en', b''),
    save(tmp_path / 'a.en.gz', gzip.compress(b'')),
  ):
    assert refusal(parallel_text.lines(path)) == f'{path}: the file is empty'
  path = tmp_path / 'nowhere'
  assert f'{path}: No such file' in refusal(parallel_text.lines(path))


@pytest.mark.parametrize(
  'damage',
  [
    lambda content: content[:-20],  # cut off
    lambda content: content[:40] + b'xxxx' + content[44:],  # altered
    lambda content: content[:-6] + b'xx' + content[-4:],  # another checksum
    lambda content: b'no gzip',
  ],
)
def test_a_damaged_archive_is_named(tmp_path, damage):
  text = '\n'.join(f'{k * k} is a square' for k in range(300))
  path = save(tmp_path / 'a.gz', damage(gzip.compress(text.encode())))
  assert refusal(parallel_text.lines(path)).startswith(
    f'{path}: the compressed file is cut off or damaged after line '
  )


def test_lines_are_read_as_they_are_asked_for(tmp_path):
  path = save(tmp_path / 'a', b'one\n' * 100_000 + b'\xff\n')
  assert next(parallel_text.lines(path)) == 'one'  # and no error


# Pairs.


def test_line_k_of_both_is_a_pair(tmp_path):
  english = save(tmp_path / 'a.en', 'yes\n\nno\n')
  french = save(tmp_path / 'a.fr.gz', gzip.compress(b'oui\nsi\nnon'))
  assert list(parallel_text.aligned(english, french)) == [
    ('yes', 'oui'),
    ('', 'si'),
    ('no', 'non'),
  ]


@pytest.mark.parametrize(('m', 'n'), [(3, 5), (5, 3), (1, 2)])
def test_another_number_of_lines_is_refused(tmp_path, m, n):
  english = save(tmp_path / 'a.en', 'yes\n' * m)
  french = save(tmp_path / 'a.fr', 'oui\n' * n)
  message = refusal(parallel_text.aligned(english, french))
  assert f'{english} has {m} lines and {french} has {n}' in message


def test_two_columns_and_what_is_behind_them(tmp_path):
  path = save(tmp_path / 'a', 'Go.\tVa !\tCC-BY\tx\n \nNo.\t\n\tOui\r\nA\tB\n')
  assert list(parallel_text.tab_separated(path)) == [
    ('Go.', 'Va !'),
    ('No.', ''),
    ('', 'Oui'),
    ('A', 'B'),
  ]
  path = save(tmp_path / 'b', 'Go.\tVa !\n\nGo. Va !\n')
  message = refusal(parallel_text.tab_separated(path))
  assert message.startswith(f'{path}: line 3 has no tab')


# Splits.


def test_a_sentence_is_in_one_split_however_it_is_written(tmp_path):
  lines, expected = [], {}
  for k in range(400):
    forms = (
      f'We saw {k}!',
      f'we  saw {k}',
      f'"WE SAW, {k}?"',
      f'We saw\u00a0{k}',
    )
    assert len({parallel_text.split_of(form) for form in forms}) == 1
    lines += [f'{form}\tvu {k} {form}' for form in forms]
    expected.setdefault(parallel_text.split_of(forms[0]), set()).add(k)
  corpus = parallel_text.TabSeparated(save(tmp_path / 'a', '\n'.join(lines)))
  assert corpus.splits == ('train', 'valid', 'test')
  found = {split: list(corpus.pairs(split)) for split in corpus.splits}
  assert sum(map(len, found.values())) == len(lines)
  for split, pairs in found.items():
    assert {int(target.split()[1]) for _, target in pairs} == expected[split]
    assert len(pairs) == 4 * len(expected[split])
  assert 330 <= len(expected['train']) <= 385
  assert min(len(expected['valid']), len(expected['test'])) >= 8
  # Other words go elsewhere, some of them.
  assert len({parallel_text.split_of(f'We heard {k}') for k in range(99)}) == 3
  assert len({corpus.fingerprint(split) for split in corpus.splits}) == 3


def make_folder(folder, *names):
  folder.mkdir()
  for name in names:
    save(folder / name, f'{name}\n')
  return folder


def find(folder):
  return parallel_text.find_aligned('config.data.path', folder, 'en', 'fr')


@pytest.mark.parametrize('valid', ['valid', 'val', 'dev', 'x-validation.1'])
def test_files_are_known_by_their_names(tmp_path, valid):
  folder = make_folder(
    tmp_path / 'data',
    *('train.en', 'train.fr', f'{valid}.en', f'{valid}.fr'),
    *('test_2017.en', 'test_2017.fr', 'test.en', 'test.fr'),
    *('newstest2014.en', 'newstest2014.fr', 'README', 'notes.en', 'train.de'),
  )
  corpus = find(folder)
  assert corpus.splits == (
    *('train', 'valid', 'newstest2014', 'test', 'test_2017'),
  )
  for split in corpus.splits:
    stem = valid if split == 'valid' else split
    assert corpus.files[split] == (folder / f'{stem}.en', folder / f'{stem}.fr')
    assert list(corpus.pairs(split)) == [(f'{stem}.en', f'{stem}.fr')]
  before = corpus.fingerprint('train')
  save(folder / 'train.fr', 'other\n')
  assert find(folder).fingerprint('train') != before
  assert corpus.fingerprint('test') == find(folder).fingerprint('test')


VALID = 'valid.en', 'valid.fr'


@pytest.mark.parametrize(
  ('names', 'part'),
  [
    (('train.en', *VALID), 'train.en and no .fr file for the train split'),
    (VALID, 'no .en file and no .fr file for the train split'),
    (('train.en', 'train.fr'), 'for the valid split'),
    (
      ('train.en', 'train.fr', 'train2.en', 'train2.fr', *VALID),
      'train.en, train2.en',
    ),
    (('train.en', 'training.fr', *VALID), 'training.fr for the train split'),
    (('train.en', 'train.fr', *VALID, 'test.fr'), 'for the test split'),
    (('train.en', 'train.en.gz', 'train.fr', *VALID), 'take one away'),
  ],
)
def test_missing_and_doubtful_files_are_named(tmp_path, names, part):
  folder = make_folder(tmp_path / 'data', *names)
  with pytest.raises(UserError) as error:
    find(folder)
  assert str(error.value).startswith(f'config.data.path: {folder} has ')
  assert part in str(error.value)


@pytest.mark.parametrize('name', ['a.en', 'a.en.gz'])
def test_an_endless_line_is_refused(tmp_path, name, monkeypatch):
  monkeypatch.setattr(parallel_text, 'LONGEST', 100)
  content = b'one\n' + b'x' * 100 + b'\n'
  path = tmp_path / name
  path.write_bytes(gzip.compress(content) if name.endswith('gz') else content)
  with pytest.raises(
    UserError, match=f'{name}: line 2 has more than 100 bytes'
  ):
    list(parallel_text.lines(path))
