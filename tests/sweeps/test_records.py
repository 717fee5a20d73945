import json
import math

import pytest

from hyperjax.errors import UserError
from hyperjax.sweeps import records
from hyperjax.sweeps.point import write


def test_the_table_has_the_best_first_and_the_failed_last(make_sweep):
  sweep = make_sweep((13, 5.0, 2.0, 3.0))
  for number, status in enumerate(('failed', 'pruned', 'finished', 'finished')):
    error = 'config.x is unlucky' if status == 'failed' else None
    if status == 'finished':
      sweep.workdir(number).mkdir()
      (sweep.workdir(number) / 'result.json').write_text(
        f'{{"step": 5, "valid/loss": {5 - number}}}'
      )
    write(sweep, number, status, error, engine='local', seconds=1.0)
  lines = records.table(sweep).splitlines()
  assert [line.split()[0] for line in lines[:4]] == [
    *('valid/loss', '2.0000', '3.0000', 'pruned'),
  ]
  assert lines[4] == 'failed: point 0 (x=13): config.x is unlucky'
  assert lines[5].endswith('points/0000.log')
  assert records.best(records.read_all(sweep)) == 2.0
  assert records.best([]) == math.inf


def test_only_failed_points_are_forgotten(make_sweep):
  sweep = make_sweep((1.0, 2.0))
  for number, status in enumerate(('failed', 'pruned')):
    write(sweep, number, status, None, engine='local', seconds=1.0)
  records.forget_failed(sweep, range(2))
  assert records.unfinished(sweep) == [0]


def test_a_point_is_described_in_short():
  point = {'optimizer.learning_rate': 0.00123456, 'model.z_size': 4}
  assert records.describe(point) == 'learning_rate=0.001235 z_size=4'
  point = {'a.name': 'x', 'b.name': 'y'}
  assert records.describe(point) == 'a.name=x b.name=y'
  assert records.describe({}) == 'as configured'


@pytest.mark.parametrize(
  ('file', 'content'),
  [
    ('result.json', '{"valid/loss": "low", "step": [1]}'),
    ('result.json', '{"valid/loss": {}, "step": "5"}'),
    ('result.json', f'{{"valid/loss": 1{"0" * 400}}}'),
    ('environment.json', '{"devices": 5}'),
    ('environment.json', '{"devices": ["cpu", 1, []]}'),
    ('environment.json', '[' * 100_000),
    ('metrics.jsonl', '[1]\n'),
    ('metrics.jsonl', '{"x": 1}\n'),
    ('metrics.jsonl', '[' * 100_000 + '\n'),
    ('metrics.jsonl', '{"step": "a"}\n'),
  ],
)
def test_what_a_failed_run_has_left_may_be_damaged(make_sweep, file, content):
  sweep = make_sweep((1.0,))
  sweep.workdir(0).mkdir()
  (sweep.workdir(0) / file).write_text(content)
  found = records.of_workdir(sweep, 0)
  assert found['value'] is None
  assert found['step'] is None


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('value', 'low'),
    ('value', 10**400),
    ('step', '5'),
    ('overrides', []),
    ('point', None),
  ],
)
def test_a_record_of_other_types_is_named(make_sweep, field, value):
  sweep = make_sweep((1.0,))
  write(sweep, 0, 'failed', 'x', engine='local', seconds=1.0)
  path = records.path_of(sweep, 0)
  path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
  with pytest.raises(UserError, match=f'0000.json is damaged: its {field}'):
    records.table(sweep)
