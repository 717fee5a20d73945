"""Runs the points side by side on this machine, with Optuna.

Several machines that share the folder can run the same command: a point is
locked by whoever runs it, and Optuna's journal lies in the folder.

Optuna chooses the points of a space with ranges (TPE: at random at first,
then where the finished ones were good), and prunes. Points of a finite space
are run in their order.
"""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import (
  BaseDistribution,
  CategoricalDistribution,
  FloatDistribution,
  IntDistribution,
)
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hyperjax.errors import UserError
from hyperjax.sweeps import records
from hyperjax.sweeps.point import POLL_SECONDS, run_point
from hyperjax.sweeps.space import Point, Range, Space, in_words
from hyperjax.sweeps.sweep import Sweep
from hyperjax.training import loop


def build(
  *, workers: int = 0, prune: bool = False, gpus: Sequence[str] = ()
) -> Callable[[Sweep], None]:
  """The engine.

  Args:
    workers: how many runs at once; 0 is one for each GPU, or two.
    prune: whether runs that do worse than others are stopped.
    gpus: which GPUs the runs may see; they take turns.
  """
  if workers < 0:
    raise UserError(f'--workers is {workers}; it must be at least 1')
  return functools.partial(
    _run, workers=workers or len(gpus) or 2, prune=prune, gpus=gpus
  )


def _run(sweep: Sweep, *, workers: int, prune: bool, gpus: Sequence[str]):
  optuna.logging.set_verbosity(optuna.logging.ERROR)
  study = _Study(sweep, prune)
  study.catch_up()
  with loop.Interruption() as interruption:
    interruption.patient = True  # children are stopped first
    crashes, seen = [], set()
    threads = [
      threading.Thread(
        target=_work,
        args=(
          sweep,
          study,
          {'CUDA_VISIBLE_DEVICES': gpus[k % len(gpus)]} if gpus else {},
          lambda: bool(interruption.signum or crashes),
          seen,
          crashes,
        ),
        daemon=True,  # at a second signal nothing is waited for
      )
      for k in range(min(workers, sweep.num_points))
    ]
    for thread in threads:
      thread.start()
    for thread in threads:
      while thread.is_alive():
        thread.join(POLL_SECONDS)  # so that signals are heard
  if crashes:
    raise crashes[0]
  if interruption.signum:
    raise loop.SignalledError(interruption.signum)


def _work(sweep, study, environ, stopping, seen, crashes):
  """Runs points until none is left; what goes wrong goes to `crashes`."""
  try:
    while not stopping():
      left = [k for k in records.unfinished(sweep) if k not in seen]
      if not left:
        return
      if not any(_try(sweep, study, environ, stopping, seen, k) for k in left):
        time.sleep(5 * POLL_SECONDS)  # others have them, and may be killed
  except Exception as error:
    crashes.append(error)


def _try(sweep, study, environ, stopping, seen, number) -> bool:
  """Runs a point, unless another process or thread has it."""
  claim = sweep.claim(number)
  if claim is None:
    return False
  with claim:
    if records.read(sweep, number):  # it ended before it could be claimed
      return False
    trial = study.ask(number)
    record = run_point(
      sweep,
      number,
      claim,
      trial.report,
      engine='local',
      choose=trial.choose,
      environ=environ,
      stopping=stopping,
    )
    trial.tell(record)
    if record is None:
      seen.add(number)  # somebody stopped it: not again in this session
  return True


