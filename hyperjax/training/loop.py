"""The one training loop."""

import signal
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax.training import hosts
from hyperjax.training.hooks import Hook
from hyperjax.training.metrics import Mean
from hyperjax.types import Metrics, TrainState

# About how long a dispatch may take, so that signals are heard. Not less, for
# on CPUs each touches its memory anew.
DISPATCH_SECONDS = 2.0
# How long the same signal may come over again.
ECHO_SECONDS = 1.0


class DivergedError(Exception):
  """A metric stopped being a finite number, with every seed.

  Attributes:
    steps: the step that did it of each seed, counted from 0.
  """

  def __init__(self, steps: list[int]):
    super().__init__(f'not finite at step {max(steps)}')
    self.steps = steps


class SignalledError(Exception):
  """The process was asked to stop.

  Attributes:
    signum: by which signal.
    again: whether it is a second one, after which nothing is waited for.
  """

  def __init__(self, signum: int, again: bool = False):
    super().__init__(f'signal {signum}')
    self.signum = signum
    self.again = again


class Interruption:
  """Turns SIGTERM and SIGINT into `SignalledError`, in a `with` statement.

  It is raised at once, except while the training loop runs (`patient`), which
  ends its dispatch and saves first. A second signal is heard at once, if it is
  not the same one over again: batch systems tell all processes of a job, and
  those may tell each other.
  """

  def __init__(self):
    self.signum = 0
    self.patient = False
    self._noted = 0.0

  def __enter__(self) -> 'Interruption':
    self._old = {
      signum: signal.signal(signum, self._note)
      for signum in (signal.SIGTERM, signal.SIGINT)
    }
    return self

  def __exit__(self, *_) -> None:
    for signum, handler in self._old.items():
      signal.signal(signum, handler)

  def _note(self, signum, _):
    now = time.monotonic()
    if self.signum:
      if now - self._noted > ECHO_SECONDS:
        raise SignalledError(signum, again=True)
      return
    self.signum, self._noted = signum, now
    if not self.patient:
      raise SignalledError(signum)


def run(
  state: TrainState,
  advance: Callable[[TrainState, int], tuple[TrainState, Metrics]],
  hooks: Sequence[Hook],
  *,
  num_steps: int,
  steps_per_dispatch: int,
  on_metrics: Callable[[int, Metrics, np.ndarray], None],
  on_stop: Callable[[int, TrainState], None],
  interruption: Interruption,
  watchdog: hosts.Watchdog,
) -> TrainState:
  """Trains to `num_steps`.

  The order is fixed: the hooks that are due, on the current state; a dispatch
  of steps up to the next due hook; the metrics of the dispatch before, so that
  the device never waits for the host. A restored state has its hooks behind
  it. Several processes agree on the size of each dispatch, and stop at the same
  step when one of them hears a signal.

  Args:
    state: to start from; it is donated.
    advance: (state, number of steps) -> state, metrics.
    hooks: in the order in which they are called; at least one is due at the
      last step.
    num_steps: where to end, counted from the first step of all.
    steps_per_dispatch: the most steps in one dispatch.
    on_metrics: called with (step, metrics, `state.broken`) of each dispatch.
    on_stop: called with (step, state) when a signal asks to stop.
    interruption: hears the signals.
    watchdog: is told that this process gets on.

  Raises:
    DivergedError: a metric was not finite, of every seed.
    SignalledError: SIGTERM or SIGINT came; `on_stop` has run.
  """
  step, dispatched, size, signum = int(state.step), None, 1, 0
  interruption.patient = True
  while step < num_steps and not signum:
    due = min(hook.every.next(step) for hook in hooks)
    start = time.monotonic()
    count = min(size, due - step)
    state, metrics = advance(state, count)
    broken = jnp.copy(state.broken)  # for the next dispatch takes the state
    watchdog.alive(f'step {step:,}')
    _read(dispatched, on_metrics)
    step += count
    dispatched = step, metrics, broken
    if step == due:
      dispatched = _read(dispatched, on_metrics)
      watchdog.rest()
      for hook in hooks:
        if hook.every.due(step):
          hook.call(step, state)
    elif time.monotonic() - start < DISPATCH_SECONDS:
      size = min(2 * size, steps_per_dispatch)
    else:
      size = max(size // 2, 1)
    size, signum = hosts.agree(size, interruption.signum)
    watchdog.rest()
  if signum:
    _read(dispatched, on_metrics)
    on_stop(step, state)
    raise SignalledError(signum)
  interruption.patient = False
  if interruption.signum:  # in this moment; the last step has been saved
    raise SignalledError(interruption.signum)
  return state


def _read(dispatched, on_metrics) -> None:
  """Waits for the metrics of a dispatch and hands them on."""
  if dispatched is None:
    return
  step, metrics, broken = jax.device_get(dispatched)
  if (broken >= 0).all():
    raise DivergedError(np.atleast_1d(broken).tolist())
  # In float64 from here on, where many are added up.
  on_metrics(
    step,
    {
      name: Mean(np.float64(mean.total), np.float64(mean.weight))
      for name, mean in metrics.items()
    },
    broken,
  )
