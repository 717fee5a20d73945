"""The composition root: a config becomes a run."""

import functools
import logging
import math
import pathlib
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from hyperjax import by_name
from hyperjax import workdir as files
from hyperjax.config import validate
from hyperjax.errors import UserError
from hyperjax.evaluation.evaluate import Evaluator
from hyperjax.training import loop
from hyperjax.training import optimizer as optimizers
from hyperjax.training.checkpoint import Checkpointer
from hyperjax.training.hooks import Every, Hook
from hyperjax.training.log import TrainLog
from hyperjax.training.progress import Progress, say
from hyperjax.training.step import init_state, make_advance
from hyperjax.training.writers import MetricsWriter
from hyperjax.types import Source, Task, Variables

logger = logging.getLogger(__name__)


def build_task(config: ConfigDict) -> Task:
  """The task of a config, with its model; no data, nothing allocated."""
  validate(config)
  make_model = functools.partial(_build_model, config.model.to_dict())
  options = config.task.to_dict()
  return by_name.call(
    'tasks',
    options.pop('name'),
    options,
    field='config.task',
    make_model=make_model,
    data=config.data.to_dict(),
  )


def _build_model(options, **given):
  options = dict(options)
  return by_name.call(
    'models', options.pop('name'), options, field='config.model', **given
  )


def build_source(config: ConfigDict) -> Source:
  """The data of a config."""
  validate(config)
  options = config.data.to_dict()
  return by_name.call('data', options.pop('name'), options, field='config.data')


def describe(config: ConfigDict) -> str:
  """A table of the parameters; needs no data and allocates nothing."""
  variables = jax.eval_shape(build_task(config).init, jax.random.key(0))
  leaves = jax.tree_util.tree_leaves_with_path(variables.params)
  rows = [
    (
      jax.tree_util.keystr(path, simple=True, separator='/'),
      ' x '.join(map(str, leaf.shape)),
      f'{math.prod(leaf.shape):,}',
    )
    for path, leaf in leaves
  ]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    f'{path:<{widths[0]}}  {shape:>{widths[1]}}  {count:>{widths[2]}}'
    for path, shape, count in rows
  ]
  return '\n'.join([*lines, f'total parameters: {count(variables.params):,}'])


def count(params: Any) -> int:
  """The number of parameters in a tree of arrays or shapes."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def train(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """Trains, or goes on where the workdir stopped; returns the result.

  A finished run is left as it is.

  Raises:
    UserError: a bad config or workdir, bad data, or a diverged run.
    loop.SignalledError: SIGTERM or SIGINT; the state has been saved.
  """
  task = build_task(config)
  files.open_run(workdir, config)
  if result := finished(workdir, config):
    say(f'{workdir} is finished: step {result["step"]:,}')
    return result
  source = build_source(config)
  files.write_json(workdir / 'data.json', source.meta)
  with _Session(config, workdir, task, source) as session:
    session.train()
    result = session.result()
  files.write_json(workdir / 'result.json', result)
  return result


def summary(result):
  return str(result)


def finished(
  workdir: pathlib.Path, config: ConfigDict
) -> dict[str, Any] | None:
  """The result of a run that has nothing left to train, or None."""
  path = workdir / 'result.json'
  result = files.read_json(path) if path.exists() else None
  return result if result and result['step'] >= config.train.num_steps else None


class _Session:
  """What is alive while a run trains: writer, checkpoints, best step."""

  def __init__(self, config, workdir, task, source):
    self.config, self.workdir = config, workdir
    self.task, self.source = task, source
    optimizer, self.learning_rate = optimizers.build(
      num_steps=config.train.num_steps, **config.optimizer.to_dict()
    )
    self.advance = make_advance(task, source, optimizer, config.seed)
    self.evaluator = Evaluator(task, source)
    self.checkpointer = Checkpointer(workdir)
    # Jitted, so that no two leaves share a buffer: the state is donated.
    init = jax.jit(
      functools.partial(
        init_state, task, optimizer, config.data.batch_size, config.seed
      )
    )
    restored = self.checkpointer.restore_latest(jax.eval_shape(init))
    self.state, record = restored or (init(), {})
    if record and record['data'] != source.meta:
      raise UserError(
        f'{workdir}: the data has changed since this run began; begin again '
        f'in another workdir'
      )
    self.start = int(self.state.step)
    self.best = record.get('best')
    self.writer = MetricsWriter(
      workdir, record.get('metrics_length', 0), self.start
    )
    if restored:
      say(f'{workdir}: going on from step {self.start:,}')

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.writer.close()
    self.checkpointer.close()

  def train(self):
    """Runs the loop to the end."""
    config = self.config.train
    progress = Progress(config.num_steps, self.start)
    log = TrainLog(
      self.writer,
      progress,
      self.learning_rate,
      self.task.objective,
      self.start,
    )
    every = functools.partial(Every, last=config.num_steps)
    evals, saves = every(config.eval_every), every(config.checkpoint_every)
    improved_at = None

    def evaluate(step, state):
      nonlocal improved_at
      metrics = self.evaluator(
        state.params,
        state.state,
        'valid',
        self.config.eval.quick_streams,
        name='valid_quick',
      )
      self.writer.write(step, metrics)
      value = metrics[f'valid_quick/{self.task.objective}']
      say(f'step {step:,}: valid_quick/{self.task.objective} {value:.4f}')
      if self.best is None or value < self.best['value']:
        self.best, improved_at = {'step': step, 'value': value}, step

    def flush(step, _):
      log.flush(step)

    def save(step, state):
      if saves.due(step) or improved_at == step:
        self.save(state)

    def stop(step, state):
      log.flush(step)
      if step > self.start:
        self.save(state)
      self.checkpointer.wait()
      say(f'stopped at step {step:,}; the same command goes on from there')

    both = every(config.eval_every, config.checkpoint_every)
    hooks = [
      Hook(evals, evaluate),
      Hook(every(config.log_every, *both.periods), flush),
      Hook(both, save),
    ]
    arrays = jax.device_put(self.source.arrays())
    try:
      self.state = loop.run(
        self.state,
        lambda state, count: self.advance(state, arrays, count),
        hooks,
        num_steps=config.num_steps,
        steps_per_dispatch=config.steps_per_dispatch,
        on_metrics=log.add,
        on_stop=stop,
      )
    except loop.DivergedError as error:
      self.checkpointer.wait()
      steps = self.checkpointer.steps()
      raise UserError(
        f'the loss or its gradient is not finite at step {error.step:,}; the '
        f'last good checkpoint is '
        f'{f"of step {steps[-1]:,}" if steps else "none"} in {self.workdir}; '
        f'try a lower config.optimizer.learning_rate'
      ) from error
    finally:
      progress.close()

  def save(self, state):
    """Makes the metrics safe, then begins a checkpoint."""
    self.checkpointer.save(
      state,
      metrics_length=self.writer.flush(),
      best=self.best,
      data=self.source.meta,
    )

  def result(self):
    """The best step's metrics on validation and test."""
    self.checkpointer.wait()
    step = int(self.best['step'])
    like = Variables(self.state.params, self.state.state)
    variables = self.checkpointer.restore_model(step, like)
    metrics = {}
    for split in ('valid', 'test'):
      metrics |= report(
        self.config, self.evaluator, variables, split, self.task.objective
      )
    return {
      'step': int(self.state.step),
      'best_step': step,
      'seed': self.config.seed,
      'parameters': count(variables.params),
      'data': self.source.meta['name'],
      **metrics,
    }