class _Study:
  """Optuna's view of a sweep.

  The records are the truth, and the journal is made to agree with them: so a
  kill at any moment costs nothing.
  """

  def __init__(self, sweep: Sweep, prune: bool):
    self._sweep, self._prune = sweep, prune
    # A finite space needs no parameters, and can then have more points.
    self._axes = dict(_distributions(sweep.space)) if sweep.space.ranges else {}
    self._storage = optuna.storages.JournalStorage(
      JournalFileBackend(str(sweep.folder / 'journal.log'))
    )
    self._study = self._load(optuna.samplers.RandomSampler())

  def _load(self, sampler):
    # A run is judged by its neighbours at the same step, and not in its first
    # quarter. Successive halving would stop most runs at their first
    # evaluations, where a low learning rate is always behind.
    pruner = (
      optuna.pruners.MedianPruner(
        n_startup_trials=4, n_warmup_steps=self._sweep.num_steps // 4
      )
      if self._prune
      else optuna.pruners.NopPruner()
    )
    return optuna.create_study(
      storage=self._storage,
      sampler=sampler,
      pruner=pruner,
      study_name='sweep',
      load_if_exists=True,
    )

  def catch_up(self) -> None:
    """Tells Optuna of what ran without it, and closes what was killed."""
    there = set()
    for trial in self._study.get_trials(deepcopy=False):
      number = trial.user_attrs.get('point')
      if trial.state is TrialState.COMPLETE:
        there.add(number)
      elif trial.state is TrialState.RUNNING and (
        number is not None and records.read(self._sweep, number)
      ):
        self._study.tell(trial.number, state=TrialState.FAIL)
    for record in records.read_all(self._sweep):
      if record['status'] == 'finished' and record['point'] not in there:
        point = self._sweep.point(record['point'])
        self._study.add_trial(
          optuna.trial.create_trial(
            params=self._parameters(point),
            distributions=self._axes,
            value=record['value'],
            user_attrs={'point': record['point']},
          )
        )

  def ask(self, number: int) -> '_Trial':
    """A trial for a point; what a killed process left of it is closed."""
    for trial in self._study.get_trials(
      deepcopy=False, states=(TrialState.RUNNING,)
    ):
      if trial.user_attrs.get('point') == number:
        self._study.tell(trial.number, state=TrialState.FAIL)
    if self._sweep.chosen(number) or not self._axes:
      sampler = _Given(self._parameters(self._sweep.point(number)))
    else:
      # Of its own for each point: a process that goes on begins none anew.
      seed = (self._sweep.seed * 1_000_003 + number) % 2**32
      sampler = optuna.samplers.TPESampler(seed=seed)
    study = self._load(sampler)
    trial = study.ask(self._axes)
    trial.set_user_attr('point', number)
    return _Trial(study, trial, self._sweep.space)

  def _parameters(self, point: Point) -> dict[str, Any]:
    """A point as Optuna's parameters."""
    return _parameters(self._sweep.space, point) if self._axes else {}


class _Trial:
  """A point, as Optuna sees it while it runs."""

  def __init__(self, study: optuna.Study, trial: optuna.Trial, space: Space):
    self._study, self._trial, self._space = study, trial, space

  def choose(self) -> Point:
    """The point that Optuna has chosen."""
    point = {}
    for name, axis in _names(self._space):
      value = self._trial.params[name]
      if isinstance(axis, Range):
        point[name] = value
      else:
        point |= next(part for part in axis if in_words(part) == value)
    return point

  def report(self, step: int, value: float) -> bool:
    """Takes an evaluation; returns whether to prune."""
    self._trial.report(value, step)
    return self._trial.should_prune()

  def tell(self, record: records.Record | None) -> None:
    """Takes the end of the run."""
    status = record['status'] if record else 'stopped'
    if status == 'finished':
      self._study.tell(self._trial, record['value'])
    else:
      state = TrialState.PRUNED if status == 'pruned' else TrialState.FAIL
      self._study.tell(self._trial, state=state)


class _Given(optuna.samplers.BaseSampler):
  """Gives the parameters that are known already."""

  def __init__(self, parameters: dict[str, Any]):
    self._parameters = parameters

  def infer_relative_search_space(self, study, trial):
    """Nothing is drawn together."""
    return {}

  def sample_relative(self, study, trial, search_space):
    """Nothing is drawn together."""
    return {}

  def sample_independent(self, study, trial, name, distribution):
    """The known value."""
    return self._parameters[name]


def _names(space):
  """(name, axis): a range's field, or all fields of the axis's points."""
  for axis in space.axes:
    if isinstance(axis, Range):
      yield axis.field, axis
    else:
      yield ', '.join(sorted(set().union(*axis))) or 'point', axis


def _distributions(space: Space):
  """(name, what Optuna draws from) of each axis."""
  for name, axis in _names(space):
    yield name, _distribution(axis)


def _distribution(axis) -> BaseDistribution:
  if not isinstance(axis, Range):
    return CategoricalDistribution([in_words(part) for part in axis])
  if axis.whole:
    return IntDistribution(int(axis.low), int(axis.high))
  return FloatDistribution(axis.low, axis.high, log=axis.log)


def _parameters(space: Space, point: Point) -> dict[str, Any]:
  """A point as Optuna's parameters."""
  found = {}
  for name, axis in _names(space):
    if isinstance(axis, Range):
      found[name] = point[name]
    else:
      words = {in_words({field: point[field]}) for field in point}
      fits = [
        part
        for part in axis
        if all(in_words({field: part[field]}) in words for field in part)
      ]
      found[name] = in_words(max(fits, key=len))
  return found
