"""Raw files in the layout of IAM-OnDB, which the tests write themselves."""

import hashlib
import json
import logging
import shutil

import numpy as np
import pytest

from hyperjax.data import iam_files
from hyperjax.data.iam_files import protocol_splits, read_raw
from hyperjax.errors import UserError
from tests.conftest import REAL_FILES
from tests.iam_layout import (
  FORMS,
  LISTS,
  pack,
  strokes_path,
  texts_path,
  write,
  write_corpus,
  write_form,
  write_lists,
  xml,
)

SPLITS = {  # the names of the lines, in their order
  'trainset': ['b01-002z-01', 'a01-001-01', 'a01-001-02'],
  'testset_v': ['c01-003-01'],
  'testset_t': ['d01-004-01'],
  'testset_f': ['e01-005-01', 'e01-005-02', 'e01-005-03'],
  'unlisted': ['f01-006-01'],
}


@pytest.fixture
def folder(tmp_path):
  return write_corpus(tmp_path / 'iam')


@pytest.fixture
def published(monkeypatch):
  """The small corpus in the place of the publisher's."""
  hashes = {
    name: hashlib.sha256('\n'.join(sorted(forms)).encode()).hexdigest()
    for name, forms in LISTS.items()
  }
  sizes = {name: len(lines) for name, lines in SPLITS.items()}
  monkeypatch.setattr(iam_files, 'PUBLISHED', hashes)
  monkeypatch.setattr(iam_files, 'SIZES', sizes)


def names(splits):
  return {
    split: [line.name for line in lines] for split, lines in splits.items()
  }


def texts(corpus):
  return {
    line.name: line.text for lines in corpus.splits.values() for line in lines
  }


def refused(folder, **keywords):
  with pytest.raises(UserError) as error:
    read_raw(folder, **keywords)
  message = str(error.value)
  assert message and '\n' not in message
  return message


def test_lines_are_read_in_the_order_of_the_lists(folder):
  corpus = read_raw(folder)
  assert names(corpus.splits) == SPLITS
  line = corpus.splits['trainset'][2]
  x = 200 + sum(b'a01-001')
  np.testing.assert_array_equal(
    line.points, [[x, -50, 0], [x + 10, -60, 1], [x + 20, -55, 1]]
  )
  assert line.points.dtype == np.float32
  assert [line.text for line in corpus.splits['trainset']] == [
    'b01-002z says 1',
    'a01-001 says 1',
    'a01-001 says 2',
  ]
  assert corpus.name == 'strokes in the layout of IAM-OnDB'
  assert corpus.report == {
    'lines': 9,
    'points': 27,
    'empty_strokes': 0,
    'errors_interpolated': 0,
    'strokes_split': 0,
    'pen_up_moves_shortened': 0,
    'lines_without_text': 0,
    'forms_without_text': [],
    'left_out': [],
  }


def test_the_report_counts_what_was_mended(folder):
  write(
    strokes_path(folder, 'a01-001', 1),
    xml(
      [
        [],
        [(0, 0), (900, 0), (900, 5), (10, 0)],
        [(20, 0), (3_020, 0)],
        [(0, 0)],
      ]
    ),
  )
  report = read_raw(folder).report
  assert report['points'] == 27 - 3 + 7
  assert report['empty_strokes'] == 1
  assert report['errors_interpolated'] == 2
  assert report['strokes_split'] == 1
  assert report['pen_up_moves_shortened'] == 2
  json.dumps(report)


def test_links_and_lists_in_other_folders_will_do(folder, tmp_path):
  root = tmp_path / 'links'
  (root / 'tasks' / 'task1').mkdir(parents=True)
  (root / 'lineStrokes').symlink_to(folder / 'lineStrokes')
  (root / 'ascii').symlink_to(folder / 'ascii')
  for name in LISTS:
    shutil.copy(folder / f'{name}.txt', root / 'tasks' / 'task1')
  shutil.copy(folder / 'trainset.txt', root)  # the same one again
  (root / 'tasks' / 'loop').symlink_to(root)
  assert iam_files.sha256(read_raw(root)) == iam_files.sha256(read_raw(folder))


@pytest.mark.parametrize('prefix', ['', './', 'some/where/'])
@pytest.mark.parametrize('task', ['task1.tar.gz', 'lists/task.tgz'])
def test_archives_give_the_same(folder, tmp_path, prefix, task):
  root = tmp_path / 'archives'
  for name in ('lineStrokes', 'ascii'):
    pack(root / f'{name}-all.tar.gz', folder, [name], prefix)
  pack(root / task, folder, [f'{name}.txt' for name in LISTS], prefix)
  write(root / 'lineImages-all.tar.gz', b'not looked into')
  assert iam_files.sha256(read_raw(root)) == iam_files.sha256(read_raw(folder))
  # Damage is told in the same words.
  write(strokes_path(folder, 'a01-001', 1), b'no')
  pack(root / 'lineStrokes-all.tar.gz', folder, ['lineStrokes'], prefix)
  message = refused(root).removeprefix(f'{root}: ')
  assert message == refused(folder).removeprefix(f'{folder}: ')


