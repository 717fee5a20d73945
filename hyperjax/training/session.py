"""One sitting of a run: from its newest checkpoint to the last step."""

import contextlib
import fcntl
import functools
import math
import pathlib
import platform
import time
from collections.abc import Callable

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from hyperjax.errors import RunDivergedError, UserError
from hyperjax.training import hosts, loop, seed_axis
from hyperjax.training.checkpoint import Checkpointer
from hyperjax.training.feed import Feed
from hyperjax.training.hooks import Every, Hook
from hyperjax.training.log import TrainLog
from hyperjax.training.metrics import merge
from hyperjax.training.progress import Progress, say
from hyperjax.training.sharding import Layout
from hyperjax.training.step import init_state, make_advance
from hyperjax.training.writers import MetricsWriter, NoWriter
from hyperjax.types import Metrics, Source, Task, TrainState, Variables

# A network's file system may show a new file late.
SECONDS_UNTIL_SEEN = 10.0


class Session:
  """Owns what lives while a run trains: state, metrics, checkpoints.

  Use it in a `with` statement, which closes the files. The best step of a
  seed is the one with the least `valid_quick` objective.

  Args:
    config: the whole config.
    workdir: an existing folder; a checkpoint in it is gone on from.
    task: what to train.
    source: the data.
    evaluator: (params, state, split, batch_size, name) -> metrics, with the
      axis of seeds, if there is one.
    optimizer: of `training.optimizer`.
    learning_rate: its rate by step, for the log.
    layout: where arrays lie.
    watchdog: is told that the run gets on.

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
    evaluator: Callable[..., dict[str, np.ndarray]],
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    layout: Layout,
    watchdog: hosts.Watchdog,
  ):
    self._config, self._workdir = config, workdir
    self.layout, self._watchdog = layout, watchdog
    self._source, self._evaluator = source, evaluator
    self._objective, self._learning_rate = task.objective, learning_rate
    self._seeds = seed_axis.of(config.seed, config.num_seeds)
    self._seed_list = np.atleast_1d(self._seeds).tolist()
    self._advance = make_advance(
      task,
      source,
      optimizer,
      self._seeds,
      layout=layout,
      accumulate_steps=config.train.accumulate_steps,
    )
    init = functools.partial(
      init_state, task, optimizer, config.data.batch_size, self._seeds
    )
    shapes = jax.eval_shape(init)
    shardings = layout.of_state(shapes, config.num_seeds)
    with contextlib.ExitStack() as stack:
      _lock(workdir, stack)
      self._checkpointer = Checkpointer(workdir)
      stack.callback(self._checkpointer.close)
      like = jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at),
        shapes,
        shardings,
      )
      with watchdog.over('the newest checkpoint'):
        restored = self._checkpointer.restore_latest(like)
      # Jitted, so that no two leaves share a buffer: the state is donated.
      make = jax.jit(init, out_shardings=shardings)
      self._state, record = restored or (make(), {})
      if restored and record['data'] != source.meta:
        raise UserError(
          f'{workdir}: the data has changed since this run began; begin again '
          f'in another workdir'
        )
      self._start = int(self._state.step)
      self._best = record.get('best', [None] * config.num_seeds)
      self._broken = np.atleast_1d(self._state.broken)
      self._improved_at = None
      self._seconds = record.get('seconds', 0.0) - time.monotonic()
      self._writer = NoWriter()
      with hosts.shared_fate():
        if hosts.is_primary():
          self._writer = MetricsWriter(
            workdir, record.get('metrics_length', 0), self._start
          )
      stack.callback(self._writer.close)
      self._closing = stack.pop_all()
    if restored:
      say(f'{workdir}: going on from step {self._start:,}')

  def __enter__(self) -> 'Session':
    return self

  def __exit__(self, _, error: BaseException | None, __) -> None:
    hurried = isinstance(error, loop.SignalledError) and error.again
    if hurried or hosts.is_loss(error):
      # A save under way would be waited for, or wait for the lost process.
      self._closing.pop_all()
      self._writer.close()
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
      self._seed_list,
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
    feed = Feed(self._source, self._seeds, self.layout, self._start)

    def advance(state, count):
      total = None
      for arrays, steps in feed(count):
        state, metrics = self._advance(state, arrays, steps)
        total = merge(total, metrics) if total else metrics
      return state, total

    try:
      self._state = loop.run(
        self._state,
        advance,
        hooks,
        num_steps=config.num_steps,
        steps_per_dispatch=config.steps_per_dispatch,
        on_metrics=self._add,
        on_stop=self._stop,
        interruption=interruption,
        watchdog=self._watchdog,
      )
    except loop.DivergedError as error:
      raise self._diverged(error.steps) from error
    finally:
      progress.close()

  def best_variables(self) -> dict[int, tuple[Variables, int]]:
    """By seed, the variables of its best step on validation, and that step.

    Seeds that diverged are left out; see `diverged`.
    """
    with self._watchdog.over('the last checkpoint'):
      self._checkpointer.wait()
    like = Variables(self._state.params, self._state.state)  # as they lie
    found = {}
    for place, seed in enumerate(self._seed_list):
      if seed in self.diverged():
        continue
      variables, step = self._checkpointer.restore_best(like, place)
      found[seed] = seed_axis.take(variables, place, self._seeds), step
    return found

  def seconds(self) -> float:
    """How long the run has taken until now, in all its sessions."""
    return self._seconds + time.monotonic()

  def diverged(self) -> dict[int, int]:
    """Seeds with a metric that was not finite, and the first such step.

    A seed whose evaluations never were is one of them.
    """
    broken = np.atleast_1d(self._state.broken).tolist()
    return {
      seed: step if step >= 0 else int(self._state.step)
      for seed, step, best in zip(
        self._seed_list, broken, self._best, strict=True
      )
      if step >= 0 or best is None
    }

  def _add(self, step: int, metrics: Metrics, broken: np.ndarray) -> None:
    broken = np.atleast_1d(broken)
    for place in np.flatnonzero((broken >= 0) & (self._broken < 0)):
      say(
        f'seed {self._seed_list[place]}: a metric is not finite at step '
        f'{broken[place]:,}; it is left behind, the other seeds go on'
      )
    self._broken = broken
    self._log.add(step, metrics)

  def _evaluate(self, step: int, state: TrainState) -> None:
    metrics = self._evaluator(
      state.params,
      state.state,
      'valid',
      self._config.eval.quick_streams,
      name='valid_quick',
    )
    named = seed_axis.spread(metrics, self._seed_list)
    self._writer.write(step, named)
    name = f'valid_quick/{self._objective}'
    values = np.atleast_1d(metrics[name]).tolist()
    each = ', '.join(f'{value:.4f}' for value in values)
    each = f' (seeds: {each})' if len(values) > 1 else ''
    say(f'step {step:,}: {name} {named[name]:.4f}{each}')
    if not any(map(math.isfinite, values)):
      raise loop.DivergedError([step] * len(values))
    for place, value in enumerate(values):
      best = self._best[place]
      if math.isfinite(value) and (best is None or value < best['value']):
        self._best[place] = {'step': step, 'value': value}
        self._improved_at = step

  def _save_if_due(self, step: int, state: TrainState) -> None:
    config = self._config.train
    due = Every(config.checkpoint_every, last=config.num_steps).due(step)
    if due or self._improved_at == step:
      self._save(state)

  def _save(self, state: TrainState) -> None:
    """Makes the metrics safe on disk, then begins the checkpoint."""
    with self._watchdog.over('a checkpoint'):
      self._checkpointer.save(
        state,
        metrics_length=self._writer.flush(),
        best=self._best,
        seconds=self.seconds(),
        data=self._source.meta,
      )

  def _stop(self, step: int, state: TrainState) -> None:
    self._log.flush(step)
    if step not in self._checkpointer.steps():
      self._save(state)
    with self._watchdog.over('a checkpoint'):
      self._checkpointer.wait()
    say(f'stopped at step {step:,}; the same command goes on from there')

  def _diverged(self, broken: list[int]) -> RunDivergedError:
    self._checkpointer.wait()
    newest = max(self._checkpointer.steps(), default=0)
    good = f'that of step {newest:,}' if newest else 'none'
    is_alone = len(broken) == 1
    whose = ' of the last seed' if not is_alone else ''
    return RunDivergedError(
      f'{self._workdir}: a metric{whose} is not finite at step '
      f'{max(broken):,}; the last good checkpoint is {good}; try a lower '
      f'config.optimizer.learning_rate in another workdir'
      + ', or a larger config.train.max_restarts in this one'
      * is_alone,
      dict(zip(self._seed_list, broken, strict=True)),
      newest,
    )


def _lock(workdir, stack):
  """Keeps other runs out of a workdir, and sees that all hosts share it."""
  token = hosts.token()
  path = workdir / 'lock'
  with hosts.shared_fate():
    if hosts.is_primary():
      file = stack.enter_context(path.open('ab'))
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except OSError as error:
        raise UserError(f'{workdir}: another process trains here') from error
      file.truncate(0)
      file.write(token)
      file.flush()
  with hosts.shared_fate():
    patience = time.monotonic() + SECONDS_UNTIL_SEEN
    while not path.exists() or path.read_bytes() != token:
      if time.monotonic() > patience:
        raise UserError(
          f'{workdir} on {platform.node()} is not that of process 0; --workdir '
          f'must be on a file system that all hosts share'
        )
      time.sleep(0.1)
