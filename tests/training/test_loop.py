import math
import os
import signal

import numpy as np
import pytest

from hyperjax.training import hosts, loop
from hyperjax.training.hooks import Every, Hook
from hyperjax.training.metrics import Mean
from hyperjax.types import TrainState


def state_at(step, broken=-1):
  return TrainState(np.int32(step), None, None, None, None, np.int32(broken))


def play(
  num_steps=10,
  start=0,
  periods=(4,),
  size=3,
  broken_at=None,
  on=None,
  interruption=None,
):
  """Runs the loop with a fake device; returns what happened, in order."""
  events = []

  def advance(state, count):
    first, end = int(state.step), int(state.step) + count
    broken = -1
    if broken_at is not None and first <= broken_at < end:
      broken = broken_at
    events.append(('dispatch', first, end))
    if on:
      on(end)
    metrics = {'x': Mean(np.float32(end), np.float32(1))}
    return state_at(end, broken), metrics

  every = Every(*periods, last=num_steps)
  hooks = [
    Hook(every, lambda step, state: events.append(('first', step))),
    Hook(every, lambda step, state: events.append(('second', step))),
  ]
  state = loop.run(
    state_at(start),
    advance,
    hooks,
    num_steps=num_steps,
    steps_per_dispatch=size,
    on_metrics=lambda step, metrics, broken: events.append(('metrics', step)),
    on_stop=lambda step, state: events.append(('stop', step)),
    interruption=interruption or loop.Interruption(),
    watchdog=hosts.Watchdog(0),
  )
  assert int(state.step) == num_steps
  return events


def test_every_step_is_dispatched_once_and_none_passes_a_due_hook():
  for num_steps in (1, 7, 10, 12):
    for period in (1, 3, 4, 100):
      for size in (1, 2, 100):
        events = play(num_steps, periods=(period,), size=size)
        done = [e[1:] for e in events if e[0] == 'dispatch']
        steps = [s for first, end in done for s in range(first, end)]
        assert steps == list(range(num_steps))
        assert all(end - first <= size for first, end in done)
        due = [*range(period, num_steps, period), num_steps]
        assert [e[1] for e in events if e[0] == 'first'] == due


def test_metrics_are_read_one_dispatch_late_but_before_the_hooks():
  events = play(num_steps=6, periods=(6,), size=2)
  assert events == [
    ('dispatch', 0, 1),
    ('dispatch', 1, 3),
    ('metrics', 1),
    ('dispatch', 3, 5),
    ('metrics', 3),
    ('dispatch', 5, 6),
    ('metrics', 5),
    ('metrics', 6),
    ('first', 6),
    ('second', 6),
  ]


def test_a_restored_state_has_its_hooks_behind_it():
  events = play(num_steps=8, start=4, periods=(4,))
  assert [e for e in events if e[0] == 'first'] == [('first', 8)]
  assert events[0] == ('dispatch', 4, 5)


def test_nothing_is_left_to_do():
  assert play(num_steps=5, start=5) == []


def test_a_broken_step_ends_the_run():
  with pytest.raises(loop.DivergedError) as error:
    play(num_steps=10, broken_at=5)
  assert error.value.steps == [5]


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_dispatch(signum):
  seen = []

  def on(end):
    seen.append(end)
    if end >= 5:
      os.kill(os.getpid(), signum)

  before = signal.getsignal(signum)
  with (
    pytest.raises(loop.SignalledError) as error,
    loop.Interruption() as interruption,
  ):
    play(num_steps=100, periods=(50,), on=on, interruption=interruption)
  assert error.value.signum == signum
  assert seen[-1] in (5, 6, 7)
  assert signal.getsignal(signum) is before


def test_the_same_signal_over_again_lets_it_save(monkeypatch):
  with loop.Interruption() as interruption:
    interruption.patient = True
    monkeypatch.setattr(loop, 'ECHO_SECONDS', math.inf)
    for _ in range(3):
      os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.signum == signal.SIGTERM
    monkeypatch.setattr(loop, 'ECHO_SECONDS', -1.0)
    with pytest.raises(loop.SignalledError) as error:
      os.kill(os.getpid(), signal.SIGTERM)
    assert error.value.again