def test_files_of_others_are_left_alone(folder):
  write(folder / 'lineStrokes' / '.DS_Store', b'no')
  hidden = strokes_path(folder, 'a01-001', 1)
  write(hidden.with_name(f'._{hidden.name}'), b'no')
  write(folder / 'lineStrokes' / 'README', b'no')
  assert names(read_raw(folder).splits) == SPLITS
  root = folder.parent / 'archives'
  for name in ('lineStrokes', 'ascii'):
    pack(root / f'{name}-all.tar.gz', folder, [name])
  write_lists(root)
  assert names(read_raw(root).splits) == SPLITS


def test_many_files_are_read_as_few_are(folder, monkeypatch):
  expected = iam_files.sha256(read_raw(folder))
  monkeypatch.setattr(iam_files.whiteboard, 'FEW', 2)
  monkeypatch.setattr(iam_files.whiteboard, 'IN_CHUNK', 2)
  monkeypatch.setattr(iam_files.whiteboard, 'MAX_WORKERS', 2)
  assert iam_files.sha256(read_raw(folder)) == expected


def test_texts_of_other_encodings_are_read(folder):
  path = texts_path(folder, 'b01-002z')
  for encoding in ('utf-8', 'utf-8-sig', 'latin-1'):
    path.write_bytes('CSR:\n\n  a café  \n\n'.encode(encoding))
    assert texts(read_raw(folder))['b01-002z-01'] == 'a café'


@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    (None, 'no file of texts'),
    (b'', 'no CSR: in ascii/a01/a01-001/a01-001.txt'),
    (b'OCR:\none\ntwo\n', 'no CSR: in ascii/a01/a01-001/a01-001.txt'),
    (b'CSR:\n\none\n', '1 texts for 2 lines'),
    (b'CSR:\none\n\ntwo\nthree\n', '3 texts for 2 lines'),
    (b'CSR:', '0 texts for 2 lines'),
  ],
)
def test_lines_without_their_texts_stay(folder, content, reason):
  path = texts_path(folder, 'a01-001')
  path.unlink()
  if content is not None:
    path.write_bytes(content)
  corpus = read_raw(folder)
  assert names(corpus.splits) == SPLITS
  assert [k for k, v in texts(corpus).items() if not v] == [
    'a01-001-01',
    'a01-001-02',
  ]
  assert corpus.report['lines_without_text'] == 2
  assert corpus.report['forms_without_text'] == [f'a01-001: {reason}']


def malformed(folder):
  write(strokes_path(folder, 'e01-005', 2), b'<a><b></a>')
  return 'e01-005-02.xml is malformed XML'


def other_document(folder):
  write(strokes_path(folder, 'e01-005', 2), b'<svg/>')
  return 'e01-005-02.xml is not a WhiteboardCaptureSession'


def no_number(folder):
  write(strokes_path(folder, 'e01-005', 2), xml([[('left', 1)]]))
  return "e01-005-02.xml has a point at x='left'"


def no_point(folder):
  write(strokes_path(folder, 'e01-005', 2), xml([[]]))
  return 'e01-005-02.xml has no point'


def gap(folder):
  strokes_path(folder, 'e01-005', 2).unlink()
  return 'lineStrokes/e01/e01-005/e01-005-02.xml is missing'


@pytest.mark.parametrize(
  'damage', [malformed, other_document, no_number, no_point, gap]
)
def test_a_damaged_file_is_refused_or_left_out(folder, damage, caplog):
  reason = damage(folder)
  message = refused(folder)
  assert message.startswith(f'{folder}: 1 damaged or missing: lineStrokes/e01/')
  assert reason in message
  assert '--config.data.skip_damaged=True' in message
  with caplog.at_level(logging.WARNING):
    corpus = read_raw(folder, skip_damaged=True)
  assert reason in caplog.text
  expected = {
    split: [name for name in lines if name != 'e01-005-02']
    for split, lines in SPLITS.items()
  }
  assert names(corpus.splits) == expected
  (left_out,) = corpus.report['left_out']
  assert reason in left_out
  assert corpus.report['lines'] == 8
  # The others keep their own texts.
  assert texts(corpus)['e01-005-03'] == 'e01-005 says 3'


