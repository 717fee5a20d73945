import functools
import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.data import iam_files, iam_ondb, pen_font, prepared
from hyperjax.errors import UserError
from hyperjax.nn.unroll import steps_run
from tests.conftest import REAL_FILES
from tests.iam_layout import strokes_path, write, write_corpus

NAME = 'strokes in the layout of IAM-OnDB'
# By `iam_layout.LISTS`, which are in this order in the protocols.
NAMES = {
  'trainset': ['b01-002z-01', 'a01-001-01', 'a01-001-02'],
  'testset_v': ['c01-003-01'],
  'testset_t': ['d01-004-01'],
  'testset_f': ['e01-005-01', 'e01-005-02', 'e01-005-03'],
}


@pytest.fixture(autouse=True)
def no_data(tmp_path, monkeypatch):
  """Nothing of this machine's is in sight."""
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))


@pytest.fixture
def raw(tmp_path):
  return write_corpus(tmp_path / 'raw' / 'iam_ondb')


def build(**keywords):
  return iam_ondb.build(**{'batch_size': 2, 'min_points': 2, **keywords})


def refusal(**keywords):
  with pytest.raises(UserError) as error:
    build(**keywords)
  message = str(error.value)
  assert message and '\n' not in message
  return message


def expected_meta(folder, protocol='graves'):
  """What a source over these raw files says of itself."""
  corpus = iam_files.read_raw(folder)
  splits = iam_files.protocol_splits(corpus, protocol)
  return {
    'name': NAME,
    'sizes': {split: len(lines) for split, lines in splits.items()},
    'report': {'protocol': protocol, **corpus.report},
  }


def has(source, expected):
  return {name: source.meta[name] for name in expected} == expected


# Where the lines come from.


def test_raw_files_by_their_folder(raw, caplog):
  source = build(dir=str(raw))
  assert has(source, expected_meta(raw))
  assert source.meta['report']['lines'] == 9
  assert json.loads(json.dumps(source.meta)) == source.meta
  assert 'SYNTHETIC' not in caplog.text


def test_raw_files_by_the_root_of_all_data(raw, monkeypatch):
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(raw.parent))
  assert build().meta == build(dir=str(raw)).meta


def test_a_folder_comes_before_the_root_of_all_data(raw, tmp_path, monkeypatch):
  other = write_corpus(tmp_path / 'other')
  shutil.rmtree(other / 'lineStrokes' / 'f01')
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(raw.parent))
  assert build(dir=str(other)).meta['report']['lines'] == 8
  assert build().meta['report']['lines'] == 9


def test_the_prepared_set_is_read_unless_there_are_raw_files(
  raw, tmp_path, monkeypatch, caplog
):
  expected = build(dir=str(raw)).meta
  prepared.prepare('iam_ondb', raw_dir=str(raw))
  shutil.rmtree(raw)
  assert build().meta == expected
  # A root of other data does not hide it.
  (tmp_path / 'data').mkdir()
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(tmp_path / 'data'))
  assert build().meta == expected
  assert 'SYNTHETIC' not in caplog.text
  other = write_corpus(tmp_path / 'data' / 'iam_ondb')
  shutil.rmtree(other / 'lineStrokes' / 'f01')
  assert build().meta['report']['lines'] == 8


def test_without_data_there_are_synthetic_lines(monkeypatch, caplog):
  few = functools.partial(pen_font.lines, num_train=5, num_valid=2, num_test=3)
  monkeypatch.setattr(pen_font, 'lines', few)
  with caplog.at_level(logging.WARNING, 'hyperjax'):
    source = build()
  (record,) = caplog.records
  message = record.getMessage()
  assert record.levelname == 'WARNING'
  assert 'SYNTHETIC' in message
  assert iam_files.URL in message
  assert '--config.data.dir=FOLDER' in message
  assert '\n' not in message
  assert source.meta['name'] == 'synthetic pen strokes'
  assert source.meta['sizes'] == {'train': 10, 'valid': 2}
  assert source.meta['report'] == {'protocol': 'graves'}
  source = build(protocol='official')
  assert source.meta['name'] == 'synthetic pen strokes'
  assert source.meta['sizes'] == {'train': 5, 'valid': 4, 'test': 3}


def test_synthetic_raw_files_are_called_so(tmp_path):
  pen_font.write_raw(tmp_path / 'new', num_train=5, num_valid=2, num_test=3)
  meta = build(dir=str(tmp_path / 'new')).meta
  assert meta['name'] == 'synthetic pen strokes'
  assert meta['sizes'] == {'train': 10, 'valid': 2}


@pytest.mark.parametrize('name', ['config.data.dir', 'HYPERJAX_DATA_DIR'])
def test_a_folder_that_is_not_there_is_no_reason_to_take_other_lines(
  name, tmp_path, monkeypatch
):
  missing = str(tmp_path / 'nowhere')
  if name == 'HYPERJAX_DATA_DIR':
    monkeypatch.setenv(name, missing)
    message = refusal()
  else:
    message = refusal(dir=missing)
  assert message.startswith(f'{name}: {missing} is not a folder')
  assert 'lineStrokes' in message


