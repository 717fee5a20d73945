"""Runs the points on a Ray cluster, as trials of Ray Tune.

The folder of the sweep must be one that all machines see. A point is a trial
with the resources that `--ray_resources` asks for, in Ray's names:

    {"GPU": 1}    the default; {"GPU": 0.5} puts two runs on each GPU
    {"CPU": 1}    the default where the cluster has no GPU
    {"TPU": 4}    four chips of a host with a TPU

Points of a space with ranges are drawn at random. With `--prune` ASHA stops
runs. The records say what has ended, so that the same command goes on.
"""

import functools
import json
import math
import os
import pathlib
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

from hyperjax.errors import UserError
from hyperjax.sweeps import point, records
from hyperjax.sweeps.sweep import Sweep
from hyperjax.training import loop
from hyperjax.training.progress import say

QUIET = {
  'RAY_USAGE_STATS_ENABLED': '0',
  'RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO': '0',
  'RAY_AIR_NEW_OUTPUT': '0',  # whose least is still a page
  'TUNE_DISABLE_AUTO_CALLBACK_LOGGERS': '1',
  'TUNE_DISABLE_SIGINT_HANDLER': '1',
}
# Environment variables that runs on other machines need as well.
CARRIED = ('HYPERJAX_', 'JAX_', 'XLA_', 'PYTHONPATH', 'TUNE_')


def build(
  *,
  workers: int = 0,
  prune: bool = False,
  ray_address: str = '',
  ray_resources: str = '',
) -> Callable[[Sweep], None]:
  """The engine.

  Args:
    workers: the most runs at once; 0 is as many as the resources allow.
    prune: whether runs that do worse than others are stopped.
    ray_address: of a cluster, or 'auto'; empty starts one on this machine.
    ray_resources: of a run, in JSON; empty is a GPU, or a CPU without any.

  Raises:
    UserError: Ray is not installed, or the resources are none.
  """
  os.environ.update(QUIET)  # read when it is imported
  try:
    import ray.tune  # noqa: F401
  except ImportError as error:
    raise UserError(
      f"--engine=ray: {error}; pip install 'hyperjax[ray]'"
    ) from error
  return functools.partial(
    _run,
    workers=workers,
    prune=prune,
    address=ray_address,
    resources=_parse_resources(ray_resources) if ray_resources else {},
  )


def _parse_resources(words):
  try:
    found = json.loads(words)
    if found and all(amount > 0 for amount in found.values()):
      return found
  except (ValueError, TypeError, AttributeError):
    pass
  raise UserError(
    f'--ray_resources: {words} is not such as {{"CPU": 2, "GPU": 0.5}}'
  )


class _Interruption(loop.Interruption):
  """Hands a signal on to Ray Tune, which stops at SIGUSR1 and saves."""

  def _note(self, signum, frame):
    self.patient = callable(signal.getsignal(signal.SIGUSR1))
    super()._note(signum, frame)
    signal.raise_signal(signal.SIGUSR1)


def _run(sweep: Sweep, *, workers, prune, address, resources):
  import ray

  carried = {k: v for k, v in os.environ.items() if k.startswith(CARRIED)}
  try:
    with warnings.catch_warnings():
      # JAX's, of forks: Ray's processes are other programs at once.
      warnings.simplefilter('ignore', RuntimeWarning)
      ray.init(
        address=address or 'local',
        include_dashboard=None if address else False,
        log_to_driver=False,
        logging_level='ERROR',
        runtime_env={'env_vars': carried},
      )
  except (ConnectionError, RuntimeError, ValueError) as error:
    reason = str(error).split('\n')[0]
    raise UserError(f'--ray_address={address}: {reason}') from error
  if not resources:
    resources = {'GPU' if 'GPU' in ray.cluster_resources() else 'CPU': 1}
  try:
    with _Interruption() as interruption:  # after Ray has set its handlers
      _fit(sweep, workers, prune, resources, interruption)
  finally:
    ray.shutdown()  # runs of this machine save and end
  if interruption.signum:
    raise loop.SignalledError(interruption.signum)


