import pytest

from hyperjax.training.hooks import Every, Hook

CADENCES = [
  ((1,), 1),
  ((1,), 7),
  ((3,), 9),
  ((3,), 10),
  ((3,), 2),
  ((10,), 10),
  ((100,), 7),
  ((2, 3), 13),
  ((4, 6, 10), 35),
  ((5, 5), 12),
  ((7, 1000), 30),
]


@pytest.mark.parametrize(('periods', 'last'), CADENCES)
def test_due_at_multiples_and_at_the_last_step(periods, last):
  every = Every(*periods, last=last)
  expected = {last}
  for period in periods:
    expected |= set(range(period, last + 1, period))
  assert {step for step in range(last + 1) if every.due(step)} == expected


@pytest.mark.parametrize(('periods', 'last'), CADENCES)
def test_next_is_the_first_due_step_after_this_one(periods, last):
  every = Every(*periods, last=last)
  for step in range(last):
    later = range(step + 1, last + 1)
    assert every.next(step) == min(s for s in later if every.due(s))


@pytest.mark.parametrize(('periods', 'last'), CADENCES)
def test_from_due_step_to_due_step_none_is_left_out(periods, last):
  every, step, visited = Every(*periods, last=last), 0, []
  while step < last and len(visited) < last:
    step = every.next(step)
    visited.append(step)
  assert visited == [s for s in range(last + 1) if every.due(s)]
  assert visited[-1] == last


def test_step_zero_is_never_due():
  assert not Every(1, last=5).due(0)
  assert not Every(1, last=0).due(0)


def test_a_hook_is_when_and_what():
  calls = []
  hook = Hook(Every(2, last=5), lambda step, state: calls.append((step, state)))
  for step in range(6):
    if hook.every.due(step):
      hook.call(step, f'state {step}')
  assert calls == [(2, 'state 2'), (4, 'state 4'), (5, 'state 5')]
