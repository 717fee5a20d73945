"""Reports of made-up sweeps."""

import json
import math
import pathlib
from typing import Any

import numpy as np
import pytest

from hyperjax.errors import UserError
from hyperjax.pictures.sweeps import Axis
from hyperjax.sweeps import report

OBJECTIVE = 'valid/bits_per_char'


def record(point: int, overrides: dict[str, Any], value: Any, **more):
  return {
    'point': point,
    'overrides': overrides,
    'status': 'finished',
    'objective': OBJECTIVE,
    'value': value,
    'metrics': {OBJECTIVE: value, 'test/bits_per_char': 1.5},
    'best_step': 900,
    'step': 1000,
    'parameters': 45_682,
    'error': None,
    'command': f'python -m hyperjax.main --point={point}',
    'hardware': 'cpu',
    'seconds': 36.0,
    'ended': f'2026-11-24T17:00:{point % 60:02d}+00:00',
  } | more


def sweep(
  folder: pathlib.Path, records, plan=None, curves: bool = True
) -> pathlib.Path:
  """Writes a sweep into a folder, with a learning curve for each run."""
  (folder / 'records').mkdir(parents=True, exist_ok=True)
  if plan is not None:
    (folder / 'sweep.json').write_text(json.dumps(plan))
  for one in records:
    name = f'{one["point"]:04d}'
    (folder / 'records' / f'{name}.json').write_text(json.dumps(one))
    if curves:
      workdir = folder / 'points' / name
      workdir.mkdir(parents=True, exist_ok=True)
      end = one['value'] if isinstance(one['value'], float) else 3.0
      lines = [
        {'step': k, 'valid_quick/bits_per_char': end + 100 / k}
        for k in range(100, 1001, 100)
      ]
      text = ''.join(json.dumps(line) + '\n' for line in lines)
      (workdir / 'metrics.jsonl').write_text(text)
  return folder


def grid_records():
  rates, sizes = (1e-3, 2e-3, 5e-3, 1e-2), (2, 4, 8)
  points = [(rate, size) for rate in rates for size in sizes]
  return [
    record(
      point,
      {'optimizer.learning_rate': rate, 'model.z_size': size},
      2 + 0.2 * math.log(rate / 3e-3) ** 2 - 0.02 * math.log(size),
    )
    for point, (rate, size) in enumerate(points)
  ]


def random_records(count: int):
  rng = np.random.default_rng(0)
  for point in range(count):
    rate, size = 10 ** rng.uniform(-4, -1), int(rng.integers(2, 65))
    cell = str(rng.choice(['lstm', 'ln_lstm', 'hyper_lstm']))
    overrides = {
      'optimizer.learning_rate': rate,
      'model.z_size': size,
      'model.cell': cell,
      'model.recurrent_keep_prob': rng.uniform(0.5, 1.0),
    }
    value = 2 + 0.2 * math.log(rate / 3e-3) ** 2 + 0.2 * (cell == 'lstm')
    yield record(point, overrides, value + 0.05 * rng.normal())


def failing_records():
  fates = [2.5, 2.2, None, 2.4, None]
  for point, value in enumerate(fates):
    failed = {
      'status': 'failed',
      'error': 'diverged | at step 3',
      'metrics': {},
    }
    yield record(
      point,
      {'optimizer.learning_rate': 10.0 ** -(point + 1), 'model.cell': 'lstm'},
      value,
      **(failed if value is None else {}),
    )


def pictures(folder: pathlib.Path) -> set[str]:
  return {path.stem for path in folder.glob('*.png')}


def test_a_grid_has_its_best_point_its_table_and_all_pictures(tmp_path):
  plan = {'config': 'configs/ptb.py:lstm', 'flags': ['--config.seed=3']}
  plan['points'] = [{}] * 15
  text = report.write(sweep(tmp_path, grid_records(), plan))
  assert text == (tmp_path / 'report.md').read_text()
  assert '12 finished, 0 pruned, 0 failed, 3 not yet run' in text
  assert '`configs/ptb.py:lstm --config.seed=3`' in text
  assert '0.12 hours' in text
  best = min(grid_records(), key=lambda r: r['value'])
  assert f'Point {best["point"]}:' in text and best['command'] in text
  assert '    optimizer.learning_rate = 0.002\n' in text
  table = [line for line in text.splitlines() if line.startswith('| ')]
  values = [float(line.split('|')[4]) for line in table[2:]]
  assert len(values) == 12 and values == sorted(values)
  assert table[0].split('|')[4].strip() == OBJECTIVE
  assert pictures(tmp_path) == {'parallel', 'progress', 'importance', 'grid'}
  for name in pictures(tmp_path):
    assert f'({name}.png)' in text


def test_random_points_with_a_category_have_no_grid(tmp_path):
  text = report.write(sweep(tmp_path, random_records(120)))
  assert pictures(tmp_path) == {'parallel', 'progress', 'importance'}
  assert 'The best 100 of 120 runs' in text


