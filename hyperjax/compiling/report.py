"""A config compiled for an accelerator that is not there: does it fit?"""

import collections
import functools
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hyperjax import parts
from hyperjax.compiling import hlo, targets
from hyperjax.compiling.targets import Target
from hyperjax.errors import UserError
from hyperjax.evaluation.evaluate import make_step
from hyperjax.training import seed_axis, sharding
from hyperjax.training.step import init_state, make_advance

MIB = 2**20
# What XLA says where a program needs more than there is.
NO_ROOM = 'RESOURCE_EXHAUSTED', 'Ran out of memory', 'out of memory'
NO_TILES = "Couldn't find output tile sizes"
REMEDY = (
  'make config.data.batch_size smaller, or config.train.accumulate_steps larger'
)


def compile_config(config: ConfigDict, target: Target) -> dict[str, Any]:
  """Compiles the train step and the evaluation step of a config.

  Args:
    config: the whole config; no data is read but that of a path.
    target: of `targets.find`.

  Returns:
    In JSON types: of each program the seconds to compile, its memory in bytes a
    device, whether it fits, operations and bytes a device, launches, loops with
    the names of their kernels, collectives.

  Raises:
    UserError: a bad config, a mesh that the target has not, or a program that
      the compiler finds no room for.
  """
  config = parts.resolve(config)
  task = parts.build_task(config)
  optimizer, _ = parts.build_optimizer(config)
  layout = parts.build_layout(config, task, target.devices)
  source, made_up = parts.build_stand_in(config)
  seeds = seed_axis.of(config.seed, config.num_seeds)
  stacked = config.num_seeds > 1
  state = jax.eval_shape(
    functools.partial(
      init_state, task, optimizer, config.data.batch_size, seeds
    )
  )
  state = _placed(state, layout.of_state(state, config.num_seeds))
  arrays = (
    source.window(seeds, 0)[0]
    if hasattr(source, 'window')
    else jax.eval_shape(source.arrays)
  )
  advance = make_advance(
    task,
    source,
    optimizer,
    seeds,
    layout=layout,
    accumulate_steps=config.train.accumulate_steps,
  )
  count = jax.ShapeDtypeStruct((), np.int32)
  batch = next(iter(source.eval('valid', config.eval.num_streams)))
  rows = sharding.num_rows(batch)
  carry = jax.eval_shape(
    lambda: seed_axis.init(seeds, lambda _: task.carry(rows))
  )
  programs = {
    'train step': (
      advance,
      (state, *(_placed(x, layout.whole) for x in (arrays, count))),
    ),
    'evaluation step': (
      make_step(task, stacked=stacked, layout=layout),
      (
        state.params,
        state.state,
        _placed(carry, layout.of_rows(carry, rows, stacked=stacked)),
        _placed(batch, layout.of_rows(batch, rows)),
      ),
    ),
  }
  return {
    'target': target.name,
    'devices': layout.mesh.size,
    'mesh': dict(layout.mesh.shape),
    'memory': target.memory,
    'jax': jax.__version__,
    'data': source.meta['name'],
    'made_up': made_up,
    'programs': {
      name: _compile(name, *program, target)
      for name, program in programs.items()
    },
  }


def _placed(tree, shardings):
  """Shapes that lie somewhere."""
  if isinstance(shardings, jax.sharding.Sharding):
    shardings = jax.tree.map(lambda _: shardings, tree)
  return jax.tree.map(
    lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at),
    tree,
    shardings,
  )