def test_a_listed_form_without_files_is_refused_or_left_out(folder):
  shutil.rmtree(folder / 'lineStrokes' / 'a01')
  reason = 'a01-001 of trainset.txt has no stroke files'
  assert f'1 damaged or missing: {reason}; ' in refused(folder)
  corpus = read_raw(folder, skip_damaged=True)
  assert names(corpus.splits) == SPLITS | {'trainset': ['b01-002z-01']}
  assert corpus.report['left_out'] == [reason]


@pytest.mark.parametrize(
  'name', ['notes.xml', 'a01-001-00.xml', 'a01-001-\u0660\u0660.xml']
)
def test_a_file_with_another_name_is_damage(folder, name):
  write(folder / 'lineStrokes' / 'a01' / name, xml([[(1, 2)]]))
  assert f'lineStrokes/a01/{name} is not called' in refused(folder)
  corpus = read_raw(folder, skip_damaged=True)
  assert names(corpus.splits) == SPLITS


def test_a_second_file_of_a_line_is_damage(folder):
  write(folder / 'lineStrokes' / 'b' / 'a01-001-01.xml', xml([[(1, 2)]]))
  assert 'lineStrokes/b/a01-001-01.xml is a second' in refused(folder)
  corpus = read_raw(folder, skip_damaged=True)
  assert len(corpus.splits['trainset'][1].points) == 3  # of the first


def test_the_first_line_of_a_form_may_be_missing(folder):
  strokes_path(folder, 'a01-001', 1).unlink()
  assert 'a01-001-01.xml is missing' in refused(folder)


def test_a_message_names_the_first_of_many(folder):
  for number in range(1, 4):
    write(strokes_path(folder, 'e01-005', number), b'no')
  assert ' more; ' not in refused(folder)
  write(strokes_path(folder, 'a01-001', 2), b'no')
  shutil.rmtree(folder / 'lineStrokes' / 'd01')
  message = refused(folder)
  assert '5 damaged or missing' in message
  assert '; and 2 more; ' in message
  assert message.count('.xml') == 3
  assert len(read_raw(folder, skip_damaged=True).report['left_out']) == 5


@pytest.mark.parametrize('name', LISTS)
def test_a_missing_list_is_named(folder, name):
  (folder / f'{name}.txt').unlink()
  assert refused(folder).startswith(f'{folder}: has no {name}.txt')


def test_a_bad_list_is_refused(folder):
  write(folder / 'trainset.txt', '\n \n')
  assert refused(folder).startswith(f'{folder}/trainset.txt: lists no form')
  write_lists(folder, {'trainset': ['a01-001', 'd01-004']})
  assert 'd01-004 is in trainset.txt and again in testset_t.txt' in refused(
    folder
  )
  write_lists(folder, {'trainset': ['a01-001', 'a01-001']})
  assert 'a01-001 is in trainset.txt and again in trainset.txt' in refused(
    folder
  )


def test_two_different_lists_are_refused(folder):
  write(folder / 'more' / 'trainset.txt', 'a01-001\n')
  message = refused(folder)
  assert f'{folder}/trainset.txt' in message
  assert f'{folder}/more/trainset.txt: two different lists' in message


@pytest.mark.parametrize('name', ['lineStrokes', 'ascii'])
def test_a_missing_folder_is_named(folder, name):
  shutil.rmtree(folder / name)
  message = refused(folder)
  assert message.startswith(
    f'{folder}: has neither {name}/ nor {name}-all.tar.gz'
  )


def test_an_empty_folder_is_refused(tmp_path):
  expected = ('lineStrokes-all.tar.gz', 'ascii/', 'testset_f.txt')
  for folder in (tmp_path, tmp_path / 'none'):
    message = refused(folder)
    assert message.startswith(f'{folder}: ')
    assert all(name in message for name in expected)
  (tmp_path / 'lineStrokes').mkdir()
  (tmp_path / 'ascii').mkdir()
  write_lists(tmp_path)
  message = refused(tmp_path)
  assert 'lineStrokes has no .xml files' in message
  assert all(name in message for name in expected)


