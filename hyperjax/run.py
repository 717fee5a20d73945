"""The composition root: a config becomes a run."""

import contextlib
import math
import pathlib
import re
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from hyperjax import parts
from hyperjax import workdir as files
from hyperjax.errors import RunDivergedError, UserError
from hyperjax.evaluation.dynamic import DynamicEvaluator
from hyperjax.evaluation.evaluate import Evaluator
from hyperjax.training import disk, hosts, loop, seed_axis, sharding
from hyperjax.training.checkpoint import Checkpointer
from hyperjax.training.progress import say
from hyperjax.training.session import Session
from hyperjax.training.writers import read_metrics
from hyperjax.types import Task, Variables


def train(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """Trains, or goes on where the workdir stopped; returns the result.

  A finished run is left as it is. At the end stand `result.json`, the picture
  `learning_curve.png` and, where the task can sample, `sample.txt` or what
  the sample draws.

  Raises:
    UserError: a bad config or workdir, bad data, or a diverged run.
    SignalledError: SIGTERM or SIGINT; the state has been saved.
  """
  with (
    loop.Interruption() as interruption,
    hosts.losing_none(),
    disk.faults_named(workdir),
  ):
    with hosts.shared_fate():
      config = parts.resolve(config)
      task = parts.build_task(config)
      parts.build_optimizer(config)
      layout = parts.build_layout(config, task)
      files.make_folder(workdir)
      result = _finished(config, workdir)
    hosts.check_same('config', files.digest(files.config_json(config)))
    hosts.check_same(f'what they find in {workdir}', files.digest(result))
    if result:
      say(f'{workdir}: the run is finished, at step {result["step"]:,}')
      return result
    source = hosts.primary_first(lambda: _source_for(config, task))
    hosts.check_same('data', files.digest(source.meta))
    with contextlib.ExitStack() as stack:
      watchdog = stack.enter_context(hosts.Watchdog(config.train.stall_seconds))
      evaluator = Evaluator(
        task,
        source,
        stacked=config.num_seeds > 1,
        layout=layout,
        watchdog=watchdog,
      )
      while True:
        restarts = files.read_restarts(workdir)
        session = Session(
          config,
          workdir,
          task,
          source,
          evaluator,
          *parts.build_optimizer(config, restarts),
          layout,
          watchdog,
        )
        try:
          with session:
            return _train(
              config, workdir, task, source, evaluator, session, interruption
            )
        except RunDivergedError as error:
          restart = _restart(config, restarts, error)
        # Outside of the error, which holds the arrays of its session.
        with hosts.shared_fate():
          if hosts.is_primary():
            files.write_restarts(workdir, [*restarts, restart])


def _restart(config, restarts, error):
  """How to go on after a divergence, or the error where the run ends."""
  allowed, factor = config.train.max_restarts, config.train.restart_factor
  if len(restarts) >= allowed:
    raise error
  (step,) = error.steps.values()
  say(
    f'a metric is not finite at step {step:,}; restart {len(restarts) + 1} of '
    f'{allowed}: from step {error.checkpoint:,} on, the learning rate is '
    f'multiplied by {factor:g}'
  )
  return files.Restart(step, error.checkpoint, factor)


def _train(config, workdir, task, source, evaluator, session, interruption):
  """Trains in an open session; returns the result."""
  # Only now, so that a command that fails leaves the run as it was.
  environment = files.environment()
  if hosts.is_primary():
    files.write_json(workdir / 'config.json', files.config_json(config))
    files.write_json(workdir / 'environment.json', environment)
    files.write_json(workdir / 'data.json', source.meta)
  if session.layout.mesh.size > 1:
    say(f'{workdir}: {sharding.describe(session.layout)}')
  session.train(interruption)
  result = _conclude(config, workdir, task, source, evaluator, session)
  if hosts.is_primary():
    files.write_json(
      workdir / 'environment.json',
      environment | {'seconds': round(session.seconds(), 1)},
    )
    files.write_json(workdir / 'result.json', result)
  return result


def _finished(config, workdir):
  """The result of a run that needs no more training, or None.

  Raises:
    UserError: the folder's run has another config.
  """
  begun = files.has_checkpoints(workdir) or files.read_restarts(workdir)
  if not begun:
    return None
  files.check_config(workdir, config)
  path = workdir / 'result.json'
  if not path.exists():
    return None
  result = files.read_json(path, 'step')
  return result if result['step'] >= config.train.num_steps else None


def _source_for(config, task):
  """The data, on which the task could sample as it is asked to."""
  source = parts.build_source(config)
  if hasattr(task, 'check_sample'):
    task.check_sample(config.sample.to_dict(), source.meta)
  return source


def _conclude(config, workdir, task, source, evaluator, session):
  """Measures the best step of each seed, draws and samples; the result."""
  found = session.best_variables()
  splits = ['valid', 'test']
  if sizes := source.meta.get('sizes'):  # there may be no test split, or many
    splits = [split for split in sizes if split.startswith(tuple(splits))]
  metrics = _measure_all(config, task, source, evaluator, found, splits)
  variables = hosts.fetch_all(next(iter(found.values()))[0])
  if hosts.is_primary():
    metrics |= _draw(config, workdir, task, source, variables)
  result = {
    'step': config.train.num_steps,
    **_steps(found, 'best_step', config.num_seeds > 1),
    'seed': config.seed,
    'num_seeds': config.num_seeds,
    'parameters': parts.count(variables.params),
    'data': source.meta['name'],
    'evaluation': _protocol(config, task, source),
    **metrics,
  }
  for seed, step in session.diverged().items():
    result[f'seed_{seed}/diverged_at'] = step
  for number, restart in enumerate(files.read_restarts(workdir), 1):
    result |= {
      f'restart_{number}/{name}': value
      for name, value in restart._asdict().items()
    }
  return result


def _draw(config, workdir, task, source, variables):
  """Draws the learning curve and a sample; returns the references."""
  from hyperjax.pictures import curves  # here, for matplotlib loads slowly

  references = (
    task.references(source, 'test') if hasattr(task, 'references') else {}
  )
  curves.learning_curve(
    workdir / 'learning_curve.png',
    read_metrics(workdir),
    task.objective,
    references,
  )
  if hasattr(task, 'sample'):
    sampled = task.sample(variables, config.sample.to_dict(), source.meta)
    if isinstance(sampled, str):
      (workdir / 'sample.txt').write_text(sampled, encoding='utf-8')
    else:
      sampled.draw(workdir, 'sample')
  names = {
    label: re.sub(r'\W', '_', f'{label}_{task.objective}')
    for label in references
  }
  return {
    f'reference/{names[label]}': value for label, value in references.items()
  }


def summary(workdir: pathlib.Path) -> str:
  """What a finished run has to show, for a person to read."""
  result = files.read_json(
    workdir / 'result.json',
    'step',
    'best_step',
    'num_seeds',
    'parameters',
    'evaluation',
  )
  rows = {
    name: value
    for name, value in result.items()
    if name.startswith(('valid', 'test', 'reference'))
  }
  width = max(map(len, rows))
  lines = [f'{name:<{width}}  {value:8.4f}' for name, value in rows.items()]
  if result['num_seeds'] > 1:
    lines += ['', _seeds_in_words(result)]
  lines += [
    '',
    f'best step {result["best_step"]:,} of {result["step"]:,}, '
    f'{result["parameters"]:,} parameters, data: {result["data"]}',
    f'evaluation: {result["evaluation"]}',
  ]
  sample_file = workdir / 'sample.txt'
  if sample_file.exists():
    lines += ['', f'{sample_file}:', sample_file.read_text(encoding='utf-8')]
  picture = workdir / 'sample.png'
  if picture.exists():
    lines += ['', f'sample: {picture}']
  lines += ['', f'learning curve: {workdir / "learning_curve.png"}']
  return '\n'.join(lines)


def _seeds_in_words(result):
  """Which seeds the mean of a result is of, and what became of the others."""
  text = f'mean of {len(result["seeds"])} of {result["num_seeds"]} seeds'
  for seed in range(result['seed'], result['seed'] + result['num_seeds']):
    if (step := result.get(f'seed_{seed}/diverged_at')) is not None:
      text += f'; seed {seed} diverged at step {step:,}'
  return text


def _steps(found, name, several):
  """The step of each seed; of several, `name` itself is the latest."""
  steps = {seed: step for seed, (_, step) in found.items()}
  if not several:
    return {name: max(steps.values())}
  each = {f'seed_{seed}/{name}': step for seed, step in steps.items()}
  return {name: max(steps.values()), 'seeds': list(steps), **each}


def _measure_all(config, task, source, evaluator, found, splits):
  """Metrics of splits, as named numbers; of several seeds side by side."""
  variables = [variables for variables, _ in found.values()]
  several = evaluator.stacked
  one = seed_axis.stack(variables) if several else variables[0]
  metrics = {}
  for split in splits:
    metrics |= measure(config, evaluator, one, split, task.objective)
  if rate := config.eval.dynamic_learning_rate:
    dynamic = DynamicEvaluator(task, source, rate)
    for split in splits:
      each = [dynamic(*hosts.fetch_all(model), split) for model in variables]
      for name, value in each[0].items():
        stacked = np.stack([part[name] for part in each])
        metrics[name] = stacked if several else value
      if not np.isfinite(metrics[f'{split}_dynamic/{task.objective}']).all():
        raise UserError(
          f'config.eval.dynamic_learning_rate: with {rate} the model breaks on '
          f'the {split} split; give a lower one'
        )
  if hasattr(task, 'measure_generated'):
    request = config.sample.to_dict()
    for split in splits:
      each = [
        task.measure_generated(hosts.fetch_all(model), source, split, request)
        for model in variables
      ]
      for name, value in each[0].items():
        stacked = np.stack([part[name] for part in each])
        metrics[f'{split}/{name}'] = stacked if several else value
  named = seed_axis.spread(metrics, list(found))
  return {name: value for name, value in named.items() if math.isfinite(value)}


def _protocol(config, task, source):
  """How the reported metrics are measured, in words."""
  protocol = source.eval_protocol(config.eval.num_streams)
  if hasattr(task, 'measure_generated'):
    protocol += f'; {task.generation_protocol(config.sample.to_dict())}'
  return protocol


def measure(
  config: ConfigDict,
  evaluator: Evaluator,
  variables: Variables,
  split: str,
  objective: str,
) -> dict[str, np.ndarray]:
  """Metrics of a split by the reported protocol.

  Raises:
    UserError: a test result is lower than is plausible.
  """
  metrics = evaluator(*variables, split, config.eval.num_streams)
  bound = config.eval.implausible_below
  values = np.atleast_1d(metrics[f'{split}/{objective}'])
  finite = values[np.isfinite(values)]
  if not finite.size:
    raise UserError(f'{split}/{objective} is {values[0]}: the model is broken')
  if finite.size < values.size:
    say(f'{split}/{objective} of a seed is not finite; it is left out')
  value = float(finite.min())
  if split == 'test' and bound and value < bound:
    raise UserError(
      f'test/{objective} {value:.4f} is refused: under {bound} '
      f'(config.eval.implausible_below) no model is known to reach, so the '
      f'test text has leaked or the evaluation is wrong'
    )
  return metrics


def restore(
  config: ConfigDict, workdir: pathlib.Path
) -> tuple[Task, dict[int, tuple[Variables, int]], dict[str, Any], int]:
  """What a run has learnt.

  The step is `config.eval.step`; 0 means the seed's best one on validation.
  Seeds that diverged are left out.

  Returns:
    The task; its variables by seed, each with its step; the data's meta; and
    how many seeds the run was given, diverged ones too.

  Raises:
    UserError: there is no such run or step, or it is damaged.
  """
  config = parts.resolve(config)
  task = parts.build_task(config)
  files.check_config(workdir, config, reading=True)
  stored = files.read_config(workdir)
  seeds = seed_axis.of(stored.seed, stored.num_seeds)
  shapes = jax.eval_shape(
    lambda: seed_axis.init(seeds, lambda _: task.init(jax.random.key(0)))
  )
  # Whole on one device, wherever it was trained.
  whole = sharding.one_device().whole
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes
  )
  checkpointer = Checkpointer(workdir, read_only=True)
  step = config.eval.step
  # One checkpoint holds all seeds, but their best steps may differ.
  chosen = (checkpointer.restore_model(step, like), step) if step else None
  found, record = {}, {}
  for place, seed in enumerate(np.atleast_1d(seeds).tolist()):
    best = chosen or checkpointer.restore_best(like, place)
    if best is None:
      continue
    record = record or checkpointer.record(step)
    if np.atleast_1d(record['broken'])[place] < 0:
      found[seed] = seed_axis.take(best[0], place, seeds), best[1]
  checkpointer.close()
  if not found:
    raise UserError(
      f'{workdir} has no evaluated checkpoint yet; train it further, or '
      f'choose a checkpoint by --config.eval.step'
    )
  return task, found, record['data'], stored.num_seeds