def test_failures_are_told_and_fixed_fields_are_said_once(tmp_path):
  text = report.write(sweep(tmp_path, failing_records()))
  assert '3 finished, 0 pruned, 2 failed' in text
  assert text.count('diverged \\| at step 3') == 2
  assert 'The same in all runs: `model.cell` = lstm.' in text
  assert 'is told from 4 finished runs on' in text
  assert pictures(tmp_path) == {'parallel', 'progress'}


def test_pruned_runs_stand_behind_the_finished_ones(tmp_path):
  records = grid_records()
  records[0] |= {'status': 'pruned', 'value': 0.1}
  text = report.write(sweep(tmp_path, records))
  rows = [line for line in text.splitlines() if line.startswith('| ')]
  assert rows[-1].split('|')[1].strip() == '0' and 'pruned' in rows[-1]
  assert 'Point 0:' not in text


@pytest.mark.parametrize('value', [None, math.nan, math.inf])
def test_a_finished_run_without_a_number_has_failed(tmp_path, value):
  text = report.write(sweep(tmp_path, [record(0, {'seed': 1}, value)]))
  assert '0 finished, 0 pruned, 1 failed' in text
  assert 'No run has finished' in text and 'not a number' in text


@pytest.mark.parametrize(
  'plan', [{'points': [{}, {}]}, {'points': None, 'trials': 2}]
)
def test_no_record_yet(tmp_path, plan):
  text = report.write(sweep(tmp_path, [], plan))
  assert '2 not yet run' in text and 'No run has ended yet.' in text


def test_one_record_has_no_curves_to_show(tmp_path):
  folder = sweep(tmp_path, [record(7, {'seed': 1}, 2.5)], curves=False)
  text = report.write(folder)
  assert 'Point 7' in text
  assert pictures(tmp_path) == {'progress'}


def test_fields_may_be_lists_and_may_be_missing(tmp_path):
  overrides = [
    {'optimizer.boundaries': [1, 2], 'model.layer_norm': True},
    {'optimizer.boundaries': [3], 'seed': 4},
    {'optimizer.boundaries': 'a|b', 'model.layer_norm': False},
    {},
  ]
  records = [record(k, o, 2.0 + k) for k, o in enumerate(overrides)]
  text = report.write(sweep(tmp_path, records))
  assert '[1, 2]' in text and 'a\\|b' in text and 'not set' in text
  assert pictures(tmp_path) == {'parallel', 'progress', 'importance'}


def test_a_stale_picture_goes(tmp_path):
  report.write(sweep(tmp_path, grid_records()))
  records = [r | {'status': 'failed', 'value': None} for r in grid_records()]
  text = report.write(sweep(tmp_path, records, curves=False))
  assert 'grid' not in pictures(tmp_path) and 'grid.png' not in text


@pytest.mark.parametrize(
  ('path', 'content'),
  [
    ('records/0003.json', '{"point": 3'),
    ('records/0003.json', '[]'),
    ('records/0003.json', '{"point": 3, "status": "finished"}'),
    ('records/0003.json', json.dumps(record(3, {}, 'low'))),
    ('records/0003.json', json.dumps(record(3, {}, 1.0, status='ended'))),
    ('points/0003/metrics.jsonl', 'step\n'),
    ('points/0003/metrics.jsonl', '[1]\n'),
    ('sweep.json', '{'),
  ],
)
def test_a_damaged_file_is_named(tmp_path, path, content):
  sweep(tmp_path, grid_records())
  (tmp_path / path).write_text(content)
  with pytest.raises(UserError) as error:
    report.write(tmp_path)
  assert path in str(error.value)
  assert '\n' not in str(error.value)


def test_two_objectives_are_no_sweep(tmp_path):
  sweep(tmp_path, [*grid_records(), record(12, {}, 1.0, objective='valid/x')])
  with pytest.raises(UserError, match='different objectives'):
    report.write(tmp_path)


def test_a_folder_that_is_no_sweep(tmp_path):
  with pytest.raises(UserError, match='--sweepdir'):
    report.write(tmp_path / 'none')


def test_the_field_that_matters_is_found_in_small_and_large_sweeps():
  rng = np.random.default_rng(0)
  small = np.repeat([1e-3, 2e-3, 5e-3, 1e-2], 3), np.tile([2.0, 4.0, 8.0], 4)
  large = 10 ** rng.uniform(-4, -1, 1000), rng.integers(2, 65, 1000) * 1.0
  for rate, size in (small, large):
    fields = [Axis('rate', rate), Axis('size', size)]
    for first, second in ((rate, size), (size, rate)):
      middle = np.exp(np.log(first).mean())
      values = np.log(first / middle) ** 2 + 0.01 * np.log(second)
      shares = report.importances(fields, values.tolist())
      assert math.isclose(sum(shares.values()), 1)
      assert (shares['rate'] > 0.8) == (first is rate)
