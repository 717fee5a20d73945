import pytest

from hyperjax.sweeps import records
from hyperjax.sweeps.point import run_point


def test_a_finished_point_has_its_record(claimed):
  sweep, number, claim = claimed
  steps = []
  record = run_point(
    sweep,
    number,
    claim,
    lambda step, value: steps.append(step),
    engine='local',
  )
  assert steps == [1, 2, 3, 4, 5]
  assert records.read(sweep, number) == record
  assert record.pop('ended').endswith('+00:00')
  assert record.pop('command').endswith('/points/0001')
  assert record == {
    'point': 1,
    'overrides': {'x': 1.0},
    'status': 'finished',
    'objective': 'valid/loss',
    'value': 1.0,
    'metrics': {'step': 5, 'best_step': 4, 'parameters': 7, 'valid/loss': 1.0},
    'best_step': 4,
    'step': 5,
    'parameters': 7,
    'git': 'abc',
    'versions': {'jax': '1'},
    'hardware': 'cpu, a machine',
    'seconds': 1.5,
    'error': None,
    'engine': 'local',
  }


def test_a_pruned_point_is_stopped_and_says_so(make_sweep):
  sweep = make_sweep(pause=0.1)
  with sweep.claim(0) as claim:
    record = run_point(
      sweep, 0, claim, lambda step, value: step >= 2, engine='local'
    )
  assert record['status'] == 'pruned'
  assert record['value'] is None and record['error'] is None
  assert 2 <= record['step'] < 5


def test_a_point_at_its_last_step_is_not_pruned(make_sweep):
  sweep = make_sweep(pause=0.1)
  with sweep.claim(0) as claim:
    record = run_point(
      sweep, 0, claim, lambda step, value: step == 5, engine='local'
    )
  assert record['status'] == 'finished'


def test_a_stopped_point_goes_on_with_what_it_has(make_sweep, starts):
  sweep = make_sweep(pause=0.1)
  seen = []
  for stopping in (lambda: bool(seen), lambda: False):
    with sweep.claim(0) as claim:
      record = run_point(
        sweep,
        0,
        claim,
        lambda step, value: seen.append(step),
        engine='local',
        stopping=stopping,
      )
    if stopping():
      assert record is None
      assert records.unfinished(sweep) == [0, 1, 2, 3]
  assert record['status'] == 'finished'
  first, second = map(int, starts(sweep)[0])
  assert first == 0 and 1 <= second < 5


def test_a_result_without_the_objective_is_a_failure(make_sweep, monkeypatch):
  sweep = make_sweep()
  object.__setattr__(sweep, 'objective', 'valid/other')
  with sweep.claim(0) as claim:
    record = run_point(sweep, 0, claim, engine='local')
  assert record['status'] == 'failed'
  assert 'has no valid/other' in record['error']


@pytest.mark.parametrize('x', [13, 99])
def test_a_failed_point_can_be_forgotten_and_run_again(make_sweep, x):
  sweep = make_sweep((x, 1.0))
  with sweep.claim(0) as claim:
    record = run_point(sweep, 0, claim, engine='local')
    assert record['status'] == 'failed' and record['value'] is None
    records.forget_failed(sweep, range(2))  # it is claimed
    assert records.unfinished(sweep) == [1]
  records.forget_failed(sweep, range(2))
  assert records.unfinished(sweep) == [0, 1]


def test_the_run_can_be_looked_at(make_sweep, capsys):
  sweep = make_sweep((13,))
  with sweep.claim(0) as claim:
    run_point(sweep, 0, claim, engine='point', shown=True)
  assert 'error: config.x is unlucky\n' in capsys.readouterr().err