def cut(content):
  return content[: len(content) // 2]


def flip(content):
  """Changes the checksum at the end."""
  return content[:-8] + bytes(255 - byte for byte in content[-8:])


def no_gzip(content):
  return b'not an archive'


@pytest.mark.parametrize('damage', [cut, flip, no_gzip])
@pytest.mark.parametrize('name', ['lineStrokes', 'ascii', 'lists'])
def test_a_damaged_archive_is_refused(folder, name, damage):
  archive = folder / f'{name}-all.tar.gz'
  if name == 'lists':
    archive = folder / 'task1.tar.gz'
    pack(archive, folder, [f'{name}.txt' for name in LISTS])
    (folder / 'trainset.txt').unlink()
  else:
    pack(archive, folder, [name])
    shutil.rmtree(folder / name)
  assert names(read_raw(folder).splits) == SPLITS
  archive.write_bytes(damage(archive.read_bytes()))
  message = refused(folder)
  assert message.startswith(f'{archive}: not a whole .tar.gz archive')


def test_the_publishers_lists_make_it_iam_ondb(folder, published):
  assert read_raw(folder).name == 'IAM-OnDB'
  write_lists(folder, {'trainset': ['a01-001']})  # b01-002z is unlisted
  assert read_raw(folder).name == 'strokes in the layout of IAM-OnDB'


def test_a_line_less_than_published_is_refused(folder, published):
  strokes_path(folder, 'e01-005', 3).unlink()  # no gap: it is the last
  message = refused(folder)
  assert 'testset_f: 2 lines where IAM-OnDB has 3' in message
  assert '--config.data.skip_damaged=True' in message
  corpus = read_raw(folder, skip_damaged=True)
  assert corpus.name == 'IAM-OnDB, incomplete'
  write_form(folder, 'e01-005', FORMS['e01-005'])
  shutil.rmtree(folder / 'lineStrokes' / 'f01')
  assert 'unlisted: 0 lines where IAM-OnDB has 1' in refused(folder)


def test_what_is_left_out_makes_it_incomplete(folder, published):
  malformed(folder)
  assert read_raw(folder, skip_damaged=True).name == 'IAM-OnDB, incomplete'


def test_synthetic_lines_are_called_so(folder, published):
  write(folder / 'SYNTHETIC', b'')
  assert read_raw(folder).name == 'synthetic pen strokes'
  strokes_path(folder, 'e01-005', 3).unlink()
  assert read_raw(folder).name == 'synthetic pen strokes'


def test_the_protocols_divide_the_lines(folder):
  corpus = read_raw(folder)
  assert names(protocol_splits(corpus, 'graves')) == {
    'train': [
      *SPLITS['trainset'],
      *SPLITS['testset_f'],
      *SPLITS['testset_t'],
    ],
    'valid': SPLITS['testset_v'],
  }
  assert names(protocol_splits(corpus, 'official')) == {
    'train': SPLITS['trainset'],
    'valid': [*SPLITS['testset_v'], *SPLITS['testset_t']],
    'test': SPLITS['testset_f'],
  }
  with pytest.raises(UserError, match=r"protocol: no 'grave'.*'graves'"):
    protocol_splits(corpus, 'grave')


def test_a_hash_is_of_all_that_a_corpus_holds(folder):
  corpus = read_raw(folder)
  hashes = {iam_files.sha256(corpus)}
  line = corpus.splits['trainset'][0]
  for change in (
    line._replace(name='other'),
    line._replace(text='other'),
    line._replace(points=line.points * np.float32(1.001)),
    line._replace(points=line.points[:-1]),
  ):
    lines = [change, *corpus.splits['trainset'][1:]]
    splits = corpus.splits | {'trainset': lines}
    hashes.add(iam_files.sha256(corpus._replace(splits=splits)))
  hashes.add(iam_files.sha256(corpus._replace(name='other')))
  hashes.add(iam_files.sha256(corpus._replace(report={'lines': 9})))
  assert len(hashes) == 7


@pytest.mark.data('iam_ondb')
def test_the_real_files_are_all_there():
  folder = REAL_FILES / 'iam_ondb'
  if (folder / 'SYNTHETIC').exists():
    pytest.skip('iam_ondb/ has synthetic lines')
  corpus = read_raw(folder)
  assert corpus.name == 'IAM-OnDB'
  assert {split: len(lines) for split, lines in corpus.splits.items()} == {
    'trainset': 5_364,
    'testset_v': 1_438,
    'testset_t': 1_518,
    'testset_f': 3_859,
    'unlisted': 16,
  }
  assert corpus.report == {
    'lines': 12_195,
    'points': 7_656_867,
    'empty_strokes': 0,
    'errors_interpolated': 115,
    'strokes_split': 298,
    'pen_up_moves_shortened': 521,
    'lines_without_text': 17,
    'forms_without_text': [
      'a08-551z: 8 texts for 9 lines',
      'z01-000z: 1 texts for 8 lines',
    ],
    'left_out': [],
  }
  assert all(
    len(line.points) and line.points[-1, 2] == 1
    for lines in corpus.splits.values()
    for line in lines
  )
  graves = protocol_splits(corpus, 'graves')
  assert [len(lines) for lines in graves.values()] == [10_741, 1_438]
