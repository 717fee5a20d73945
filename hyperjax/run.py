"""The composition root: a config becomes a run."""

import functools
import math
import pathlib
import re
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from hyperjax import by_name
from hyperjax import workdir as files
from hyperjax.config import validate
from hyperjax.errors import UserError
from hyperjax.evaluation.evaluate import Evaluator
from hyperjax.pictures import curves
from hyperjax.training import loop
from hyperjax.training import optimizer as optimizers
from hyperjax.training.checkpoint import Checkpointer
from hyperjax.training.progress import say
from hyperjax.training.session import Session
from hyperjax.training.writers import read_metrics
from hyperjax.types import Source, Task, Variables


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

  A finished run is left as it is. At the end stand `result.json`, the picture
  `learning_curve.png` and, where the task can sample, `sample.txt`.

  Raises:
    UserError: a bad config or workdir, bad data, or a diverged run.
    SignalledError: SIGTERM or SIGINT; the state has been saved.
  """
  task = build_task(config)
  optimizer, learning_rate = _build_optimizer(config)
  with loop.Interruption() as interruption:
    files.make_folder(workdir)
    path = workdir / 'result.json'
    if files.has_checkpoints(workdir):
      files.check_config(workdir, config)
      if path.exists():
        result = files.read_json(path, 'step')
        if result['step'] >= config.train.num_steps:
          say(f'{workdir}: the run is finished, at step {result["step"]:,}')
          return result
    source = build_source(config)
    evaluator = Evaluator(task, source)
    with Session(
      config, workdir, task, source, evaluator, optimizer, learning_rate
    ) as session:
      # Only now, so that a command that fails leaves the run as it was.
      files.write_json(workdir / 'config.json', files.config_json(config))
      files.write_json(workdir / 'environment.json', files.environment())
      files.write_json(workdir / 'data.json', source.meta)
      session.train(interruption)
      variables, best_step = session.best_variables()
      result = {
        'step': config.train.num_steps,
        'best_step': best_step,
        **_conclude(config, workdir, task, source, evaluator, variables),
      }
      files.write_json(path, result)
  return result


def _build_optimizer(config):
  options, given = (
    config.optimizer.to_dict(),
    {'num_steps': config.train.num_steps},
  )
  by_name.check(
    optimizers.build,
    options,
    given,
    field='config.optimizer',
    what='the optimizer',
  )
  return optimizers.build(**options, **given)


def _conclude(config, workdir, task, source, evaluator, variables):
  """Measures the best step, draws and samples; most of the result."""
  metrics = {}
  for split in ('valid', 'test'):
    metrics |= measure(config, evaluator, variables, split, task.objective)
  references = (
    task.references(source, 'test') if hasattr(task, 'references') else {}
  )
  for label, value in references.items():
    name = re.sub(r'\W', '_', f'{label}_{task.objective}')
    metrics[f'reference/{name}'] = value
  curves.learning_curve(
    workdir / 'learning_curve.png',
    read_metrics(workdir),
    task.objective,
    references,
  )
  if hasattr(task, 'sample'):
    text = task.sample(variables, config.sample.to_dict(), source.meta)
    (workdir / 'sample.txt').write_text(text, encoding='utf-8')
  return {
    'seed': config.seed,
    'parameters': count(variables.params),
    'data': source.meta['name'],
    'evaluation': source.eval_protocol(config.eval.num_streams),
    **metrics,
  }


def summary(workdir: pathlib.Path) -> str:
  """What a finished run has to show, for a person to read."""
  result = files.read_json(
    workdir / 'result.json', 'step', 'best_step', 'parameters', 'evaluation'
  )
  rows = {
    name: value
    for name, value in result.items()
    if name.startswith(('valid/', 'test/', 'reference/'))
  }
  width = max(map(len, rows))
  lines = [f'{name:<{width}}  {value:8.4f}' for name, value in rows.items()]
  lines += [
    '',
    f'best step {result["best_step"]:,} of {result["step"]:,}, '
    f'{result["parameters"]:,} parameters, data: {result["data"]}',
    f'evaluation: {result["evaluation"]}',
  ]
  sample_file = workdir / 'sample.txt'
  if sample_file.exists():
    lines += ['', f'{sample_file}:', sample_file.read_text(encoding='utf-8')]
  lines += ['', f'learning curve: {workdir / "learning_curve.png"}']
  return '\n'.join(lines)


def measure(
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
  if not math.isfinite(value):
    raise UserError(f'{split}/{objective} is {value}: the model is broken')
  if split == 'test' and value < bound:
    raise UserError(
      f'test/{objective} {value:.4f} is refused: under {bound} '
      f'(config.eval.implausible_below) no model is known to reach, so the '
      f'test text has leaked or the evaluation is wrong'
    )
  return metrics


def restore(
  config: ConfigDict, workdir: pathlib.Path
) -> tuple[Task, Variables, int, dict[str, Any]]:
  """The task, the variables of `config.eval.step`, that step, the data's meta.

  Step 0 means the best one on validation.

  Raises:
    UserError: there is no such run or step, or it is damaged.
  """
  task = build_task(config)
  files.check_config(workdir, config, reading=True)
  like = jax.eval_shape(task.init, jax.random.key(0))
  checkpointer = Checkpointer(workdir, read_only=True)
  if config.eval.step:
    variables = checkpointer.restore_model(config.eval.step, like)
    found = variables, config.eval.step
  else:
    found = checkpointer.restore_best(like)
  if found is None:
    raise UserError(
      f'{workdir} has no evaluated checkpoint yet; train it further, or '
      f'choose a checkpoint by --config.eval.step'
    )
  variables, step = found
  meta = checkpointer.data(step)
  checkpointer.close()
  return task, variables, step, meta


def evaluate(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """Measures the best step, or `config.eval.step`, on `config.eval.split`."""
  task, variables, step, meta = restore(config, workdir)
  source = build_source(config)
  if source.meta != meta:
    raise UserError(f'{workdir}: the data is not what this run trained on')
  metrics = measure(
    config,
    Evaluator(task, source),
    variables,
    config.eval.split,
    task.objective,
  )
  return {
    'step': step,
    'data': source.meta['name'],
    'evaluation': source.eval_protocol(config.eval.num_streams),
    **metrics,
  }


def sample(config: ConfigDict, workdir: pathlib.Path) -> str:
  """What the best step, or `config.eval.step`, generates; needs no data."""
  task, variables, _, meta = restore(config, workdir)
  if not hasattr(task, 'sample'):
    raise UserError(f'config.task.name: {config.task.name} can not sample')
  return task.sample(variables, config.sample.to_dict(), meta)


def load(workdir: str | pathlib.Path) -> tuple[nnx.Module, dict[str, Any]]:
  """The best model of a run as a Flax module, and the data's `meta`.

  What its config names (a cell or task of your own, say) must be importable.

  Args:
    workdir: of a run that has evaluated at least once.

  Raises:
    UserError: there is no such run, or its checkpoints are damaged.
  """
  workdir = pathlib.Path(workdir)
  config = files.read_config(workdir)
  config.eval.step = 0
  task, variables, _, meta = restore(config, workdir)
  return task.merge(variables), meta