def evaluate(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """Measures the best step, or `config.eval.step`, on `config.eval.split`."""
  task, found, meta, num_seeds = restore(config, workdir)
  several = num_seeds > 1
  source = parts.build_source(config)
  if source.meta != meta:
    raise UserError(f'{workdir}: the data is not what this run trained on')
  return {
    **_steps(found, 'step', several),
    'data': source.meta['name'],
    'evaluation': _protocol(config, task, source),
    **_measure_all(
      config,
      task,
      source,
      Evaluator(task, source, stacked=several),
      found,
      [config.eval.split],
    ),
  }


def sample(config: ConfigDict, workdir: pathlib.Path) -> str:
  """What the best step, or `config.eval.step`, generates; needs no data.

  Of several seeds, the first one's. What draws itself does so in the folder
  `samples` of the run, and the names of the files are returned.
  """
  task, found, meta, _ = restore(config, workdir)
  if not hasattr(task, 'sample'):
    raise UserError(f'config.task.name: {config.task.name} can not sample')
  variables, _ = next(iter(found.values()))
  sampled = task.sample(variables, config.sample.to_dict(), meta)
  if isinstance(sampled, str):
    return sampled
  folder = workdir / 'samples'
  files.make_folder(folder)
  return '\n'.join(map(str, sampled.draw(folder, sampled.name)))


def best(
  workdir: pathlib.Path, seed: int | None = None
) -> tuple[Task, Variables, dict[str, Any], int, int]:
  """The variables of a seed's best step on validation.

  Args:
    workdir: of a run that has evaluated at least once.
    seed: one of the run's seeds; None takes the first.

  Returns:
    The task, its variables, the data's meta, the seed and the step.

  Raises:
    UserError: there is no such run or seed, or its checkpoints are damaged.
  """
  config = files.read_config(workdir)
  config.eval.step = 0
  task, found, meta, _ = restore(config, workdir)
  seed = next(iter(found)) if seed is None else seed
  if seed not in found:
    raise UserError(
      f'{workdir}: no seed {seed}; there: {", ".join(map(str, found))}'
    )
  variables, step = found[seed]
  return task, variables, meta, seed, step


def load(
  workdir: str | pathlib.Path, seed: int | None = None
) -> tuple[nnx.Module, dict[str, Any]]:
  """The best model of a run as a Flax module, and the data's `meta`.

  What its config names (a cell or task of your own, say) must be importable.
  See `best`.
  """
  task, variables, meta, *_ = best(pathlib.Path(workdir), seed)
  return task.merge(variables), meta
