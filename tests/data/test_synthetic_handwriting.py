import json

import numpy as np
import pytest

from hyperjax.data import pen_font, synthetic_handwriting
from hyperjax.errors import UserError

SIZES = {'num_train': 7, 'num_valid': 3, 'num_test': 2}


def build(**keywords):
  options = {'batch_size': 4, 'min_points': 50, **SIZES, **keywords}
  return synthetic_handwriting.build(**options)


def test_there_are_as_many_lines_as_asked_for():
  meta = build().meta
  assert meta['name'] == 'synthetic pen strokes'
  assert meta['sizes'] == {'train': 7, 'valid': 3, 'test': 2}
  assert meta['left_out'] == {'train': {}, 'valid': {}, 'test': {}}
  assert json.loads(json.dumps(meta)) == meta


def test_the_splits_are_those_of_the_font():
  lines = pen_font.lines(**SIZES)
  points = {
    split: sum(len(line.points) for line in lines[name])
    for split, name in (
      ('train', 'trainset'),
      ('valid', 'testset_v'),
      ('test', 'testset_f'),
    )
  }
  assert build().meta['points'] == points
  assert len(set(points.values())) == 3


def test_a_seed_gives_the_same_lines_again_and_another_gives_others():
  first, again, other = (build(lines_seed=seed).meta for seed in (0, 0, 1))
  assert first == again == build().meta
  for split, sha256 in first['sha256'].items():
    assert other['sha256'][split] != sha256


def test_lines_have_a_text_and_length_like_written_ones():
  source = build(alphabet='abcdefghijklmnopqrstuvwxyz')
  (batch,) = source.eval('train', 7)
  assert batch['mask'].sum(1).min() > 50
  # Most are small letters, and none is without.
  known = (batch['text'] >= 2).sum(1) / (batch['text'] > 0).sum(1)
  assert known.min() > 0.5
  np.testing.assert_allclose(
    batch['targets'][batch['mask']][:, :2].mean(0), 0, atol=1e-4
  )


def test_the_source_has_the_options():
  source = build(batch_size=3, scale_range=0.25)
  assert (source.batch_size, source.scale_range) == (3, 0.25)
  longest = max(
    len(line.points) for line in pen_font.lines(**SIZES)['trainset']
  )
  sizes = build(min_points=longest, num_valid=90, num_test=90).meta['sizes']
  assert sizes['train'] == 1


@pytest.mark.parametrize(
  ('keywords', 'message'),
  [
    ({'num_train': -1}, 'num_train is -1'),
    ({'num_valid': 0}, 'the valid split has no lines'),
    ({'num_test': 10**9}, 'num_test is 1000000000'),
    ({'lines_seed': -1}, 'seed is -1'),
    ({'min_points': 10**6}, 'config.data.min_points 1000000'),
  ],
)
def test_numbers_out_of_range_are_refused(keywords, message):
  with pytest.raises(UserError) as error:
    build(**keywords)
  assert message in str(error.value)
  assert '\n' not in str(error.value)
