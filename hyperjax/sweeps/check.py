"""Whether the points of a sweep can run, told before any of them starts."""

import json

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from hyperjax import by_name, parts
from hyperjax import config as configs
from hyperjax.errors import UserError
from hyperjax.sweeps.space import Point, in_words
from hyperjax.sweeps.sweep import Sweep, point_flags


def check(sweep: Sweep) -> tuple[str, int]:
  """Checks every point; of a space with ranges, their ends.

  Returns:
    The objective, without 'valid/', and the number of steps of the first
    point.

  Raises:
    UserError: names the first bad point, and the field.
  """
  space, known = sweep.space, {}
  taken = {word.partition('=')[0] for word in sweep.flags}
  found = []
  for number, point in enumerate(
    space.edges() if space.ranges else space.points()
  ):
    try:
      for word in point_flags(point):
        if (flag := word.partition('=')[0]) in taken:
          raise UserError(f'{flag} is given too; take it away')
      config = _config_of(sweep, point)
      found.append((_objective(config, known), config.train.num_steps))
    except UserError as error:
      name = 'an edge of the space' if space.ranges else f'point {number}'
      raise UserError(f'{name} ({in_words(point)}): {error}') from error
  if len({objective for objective, _ in found}) > 1:
    raise UserError('the points have different objectives, and none is best')
  return found[0]


def _config_of(sweep: Sweep, point: Point) -> ConfigDict:
  """The config of a point, made from the flags of its command."""
  config = configs.load(sweep.config)
  words = [*sweep.flags, *point_flags(point)]
  configs.check_overrides(config, words)
  values = flags.FlagValues()  # of its own: the process has others
  try:
    config_flags.DEFINE_config_dict(
      'config', config, flag_values=values, sys_argv=words
    )
    values(['sweep', *words])
  except flags.Error as error:
    raise UserError(str(error).split('\n')[0]) from error
  return values['config'].value


def _objective(config: ConfigDict, known: dict[str, str]) -> str:
  """Checks a config; returns its task's objective.

  Args:
    config: of a point.
    known: objectives by the sections of a config that its model depends on;
      a model is built once for all points that have it.
  """
  configs.validate(config)
  data = config.data.to_dict()
  by_name.check(
    by_name.find('data', name := data.pop('name'), 'config.data.name'),
    data,
    {},
    field='config.data',
    what=f"'{name}'",
  )
  parts.build_optimizer(config)
  sections = ('dtype', 'task', 'data', 'model', 'unroll')
  key = json.dumps(
    {name: config.to_dict().get(name) for name in sections}, default=repr
  )
  if key not in known:
    try:
      task = parts.build_task(parts.resolve(config))
      jax.eval_shape(task.init, jax.random.key(0))
    except UserError:
      raise
    except Exception as error:  # whatever the model raises
      reason = f'{type(error).__name__}: {error}'.split('\n')[0]
      raise UserError(f'the model can not be built: {reason}') from error
    known[key] = task.objective
  return known[key]
