"""The parts of a run, made by the names in its config."""

import functools
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from hyperjax import by_name
from hyperjax.budget import largest_width
from hyperjax.config import validate
from hyperjax.errors import UserError
from hyperjax.nn.unroll import loops_on
from hyperjax.ops.target import ONE_GPU
from hyperjax.training import optimizer as optimizers
from hyperjax.training import sharding
from hyperjax.types import Source, Task, Variables


def build_task(config: ConfigDict) -> Task:
  """The task of a config, with its model; no data, nothing allocated."""
  validate(config)
  make_model = functools.partial(
    _build_model,
    config.model.to_dict(),
    config.dtype,
    config.get('unroll', ConfigDict()).to_dict(),
  )
  options = config.task.to_dict()
  return by_name.call(
    'tasks',
    options.pop('name'),
    options,
    field='config.task',
    make_model=make_model,
    data=config.data.to_dict(),
  )


def _build_model(options, dtype, unroll, **given):
  options = dict(options)
  name = options.pop('name')
  options.pop('parameter_budget', None)  # `resolve` has read it
  known = by_name.options_of(by_name.find('models', name, 'config.model.name'))
  if 'dtype' in known:
    given['dtype'] = dtype
  elif dtype != 'float32':
    raise UserError(
      f"config.dtype is {dtype}, but model '{name}' has no option dtype; take "
      f'float32'
    )
  if 'unroll' in known:
    given['unroll'] = unroll
  return by_name.call('models', name, options, field='config.model', **given)


def resolve(config: ConfigDict) -> ConfigDict:
  """The config with the `hidden_size` that meets its parameter budget.

  Every mode begins with this, so that the workdir tells the true width.
  """
  validate(config)
  budget = config.model.get('parameter_budget', 0)
  if not budget:
    return config
  if 'hidden_size' not in config.model:
    raise UserError(
      f"config.model.parameter_budget: the model '{config.model.name}' has no "
      f'config.model.hidden_size to choose'
    )
  resolved = config.copy_and_resolve_references()

  def count_at(width):
    with resolved.unlocked():
      resolved.model.hidden_size = width
    return count(shapes_of(build_task(resolved)).params)

  count_at(largest_width(count_at, budget))
  return resolved


def shapes_of(task: Task) -> Variables:
  """The task's variables as shapes; nothing is allocated."""
  return jax.eval_shape(task.init, jax.random.key(0))


def build_source(config: ConfigDict) -> Source:
  """The data of a config."""
  validate(config)
  options = config.data.to_dict()
  return by_name.call('data', options.pop('name'), options, field='config.data')


def build_stand_in(config: ConfigDict) -> tuple[Source, bool]:
  """A source of the same shapes that needs no files, and whether it is one.

  Where the data module has no `stand_in`, it is the source itself.
  """
  validate(config)
  options = config.data.to_dict()
  name = options.pop('name')
  build = by_name.find('data', name, 'config.data.name')
  stand_in = getattr(sys.modules[build.__module__], 'stand_in', None)
  if stand_in is None or options.get('path'):
    return build_source(config), False
  by_name.check(build, options, {}, field='config.data', what=f"'{name}'")
  return stand_in(**options), True


def build_optimizer(
  config: ConfigDict, restarts: Iterable[tuple[int, int, float]] = ()
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """The optimizer of a config, and its learning rate by step.

  Args:
    config: the whole config.
    restarts: each (diverged at, step, factor): from that step on, the rate is
      multiplied by the factor.
  """
  options = config.optimizer.to_dict()
  given = {
    'num_steps': config.train.num_steps,
    'factors': [(step, factor) for _, step, factor in restarts],
  }
  by_name.check(
    optimizers.build,
    options,
    given,
    field='config.optimizer',
    what='the optimizer',
  )
  return optimizers.build(**options, **given)


def build_layout(
  config: ConfigDict, task: Task, devices: Sequence[jax.Device] | None = None
) -> sharding.Layout:
  """Where the arrays of a run lie, on these devices or on those there are."""
  layout = sharding.build(
    config.mesh.to_dict(),
    batch_size=config.data.batch_size,
    accumulate_steps=config.train.accumulate_steps,
    devices=devices,
  )
  kernels = config.get('unroll', {}).get('kernels', 'auto')
  if layout.mesh.size > 1 and kernels not in ('auto', 'xla'):
    raise UserError(
      f"config.unroll.kernels: '{kernels}' runs on one device, and "
      f"config.mesh has {layout.mesh.size}; set it to 'auto'"
    )
  if layout.mesh.shape['model'] > 1:
    sharding.check_rules(layout, shapes_of(task))
  return layout


def describe(config: ConfigDict) -> str:
  """A table of the parameters; needs no data and allocates nothing."""
  config = resolve(config)
  variables = shapes_of(build_task(config))
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
  if budget := config.model.get('parameter_budget', 0):
    lines.append(
      f'hidden_size {config.model.hidden_size} meets the parameter budget of '
      f'{budget:,}'
    )
  return '\n'.join([*lines, f'total parameters: {count(variables.params):,}'])


def describe_loops(config: ConfigDict) -> list[str]:
  """What the loop over time of each cell is on a GPU; lines, if any."""
  if 'unroll' not in config:
    return []
  task = build_task(resolve(config))
  loops = loops_on(ONE_GPU, task.merge(shapes_of(task)), config.unroll)
  return [f'{path} on one NVIDIA GPU: {loop}' for path, loop in loops]


def parameters(config: ConfigDict) -> int:
  """The number of parameters of a config's model; nothing is allocated."""
  return count(shapes_of(build_task(resolve(config))).params)


def count(params: Any) -> int:
  """The number of parameters in a tree of arrays or shapes."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
