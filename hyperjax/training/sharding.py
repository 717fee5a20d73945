"""Where arrays lie on a mesh of devices."""

import dataclasses
import fnmatch
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from hyperjax.errors import UserError, did_you_mean
from hyperjax.training import hosts
from hyperjax.types import PyTree, TrainState, Variables

AXES = ('data', 'model')
Rule = tuple[str, Sequence[str | None]]


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a run is spread over devices.

  Rows of a batch, and of the carry, are dealt out along the axis `data`.
  Parameters are whole on every device, but for those that a rule splits; what
  the optimizer keeps of a parameter lies as the parameter does.

  Attributes:
    mesh: of the axes `data` and `model`.
    rules: (glob of parameter paths, names of axes). The first that matches
      counts, its axes are those of the parameter's last dimensions, and None
      leaves a dimension whole. What does not divide stays whole.
  """

  mesh: Mesh
  rules: tuple[Rule, ...] = ()

  @functools.cached_property
  def whole(self) -> NamedSharding:
    """Of what is on every device."""
    return NamedSharding(self.mesh, P())

  def of_variables(self, variables: Variables, num_seeds: int = 1) -> Variables:
    """Shardings of parameters and model state; several seeds lead."""
    return Variables(
      jax.tree_util.tree_map_with_path(
        lambda path, x: self._of_param(path, x.shape, num_seeds),
        variables.params,
      ),
      jax.tree.map(lambda _: self.whole, variables.state),
    )

  def of_state(self, state: TrainState, num_seeds: int = 1) -> TrainState:
    """Shardings of a state (or of its shapes)."""
    variables = self.of_variables(
      Variables(state.params, state.state), num_seeds
    )
    like = {
      _path(path): (x.shape, sharding)
      for (path, x), sharding in zip(
        jax.tree_util.tree_leaves_with_path(state.params),
        jax.tree.leaves(variables.params),
        strict=True,
      )
    }

    def of_slot(path, x):
      # Adam's mean of head/kernel is 1/0/mu/head/kernel.
      words = _path(path).split('/')
      for start in range(len(words)):
        shape, sharding = like.get('/'.join(words[start:]), (None, None))
        if shape == x.shape:
          return sharding
      return self.whole

    lead = int(num_seeds > 1)
    rows = self._lies(*[None] * lead, 'data')
    return TrainState(
      step=self.whole,
      params=variables.params,
      state=variables.state,
      carry=jax.tree.map(
        lambda x: rows if x.ndim > lead else self.whole, state.carry
      ),
      opt_state=jax.tree_util.tree_map_with_path(of_slot, state.opt_state),
      broken=self.whole,
    )

  def of_rows(
    self, tree: PyTree, num_rows: int, *, stacked: bool = False
  ) -> PyTree:
    """Shardings that deal out what has `num_rows`, if they divide.

    Args:
      tree: of arrays or shapes, of which some are [num_rows, ...].
      num_rows: of a batch.
      stacked: whether an axis of seeds stands before the rows.
    """
    divides = num_rows % self.mesh.shape['data'] == 0
    dealt = self._lies(*[None] * stacked, 'data')
    place = slice(stacked, stacked + 1)
    return jax.tree.map(
      lambda x: (
        dealt if divides and np.shape(x)[place] == (num_rows,) else self.whole
      ),
      tree,
    )

  def constrain(self, tree: PyTree, shardings: PyTree) -> PyTree:
    """Within jit: says where arrays lie."""
    return jax.lax.with_sharding_constraint(tree, shardings)

  def put(self, tree: PyTree, shardings: PyTree | None = None) -> PyTree:
    """Puts what every process has in full where it belongs.

    Args:
      tree: of arrays.
      shardings: of each; None puts all of them whole on every device.
    """
    if shardings is None:
      shardings = jax.tree.map(lambda _: self.whole, tree)
    if hosts.count() == 1:
      return jax.device_put(tree, shardings)

    def put(x, sharding):
      x = np.asarray(x)
      return jax.make_array_from_callback(x.shape, sharding, lambda at: x[at])

    return jax.tree.map(put, tree, shardings)

  def _of_param(self, path, shape, num_seeds):
    own = shape[num_seeds > 1 :]
    spec = _spec(_path(path), len(own), self.rules)
    spec = [
      axis if axis and size % self.mesh.shape[axis] == 0 else None
      for axis, size in zip(spec, own, strict=True)
    ]
    return self._lies(*[None] * (num_seeds > 1), *spec)

  def _lies(self, *axes):
    # In the form in which jax gives it back, else a step is compiled twice.
    axes = [
      axis if axis and self.mesh.shape[axis] > 1 else None for axis in axes
    ]
    while axes and axes[-1] is None:
      axes.pop()
    return NamedSharding(self.mesh, P(*axes))


def num_rows(batch: Mapping[str, Array]) -> int:
  """How many rows a batch has: the length of its first array, or 0.

  The first is so by its name; see `types.Source.batch`.
  """
  return next((len(x) for x in jax.tree.leaves(batch) if np.ndim(x)), 0)


def one_device() -> Layout:
  """Everything on the first device."""
  return _layout((1, 1), (), jax.local_devices()[:1])


def build(
  config: Mapping[str, Any],
  *,
  batch_size: int,
  accumulate_steps: int = 1,
  devices: Sequence[jax.Device] | None = None,
) -> Layout:
  """The layout of `config.mesh`.

  Args:
    config: data (devices along which a batch is dealt out; 0 takes all that
      `model` leaves), model (along which parameters are split), rules.
    batch_size: of training.
    accumulate_steps: into how many parts it is cut.
    devices: of the mesh; None takes all that there are.

  Raises:
    UserError: there are not so many devices, the batch can not be dealt out,
      or a rule is none.
  """
  rules = _check_rules(config['rules'])
  devices = jax.devices() if devices is None else devices
  model = config['model']
  data = config['data'] or max(len(devices) // model, 1)
  size = data * model
  if size > len(devices):
    raise UserError(
      f'config.mesh: data {data} x model {model} needs {size} devices; there '
      f'are {len(devices)}'
    )
  if hosts.count() > 1 and size != len(devices):
    raise UserError(
      f'config.mesh: data {data} x model {model} leaves out some of the '
      f'{len(devices)} devices of {hosts.count()} processes; their product '
      f'must be {len(devices)} (data 0 sees to that)'
    )
  if batch_size % (data * accumulate_steps):
    raise UserError(
      f'config.data.batch_size is {batch_size}; with config.mesh.data {data} x '
      f'config.train.accumulate_steps {accumulate_steps} it must be a multiple '
      f'of {data * accumulate_steps}; change one of them'
    )
  return _layout((data, model), rules, devices[:size])


def _layout(shape, rules, devices):
  kinds = (AxisType.Auto,) * len(AXES)
  return Layout(jax.make_mesh(shape, AXES, kinds, devices=devices), rules)


def check_rules(layout: Layout, variables: Variables) -> None:
  """Checks that every rule is about some parameter.

  Raises:
    UserError: names the rule that is not.
  """
  leaves = jax.tree_util.tree_leaves_with_path(variables.params)
  paths = [_path(path) for path, _ in leaves]
  for glob, axes in layout.rules:
    ranks = [
      x.ndim
      for (_, x), path in zip(leaves, paths, strict=True)
      if fnmatch.fnmatchcase(path, glob)
    ]
    if not ranks:
      raise UserError(
        f"config.mesh.rules: no parameter is called '{glob}'"
        f'{did_you_mean(glob, paths)}'
      )
    if max(ranks) < len(axes):
      raise UserError(
        f"config.mesh.rules: '{glob}' has {len(axes)} axes for parameters of "
        f'{max(ranks)} dimensions'
      )


def _check_rules(rules) -> tuple[Rule, ...]:
  """The rules as tuples."""
  checked = []
  for rule in rules:
    if (
      not isinstance(rule, (tuple, list))
      or len(rule) != 2
      or not isinstance(rule[0], str)
      or not isinstance(rule[1], (tuple, list))
    ):
      raise UserError(
        f"config.mesh.rules: {rule!r} is no rule; write ('*/kernel', "
        f"('model',))"
      )
    glob, axes = rule
    for axis in axes:
      if axis is not None and axis not in AXES:
        raise UserError(
          f"config.mesh.rules: '{glob}' has an axis {axis!r}; known: "
          f'{", ".join(AXES)}'
        )
    named = [axis for axis in axes if axis]
    if len(set(named)) < len(named):
      raise UserError(f"config.mesh.rules: '{glob}' names an axis twice")
    checked.append((glob, tuple(axes)))
  return tuple(checked)


def _spec(path, rank, rules):
  """The axis, or None, of each dimension of a parameter."""
  for glob, axes in rules:
    if fnmatch.fnmatchcase(path, glob):
      axes = axes[max(len(axes) - rank, 0) :]
      return (*[None] * (rank - len(axes)), *axes)
  return (None,) * rank


def _path(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')


def describe(layout: Layout) -> str:
  """The mesh in words, for the log."""
  sizes = dict(layout.mesh.shape)
  text = f'{math.prod(sizes.values())} devices: ' + ' x '.join(
    f'{axis} {size}' for axis, size in sizes.items()
  )
  if (processes := hosts.count()) > 1:
    text += f', in {processes} processes'
  return text
