"""The prepared tfds data set of IAM-OnDB."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from hyperjax.data import iam_files, prepared
from hyperjax.errors import UserError
from tests.iam_layout import (
  strokes_path,
  texts_path,
  write,
  write_corpus,
  write_form,
)

NAME = 'hyperjax_iam_ondb'


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
  """Where tfds keeps its data."""
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  return tmp_path / 'tfds'


@pytest.fixture
def raw(tmp_path):
  folder = write_corpus(tmp_path / 'raw')
  texts = 'OCR:\nCSR:\ncafé "…"\n\nline two\n'  # not ASCII
  write(texts_path(folder, 'a01-001'), texts)
  texts_path(folder, 'b01-002z').unlink()  # a line without one
  return folder


def same(corpus, other):
  assert corpus.name == other.name
  assert corpus.report == other.report
  assert list(corpus.splits) == list(other.splits)
  for split, lines in corpus.splits.items():
    assert len(lines) == len(other.splits[split])
    for line, its in zip(lines, other.splits[split], strict=True):
      assert type(line) is type(its)
      assert line[:2] == its[:2]
      assert line.points.dtype == its.points.dtype
      np.testing.assert_array_equal(line.points, its.points)


def refused():
  with pytest.raises(UserError) as error:
    iam_files.read_prepared()
  message = str(error.value)
  assert message and '\n' not in message
  return message


def test_raw_files_are_read_back_as_they_are(raw, root):
  folder = prepared.prepare('iam_ondb', raw_dir=str(raw))
  assert folder == root / NAME / '1.0.0'
  corpus = iam_files.read_raw(raw)
  assert corpus.report['forms_without_text']
  same(iam_files.read_prepared(), corpus)
  shutil.rmtree(raw)
  same(iam_files.read_prepared(), corpus)


def test_a_set_without_unlisted_lines_is_read_back(raw):
  shutil.rmtree(raw / 'lineStrokes' / 'f01')
  prepared.prepare('iam_ondb', raw_dir=str(raw))
  corpus = iam_files.read_raw(raw)
  assert corpus.splits['unlisted'] == []
  same(iam_files.read_prepared(), corpus)


def test_many_lines_keep_their_order(raw, monkeypatch):
  write_form(raw, 'a01-001', 99)
  prepared.prepare('iam_ondb', raw_dir=str(raw))
  same(iam_files.read_prepared(), iam_files.read_raw(raw))


def test_a_set_is_prepared_or_not(raw, root):
  from hyperjax.data.builders import images, strokes, text

  assert not prepared.is_prepared('iam_ondb')
  assert not root.exists()
  prepared.prepare('iam_ondb', raw_dir=str(raw))
  assert prepared.is_prepared('iam_ondb')
  assert not prepared.is_prepared('iam_ondb', str(root / 'other'))
  assert not prepared.is_prepared('mnist')
  builders = (
    text.Ptb,
    text.Enwik8,
    images.HyperjaxMnist,
    images.HyperjaxCifar10,
    strokes.HyperjaxIamOndb,
  )
  for name, builder in zip(prepared.NAMES, builders, strict=True):
    (root / prepared.FOLDERS[name] / '1.0.0').mkdir(parents=True, exist_ok=True)
    assert prepared.is_prepared(name)
    folder = root / builder.name / str(builder.VERSION)
    folder.rename(root / 'away')
    assert not prepared.is_prepared(name)
    (root / 'away').rename(folder)


def test_tfds_knows_it_by_our_name(raw, root):
  import tensorflow_datasets as tfds

  prepared.prepare('iam_ondb', raw_dir=str(raw))
  builder = tfds.builder(NAME, data_dir=root)
  assert set(builder.info.splits) == set(iam_files.SPLITS)
  (example,) = builder.as_data_source('testset_v')
  assert example['name'] == b'c01-003-01'
  assert example['text'] == b'c01-003 says 1'
  assert example['points'].shape == (3, 3)


def test_there_is_no_download(root, tmp_path):
  message = refused()
  assert iam_files.URL in message
  assert '--raw_dir=FOLDER' in message
  assert 'non-commercial' in message
  assert os.listdir(root) == []
  with pytest.raises(UserError, match='has no raw files of iam_ondb'):
    prepared.prepare('iam_ondb', raw_dir=str(tmp_path))


def test_damaged_raw_files_are_not_prepared(raw, root):
  write(strokes_path(raw, 'a01-001', 1), b'no')
  with pytest.raises(UserError, match='1 damaged or missing'):
    prepared.prepare('iam_ondb', raw_dir=str(raw))
  assert os.listdir(root) == []


def other_lines(folder):
  """Records that are sound, of another set."""
  raw = write_corpus(folder.parents[2] / 'other')
  other = prepared.prepare('iam_ondb', str(folder.parents[2] / 'o'), str(raw))
  name = f'{NAME}-trainset.array_record-00000-of-00001'
  shutil.copy(other / name, folder / name)


def cut_record(folder):
  path = next(folder.glob('*testset_f.array_record*'))
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lost_record(folder):
  next(folder.glob('*trainset.array_record*')).unlink()


def other_metadata(folder):
  path = folder / 'metadata.json'
  metadata = json.loads(path.read_text())
  path.write_text(json.dumps(metadata | {'name': 'IAM-OnDB'}))


def broken_metadata(folder):
  (folder / 'metadata.json').write_text('{')


def lost_metadata(folder):
  (folder / 'metadata.json').unlink()


def lost_info(folder):
  (folder / 'dataset_info.json').unlink()


@pytest.mark.parametrize(
  'damage',
  [
    other_lines,
    cut_record,
    lost_record,
    other_metadata,
    broken_metadata,
    lost_metadata,
    lost_info,
  ],
)
def test_a_damaged_prepared_set_is_refused(damage, raw):
  folder = prepared.prepare('iam_ondb', raw_dir=str(raw))
  damage(folder)
  message = refused()
  assert message.startswith(str(folder))
  assert 'delete this folder' in message


def test_the_script_prepares_them(raw, tmp_path, repository):
  done = subprocess.run(
    [
      sys.executable,
      'scripts/prepare_data.py',
      '--name=iam_ondb',
      f'--raw_dir={raw}',
      f'--data_dir={tmp_path}/here',
    ],
    cwd=repository,
    env={**os.environ, 'PYTHONPATH': str(repository)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
    'trainset: 3 lines',
    'testset_v: 1 lines',
    'testset_t: 1 lines',
    'testset_f: 3 lines',
    'unlisted: 1 lines',
    f'iam_ondb is prepared in {tmp_path}/here/{NAME}/1.0.0',
  ]