# Which lines.


@pytest.mark.parametrize('protocol', ['graves', 'official'])
def test_each_split_has_the_lists_of_the_protocol(protocol, raw):
  lists = {
    'graves': {
      'train': ('trainset', 'testset_f', 'testset_t'),
      'valid': ('testset_v',),
    },
    'official': {
      'train': ('trainset',),
      'valid': ('testset_v', 'testset_t'),
      'test': ('testset_f',),
    },
  }[protocol]
  source = build(dir=str(raw), protocol=protocol, alphabet='abcdef')
  assert has(source, expected_meta(raw, protocol))
  assert list(source.meta['sizes']) == list(lists)
  for split, of_split in lists.items():
    names = [name for each in of_split for name in NAMES[each]]
    # The letter of the form, which its texts begin with.
    letters = sorted('abcdef'.index(name[0]) + 2 for name in names)
    (batch,) = source.eval(split, 100)
    assert sorted(batch['text'][:, 0]) == letters


def test_the_protocol_of_graves_has_no_test_split(raw):
  with pytest.raises(UserError, match=r'known: train, valid$'):
    build(dir=str(raw)).eval('test', 1)


def test_another_protocol_is_refused_before_anything_is_read(monkeypatch):
  def read_raw(*_, **__):
    raise AssertionError

  monkeypatch.setattr(iam_files, 'read_raw', read_raw)
  message = refusal(dir='/', protocol='grave')
  assert message == ("config.data.protocol: no 'grave'; did you mean 'graves'?")


def test_damaged_files_are_an_error_unless_they_are_to_be_skipped(raw, caplog):
  write(strokes_path(raw, 'a01-001', 2), b'no')
  message = refusal(dir=str(raw))
  assert '1 damaged or missing' in message
  assert '--config.data.skip_damaged=True' in message
  source = build(dir=str(raw), skip_damaged=True)
  assert source.meta['sizes'] == {'train': 6, 'valid': 1}
  (left_out,) = source.meta['report']['left_out']
  assert left_out.startswith('lineStrokes/a01/a01-001/a01-001-02.xml ')
  assert '1 damaged or missing' in caplog.text


def test_the_source_has_the_options(raw):
  source = build(
    dir=str(raw), batch_size=3, min_points=3, scale_range=0.25, alphabet='ab'
  )
  assert source.batch_size == 3
  assert source.scale_range == 0.25
  assert source.meta['alphabet'] == 'ab'
  # All lines have three points.
  assert 'config.data.min_points 4' in refusal(dir=str(raw), min_points=4)
  # Three hundred, if nothing is said.
  with pytest.raises(UserError, match=r'config\.data\.min_points 300'):
    iam_ondb.build(dir=str(raw), batch_size=3)


def test_y_is_upwards(raw):
  source = build(dir=str(raw), protocol='graves')
  batch = source.eval('valid', 1)[0]
  moves = batch['targets'][0, :, :2] * source.meta['std']
  # (0, 0), (10, 10) and (20, 5) with y downwards.
  np.testing.assert_allclose(
    moves + source.meta['mean'], [[10, -10], [10, 5]], atol=1e-4
  )


@pytest.mark.data('iam_ondb')
def test_the_real_files(monkeypatch):
  folder = REAL_FILES / 'iam_ondb'
  if (folder / pen_font.MARK).exists():
    pytest.skip('iam_ondb/ has synthetic lines')
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(REAL_FILES))
  source = iam_ondb.build(batch_size=32, scale_range=0.1)
  meta = source.meta
  assert meta['name'] == 'IAM-OnDB'
  assert meta['sizes'] == {'train': 10_232, 'valid': 1_381}
  assert meta['left_out'] == {
    'train': {'under 300 points': 10_741 - 10_232},
    'valid': {'under 300 points': 1_438 - 1_381},
  }
  assert meta['points'] == {'train': 6_655_109, 'valid': 874_678}
  np.testing.assert_allclose(meta['mean'], [8.168, -0.105], atol=1e-3)
  np.testing.assert_allclose(meta['std'], [41.331, 37.053], atol=1e-3)
  masks = [batch['mask'] for batch in source.eval('valid', 64)]
  assert sum(mask.sum() for mask in masks) == 874_678 - 1_381
  # An epoch.
  assert source.batches_per_epoch == 320

  @jax.jit
  def measure(arrays, step):
    batch = source.batch(arrays, 0, step)
    finite = jnp.isfinite(batch['inputs']).all()
    finite &= jnp.isfinite(batch['targets']).all()
    return batch['mask'].sum(), batch['length'], finite

  arrays, real, run = source.arrays(), 0, 0
  num_steps = source.splits['train'].longest
  for step in range(320):
    count, length, finite = measure(arrays, jnp.int32(step))
    assert finite
    real += int(count)
    run += 32 * steps_run(int(length), num_steps, 32)
  assert real == 6_655_109 - 10_232
  assert 1 - real / run < 0.15