def report(
  config: ConfigDict,
  evaluator: Evaluator,
  variables: Variables,
  split: str,
  objective: str,
) -> dict[str, float]:
  """Metrics of a split by the reported protocol.

  Raises:
    UserError: a test result is lower than is plausible.
  """
  metrics = evaluator(*variables, split, config.eval.num_streams)
  bound = config.eval.implausible_below
  value = metrics[f'{split}/{objective}']
  if split == 'test' and value < bound:
    raise UserError(
      f'test/{objective} {value:.4f} is refused: under {bound} '
      f'(config.eval.implausible_below) no model is known to reach, so the '
      f'test text has leaked or the evaluation is wrong'
    )
  return metrics


def restore(
  config: ConfigDict, workdir: pathlib.Path
) -> tuple[Task, Variables, int]:
  """The task and the variables of `config.eval.step`, or of the best step."""
  task = build_task(config)
  files.check_config(workdir, config)
  checkpointer = Checkpointer(workdir, read_only=True)
  step = config.eval.step
  if not step:
    best = checkpointer.best()
    if best is None:
      raise UserError(
        f'{workdir} has no evaluated checkpoint yet; train it further, or '
        f'choose a checkpoint by --config.eval.step'
      )
    step = int(best['step'])
  like = jax.eval_shape(task.init, jax.random.key(0))
  variables = checkpointer.restore_model(step, like)
  checkpointer.close()
  return task, variables, step


def evaluate(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """Measures the best step, or `config.eval.step`, on `config.eval.split`."""
  task, variables, step = restore(config, workdir)
  source = build_source(config)
  if source.meta != files.read_json(workdir / 'data.json'):
    raise UserError(f'{workdir}: the data is not what this run trained on')
  metrics = report(
    config,
    Evaluator(task, source),
    variables,
    config.eval.split,
    task.objective,
  )
  return {
    'step': step,
    'num_streams': config.eval.num_streams,
    'data': source.meta['name'],
    **metrics,
  }


def sample(config: ConfigDict, workdir: pathlib.Path) -> str:
  """What the best step, or `config.eval.step`, generates; needs no data."""
  task, variables, _ = restore(config, workdir)
  if not hasattr(task, 'sample'):
    raise UserError(f'config.task.name: {config.task.name} can not sample')
  return task.sample(
    variables,
    config.sample.to_dict(),
    files.read_json(workdir / 'data.json'),
  )


def load(workdir: str | pathlib.Path) -> tuple[nnx.Module, dict[str, Any]]:
  """The best model of a run as a Flax module, and the data's `meta`.

  Args:
    workdir: of a run that has evaluated at least once.

  Raises:
    UserError: there is no such run, or its checkpoint is damaged.
  """
  workdir = pathlib.Path(workdir)
  task, variables, _ = restore(files.read_config(workdir), workdir)
  return task.merge(variables), files.read_json(workdir / 'data.json')
