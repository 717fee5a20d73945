import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hyperjax.pictures.curves import comparison, learning_curve


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
  comparison(one, {'a': lines(0)}, 'bits')
  comparison(two, {'a': lines(0), 'b': lines(1)}, 'bits')
  with Image.open(one) as a, Image.open(two) as b:
    assert not np.array_equal(a, b)


def test_a_run_without_the_metric_is_named(tmp_path):
  runs = {
    'a': [{'step': 1, 'train/bits': 1.0}],
    'b': [{'step': 1, 'train/bits': None}],
  }
  with pytest.raises(ValueError, match='b has no metric bits'):
    comparison(tmp_path / 'x.png', runs, 'bits')


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--metric=bits'], '--runs and --metric are needed'),
    (['--runs=none', '--metric=bits'], 'none has no metrics.jsonl'),
    (['--runs=a,b', '--labels=c', '--metric=bits'], '--labels: c; give 2'),
    (['--runs=RUN', '--metric=bats'], 'RUN has no metric bats'),
  ],
)
def test_the_script_names_what_is_wrong(repository, tmp_path, flags, words):
  (tmp_path / 'RUN').mkdir()
  (tmp_path / 'RUN' / 'metrics.jsonl').write_text('{"step": 1, "a/bits": 2}\n')
  script = [sys.executable, f'{repository}/scripts/draw_curves.py']
  done = subprocess.run(
    [*script, *flags], cwd=tmp_path, capture_output=True, text=True
  )
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith('error: ') and words in line


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