def _compile(name, function, arguments, target):
  began = time.monotonic()
  with target.lowering():
    lowered = function.lower(*arguments)
  try:
    compiled = _try(lowered)
  except jax.errors.JaxRuntimeError as error:
    reason = str(error).strip().splitlines()[0][:200]
    if any(words in str(error) for words in NO_ROOM):
      raise UserError(
        f'--target={target.name}: the {name} does not fit ({reason}); {REMEDY}'
      ) from error
    raise UserError(
      f'--target={target.name}: the {name} does not compile ({reason})'
    ) from error
  seconds = time.monotonic() - began
  memory = compiled.memory_analysis()
  costs = compiled.cost_analysis() or {}  # the compiler for GPUs tells none
  program = hlo.read(compiled.as_text())
  sizes = {
    'arguments': memory.argument_size_in_bytes,
    'outputs': memory.output_size_in_bytes - memory.alias_size_in_bytes,
    'temporaries': memory.temp_size_in_bytes,
    'code': memory.generated_code_size_in_bytes,
  }
  return {
    'compile_seconds': round(seconds, 1),
    'bytes': sizes,
    'fits': sum(sizes.values()) <= target.memory,
    'flops': costs.get('flops', 0.0),
    'bytes_accessed': costs.get('bytes accessed', 0.0),
    'launches': program.launches,
    'estimated_cycles': program.cycles,
    'loops': [
      {
        'depth': loop.depth,
        'trips': loop.trips,
        'kernels': dict(collections.Counter(loop.kernels)),
        'estimated_cycles': loop.cycles,
      }
      for loop in program.loops
    ],
    'collectives': {
      kind: {'count': count, 'bytes': size}
      for kind, (count, size) in program.collectives.items()
    },
  }


def _try(lowered):
  try:
    return lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if NO_TILES not in str(error):
      raise
    # Without a GPU to try kernels on, XLA may choose one of Triton's for a
    # product that has none. cuBLAS has them all.
    return lowered.compile(
      compiler_options={'xla_gpu_enable_triton_gemm': False}
    )


def table(report: dict[str, Any]) -> str:
  """The report for people."""
  mesh = ' x '.join(f'{name} {n}' for name, n in report['mesh'].items())
  chips = f'{report["devices"]} device{"s" * (report["devices"] > 1)} ({mesh})'
  lines = [f'{report["target"]}: {chips}, jax {report["jax"]}']
  if report['made_up']:
    lines.append(f'data: {report["data"]}, of the shapes of the real one')
  for name, program in report['programs'].items():
    lines += ['', *_rows(name, program, report['memory'])]
  return '\n'.join(lines)


def _rows(name, program, room):
  sizes = program['bytes']
  need = sum(sizes.values())
  verdict = 'fits' if program['fits'] else 'DOES NOT FIT'
  words = ', '.join(f'{part} {size / MIB:,.0f}' for part, size in sizes.items())
  yield f'{name}: compiled in {program["compile_seconds"]} s; {verdict}'
  yield (
    f'  memory      {need / MIB:,.0f} of {room / MIB:,.0f} MiB a device '
    f'({words})'
  )
  if program['flops']:
    yield (
      f'  a device    {program["flops"]:.3g} operations, '
      f'{program["bytes_accessed"]:.3g} bytes; bodies of loops counted once'
    )
  cycles = program['estimated_cycles']
  yield f'  launches    {program["launches"]:,}' + (
    f', {cycles:,} estimated cycles' if cycles else ''
  )
  for kind, found in program['collectives'].items():
    size = found['bytes'] / MIB
    yield f'  collective  {found["count"]:,} {kind}, {size:,.1f} MiB'
  for loop in program['loops']:
    trips = 'any number of' if loop['trips'] is None else loop['trips']
    count = sum(loop['kernels'].values())
    cycles = loop['estimated_cycles']
    yield (
      f'  {"  " * loop["depth"]}loop of {trips} steps: {count} kernels a step'
      + (f', {cycles:,} estimated cycles' if cycles else '')
    )
    if count <= 12:
      names = ', '.join(
        f'{kernel}{f" x{n}" * (n > 1)}' for kernel, n in loop['kernels'].items()
      )
      yield f'  {"  " * loop["depth"]}  {names}'


def run(config: ConfigDict, name: str, path: str = '') -> str:
  """What `--mode=compile` prints; writes the report as JSON to a path.

  Raises:
    UserError: see `compile_config`; or a program does not fit.
  """
  report = compile_config(config, targets.find(name))
  if path:
    pathlib.Path(path).write_text(json.dumps(report, indent=2) + '\n')
  text = table(report)
  for program, found in report['programs'].items():
    if not found['fits']:
      print(text)
      need = sum(found['bytes'].values()) / MIB
      raise UserError(
        f'--target={name}: the {program} needs {need:,.1f} MiB a device, which '
        f'has {report["memory"] / MIB:,.1f}; {REMEDY}'
      )
  return text
