"""One sitting of a run: from its newest checkpoint to the last step."""

import contextlib
import fcntl
import functools
import math
import pathlib
from collections.abc import Callable

import jax
import optax
from ml_collections import ConfigDict

from hyperjax.errors import UserError
from hyperjax.training import loop
from hyperjax.training.checkpoint import Checkpointer
from hyperjax.training.hooks import Every, Hook
from hyperjax.training.log import TrainLog
from hyperjax.training.progress import Progress, say
from hyperjax.training.step import init_state, make_advance
from hyperjax.training.writers import MetricsWriter
from hyperjax.types import Source, Task, TrainState, Variables


class Session:
  """Owns what lives while a run trains: state, metrics, checkpoints.

  Use it in a `with` statement, which closes the files. The best step is the
  one with the least `valid_quick` objective.

  Args:
    config: the whole config.
    workdir: an existing folder; a checkpoint in it is gone on from.
    task: what to train.
    source: the data.
    evaluator: (params, state, split, batch_size, name) -> metrics.
    optimizer: of `training.optimizer`.
    learning_rate: its rate by step, for the log.

  Raises:
    UserError: another process trains in this workdir, the data is not that of
      the checkpoint, or every checkpoint is damaged.
  """

  def __init__(
    self,
    config: ConfigDict,
    workdir: pathlib.Path,
    task: Task,
    source: Source,
    evaluator: Callable[..., dict[str, float]],
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
  ):
    self._config, self._workdir = config, workdir
    self._source, self._evaluator = source, evaluator
    self._objective, self._learning_rate = task.objective, learning_rate
    self._advance = make_advance(task, source, optimizer, config.seed)
    # Jitted, so that no two leaves share a buffer: the state is donated.
    init = jax.jit(
      functools.partial(
        init_state, task, optimizer, config.data.batch_size, config.seed
      )
    )
    with contextlib.ExitStack() as stack:
      stack.enter_context(_lock(workdir))
      self._checkpointer = Checkpointer(workdir)
      stack.callback(self._checkpointer.close)
      restored = self._checkpointer.restore_latest(jax.eval_shape(init))
      self._state, record = restored or (init(), {})
      if restored and record['data'] != source.meta:
        raise UserError(
          f'{workdir}: the data has changed since this run began; begin again '
          f'in another workdir'
        )
      self._start = int(self._state.step)
      self._best = record.get('best')
      self._improved_at = None
      self._writer = MetricsWriter(
        workdir, record.get('metrics_length', 0), self._start
      )
      stack.callback(self._writer.close)
      self._closing = stack.pop_all()
    if restored:
      say(f'{workdir}: going on from step {self._start:,}')

  def __enter__(self) -> 'Session':
    return self

  def __exit__(self, *_) -> None:
    self._closing.close()

  def train(self, interruption: loop.Interruption) -> None:
    """Runs the loop to the last step.

    Args:
      interruption: hears SIGTERM and SIGINT.

    Raises:
      UserError: the run diverged.
      SignalledError: SIGTERM or SIGINT came, and the state has been saved.
    """
    config = self._config.train
    progress = Progress(config.num_steps, self._start)
    self._log = TrainLog(
      self._writer,
      progress,
      self._learning_rate,
      self._objective,
      self._start,
    )
    every = functools.partial(Every, last=config.num_steps)
    evaluations = every(config.eval_every)
    saves = every(config.eval_every, config.checkpoint_every)
    lines = every(config.log_every, *saves.periods)
    hooks = [
      Hook(evaluations, self._evaluate),
      Hook(lines, lambda step, _: self._log.flush(step)),
      Hook(saves, self._save_if_due),
    ]
    arrays = jax.device_put(self._source.arrays())
    try:
      self._state = loop.run(
        self._state,
        lambda state, count: self._advance(state, arrays, count),
        hooks,
        num_steps=config.num_steps,
        steps_per_dispatch=config.steps_per_dispatch,
        on_metrics=self._log.add,
        on_stop=self._stop,
        interruption=interruption,
      )
    except loop.DivergedError as error:
      raise self._diverged(error.step) from error
    finally:
      progress.close()

  def best_variables(self) -> tuple[Variables, int]:
    """The variables of the best step on validation, and that step."""
    self._checkpointer.wait()
    like = Variables(self._state.params, self._state.state)
    best = self._checkpointer.restore_best(like)
    if best is None:
      raise UserError(f'{self._workdir}: every checkpoint is damaged')
    return best

  def _evaluate(self, step: int, state: TrainState) -> None:
    metrics = self._evaluator(
      state.params,
      state.state,
      'valid',
      self._config.eval.quick_streams,
      name='valid_quick',
    )
    self._writer.write(step, metrics)
    name = f'valid_quick/{self._objective}'
    say(f'step {step:,}: {name} {metrics[name]:.4f}')
    if not math.isfinite(metrics[name]):
      raise loop.DivergedError(step)
    if self._best is None or metrics[name] < self._best['value']:
      self._best = {'step': step, 'value': metrics[name]}
      self._improved_at = step

  def _save_if_due(self, step: int, state: TrainState) -> None:
    config = self._config.train
    due = Every(config.checkpoint_every, last=config.num_steps).due(step)
    if due or self._improved_at == step:
      self._save(state)

  def _save(self, state: TrainState) -> None:
    """Makes the metrics safe on disk, then begins the checkpoint."""
    self._checkpointer.save(
      state,
      metrics_length=self._writer.flush(),
      best=self._best,
      data=self._source.meta,
    )

  def _stop(self, step: int, state: TrainState) -> None:
    self._log.flush(step)
    if step not in self._checkpointer.steps():
      self._save(state)
    self._checkpointer.wait()
    say(f'stopped at step {step:,}; the same command goes on from there')

  def _diverged(self, step: int) -> UserError:
    self._checkpointer.wait()
    steps = self._checkpointer.steps()
    good = f'that of step {steps[-1]:,}' if steps else 'none'
    return UserError(
      f'{self._workdir}: a metric is not finite at step {step:,}; the last '
      f'good checkpoint is {good}; try a lower config.optimizer.learning_rate '
      f'in another workdir'
    )


def _lock(workdir):
  """An open file that keeps other processes out of a workdir."""
  file = (workdir / 'lock').open('w')
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    file.close()
    raise UserError(f'{workdir}: another process trains here') from error
  return file
