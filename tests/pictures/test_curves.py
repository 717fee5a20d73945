import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hyperjax.errors import UserError
from hyperjax.pictures.curves import Series, comparison, learning_curve, series


def test_each_seed_has_a_thin_line_and_one_without_numbers_has_none(tmp_path):
  lines = [
    {'step': k, 'train/bits': 4 / k, 'seed_0/train/bits': 3 / k}
    for k in range(1, 50)
  ]
  with_seed, without = tmp_path / 'with.png', tmp_path / 'without.png'
  learning_curve(with_seed, lines, 'bits', {})
  for line in lines:
    line['seed_0/train/bits'] = None
  learning_curve(without, lines, 'bits', {})
  with Image.open(with_seed) as a, Image.open(without) as b:
    assert not np.array_equal(a, b)


def test_a_learning_curve_is_drawn(tmp_path):
  lines = [{'step': k, 'train/bits': 4 / k} for k in range(1, 50)]
  lines += [{'step': k, 'valid/bits': 5 / k} for k in (10, 20)]
  lines += [{'step': 30, 'train/bits': None, 'train/other': 3.0}]
  blank, full = tmp_path / 'blank.png', tmp_path / 'full.png'
  learning_curve(full, lines, 'bits', {'a bar': 2.0})
  learning_curve(blank, lines, 'bits', {})
  with Image.open(full) as a, Image.open(blank) as b:
    assert a.size[0] > 800
    assert (np.asarray(a.convert('L')) < 250).sum() > 5000  # not a white page
    assert not np.array_equal(a, b)


def test_runs_are_compared_in_one_picture(tmp_path):
  def lines(offset):
    return [{'step': k, 'valid_quick/bits': offset + 4 / k} for k in (1, 2, 3)]

  one, two = tmp_path / 'one.png', tmp_path / 'two.png'
  a, b = series([lines(0)], 'bits'), series([lines(1)], 'bits')
  comparison(one, {'a': a}, 'bits')
  comparison(two, {'a': a, 'b': b}, 'bits')
  with Image.open(one) as a, Image.open(two) as b:
    assert not np.array_equal(a, b)


def test_seeds_of_a_run_and_runs_are_seeds_of_a_network():
  one = [
    {'step': 1, 'train/bits': 9.0, 'valid/bits': 3.0},
    {'step': 2, 'train/bits': 8.0, 'valid/bits': None, 'valid/other': 0.0},
  ]
  two = [
    {
      'step': step,
      'valid/bits': 50.0,  # the mean of the seeds
      'seed_4/valid/bits': 4.0 * step,
      'seed_5/valid/bits': 5.0,
    }
    for step in (1, 3)
  ]

  found = series([one, two], 'bits')

  assert sorted(found) == ['train', 'valid']
  assert found['train'].steps.tolist() == [1, 2]
  assert found['train'].values.tolist() == [[9, 8]]
  assert found['valid'].steps.tolist() == [1, 3]
  np.testing.assert_array_equal(
    found['valid'].values, [[3, np.nan], [4, 12], [5, 5]]
  )
  assert series([[{'step': 1, 'valid/bits': None}]], 'bits') == {}


def test_several_seeds_have_a_band(tmp_path):
  steps, values = np.arange(2), np.array([[1.0, 2.0], [2.0, np.nan]])
  alone, both = tmp_path / 'alone.png', tmp_path / 'both.svg'
  comparison(alone, {'a': {'valid': Series(steps, values[:1])}}, 'bits')
  comparison(both, {'a': {'valid': Series(steps, values)}}, 'bits')
  assert 'FillBetween' in both.read_text()
  alone_svg = tmp_path / 'alone.svg'
  comparison(alone_svg, {'a': {'valid': Series(steps, values[:1])}}, 'bits')
  assert 'FillBetween' not in alone_svg.read_text()


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--metric=bits'], '--runs and --metric are needed'),
    (['--runs=none', '--metric=bits'], 'none has no metrics.jsonl'),
    (['--runs=a,b', '--labels=c', '--metric=bits'], '--labels: c; give 2'),
    (['--runs=RUN,RUN', '--metric=bits'], '--labels: RUN, RUN; give 2'),
    (
      ['--runs=RUN', '--metric=bits', '--splits=valid'],
      'RUN has no metric bits of valid',
    ),
  ],
)
def test_the_script_names_what_is_wrong(
  script, tmp_path, monkeypatch, flags, words
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'RUN').mkdir()
  (tmp_path / 'RUN' / 'metrics.jsonl').write_text('{"step": 1, "a/bits": 2}\n')
  with pytest.raises(UserError) as error:
    script('draw_curves', *flags)
  assert words in str(error.value) and '\n' not in str(error.value)


def test_the_script_draws(repository, tmp_path):
  (tmp_path / 'RUN').mkdir()
  (tmp_path / 'RUN' / 'metrics.jsonl').write_text(
    '{"step": 1, "train/bits": 2}\n{"step": 2, "train/bits": 1}\n'
  )
  subprocess.run(
    [
      *(sys.executable, f'{repository}/scripts/draw_curves.py'),
      *('--runs=RUN', '--metric=bits', '--out=new/curves.png'),
    ],
    cwd=tmp_path,
    check=True,
  )
  with Image.open(tmp_path / 'new' / 'curves.png') as picture:
    assert picture.size[0] > 800
  with np.load(tmp_path / 'new' / 'curves.npz') as arrays:
    assert arrays['RUN/train/steps'].tolist() == [1, 2]
    assert arrays['RUN/train/values'].tolist() == [[2, 1]]