def _fit(sweep, workers, prune, resources, interruption):
  """Goes on with the last experiment, then runs what is left in a new one."""
  from ray import tune

  trainable = _trainable(sweep, resources)
  folder = sweep.folder / 'ray'
  last = max(folder.glob('[0-9]*'), default=None)
  if last and records.unfinished(sweep) and tune.Tuner.can_restore(str(last)):
    try:
      tuner = tune.Tuner.restore(
        str(last), trainable=trainable, resume_unfinished=True
      )
      tuner.fit()
    except Exception as error:  # whatever a half-written file raises
      reason = f'{type(error).__name__}: {error}'.split('\n')[0]
      say(f'{last}: can not be gone on with, a new one begins: {reason}')
  left = records.unfinished(sweep)
  if interruption.signum or not left:
    return
  scheduler = tune.schedulers.ASHAScheduler(
    time_attr='step',
    max_t=sweep.num_steps + 1,  # there it would stop any run
    grace_period=max(1, sweep.num_steps // 8),
    reduction_factor=3,
  )
  tune.Tuner(
    trainable,
    param_space={'point': tune.grid_search(left)},
    tune_config=tune.TuneConfig(
      metric='objective',
      mode='min',
      scheduler=scheduler if prune else None,
      max_concurrent_trials=workers or None,
    ),
    run_config=tune.RunConfig(
      name=f'{int(last.name) + 1 if last else 0:04d}',
      storage_path=str(folder.resolve()),
      callbacks=[_callback(sweep)],
      verbose=0,
    ),
  ).fit()


def _trainable(sweep: Sweep, resources: dict[str, float]):
  """A point as Ray Tune runs it: a step goes to the next evaluation."""
  from ray import tune

  class SweepPoint(tune.Trainable):
    def setup(self, config: dict[str, Any]):
      self._number = config['point']
      self._claim = self._child = None
      self._news = deque()

    def step(self) -> dict[str, Any]:
      while True:
        if record := records.read(sweep, self._number):
          value = record['value']
          return {
            'objective': math.inf if value is None else value,
            'step': record['step'] or 0,
            'done': True,
          }
        if not self._child:
          self._begin()
        if self._child:
          self._news.extend(self._child.news())
          if self._news:
            step, value = self._news.popleft()
            return {'objective': value, 'step': step, 'done': False}
          if not self._child.running() and not point.end(
            sweep, self._number, self._child, engine='ray'
          ):
            return {
              'objective': math.inf,
              'step': 0,
              'done': True,
              'stopped': True,
            }
        time.sleep(point.POLL_SECONDS)

    def _begin(self):
      """Begins, unless another process has the point still."""
      self._claim = sweep.claim(self._number)
      if self._claim and not records.read(sweep, self._number):
        self._child = point.begin(sweep, self._number, self._claim)

    def cleanup(self):
      if self._child:
        self._child.stop()
      if self._claim:
        self._claim.close()

    def save_checkpoint(self, checkpoint_dir: str):
      """Nothing: a run saves its own state."""
      pathlib.Path(checkpoint_dir, 'point').write_text(str(self._number))

    def load_checkpoint(self, checkpoint: Any):
      pass

  SweepPoint.__module__ = '__main__'  # so that it travels by value
  return tune.with_resources(
    SweepPoint, tune.PlacementGroupFactory([resources])
  )


def _callback(sweep: Sweep):
  """Tells of points here, where one looks, and records the pruned ones."""
  from ray import tune

  class Tell(tune.Callback):
    def on_trial_start(self, iteration, trials, trial, **info):
      point.say_start(sweep, trial.config['point'])

    def on_trial_complete(self, iteration, trials, trial, **info):
      number, result = trial.config['point'], trial.last_result
      record = records.read(sweep, number)
      if record is None and not result.get('stopped'):
        record = point.write(
          sweep,
          number,
          'pruned',
          None,
          engine='ray',
          seconds=result.get('time_total_s', 0.0),
        )
      if record:
        point.say_end(sweep, record)

  Tell.__module__ = '__main__'
  return Tell()
