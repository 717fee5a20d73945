"""Trains a config at many points of a search space.

python scripts/sweep.py --config=configs/ptb.py:ROW [--config.FIELD=VALUE ...]
      [--space=FILE.py] [--sweepdir=FOLDER] [--engine=local|ray|slurm]
      [--workers=2] [--trials=N] [--seed=0] [--prune] [--retry] [--dry_run]
      [--point=K] [--report]

The points are those of `sweep()` in the config file or in `--space`; see
`hyperjax/sweeps/space.py`. Each is a run of `hyperjax.main` of its own, with
its workdir in FOLDER/points and its record in FOLDER/records. The same command
goes on where it stopped. `--report` runs nothing, and reports on what has
ended. The exit code is 1 if a point has failed, and 143 if one was stopped.
"""

import dataclasses
import os
import pathlib
import re
import shlex
import signal
import sys
from collections.abc import Sequence

import jax
from absl import flags

from hyperjax import by_name, command_line
from hyperjax import config as configs
from hyperjax.errors import UserError
from hyperjax.sweeps import records
from hyperjax.sweeps.check import check
from hyperjax.sweeps.point import run_point
from hyperjax.sweeps.space import text
from hyperjax.sweeps.sweep import Sweep, load_space
from hyperjax.training import loop
from hyperjax.training.progress import say

_SPACE = flags.DEFINE_string('space', '', 'File with sweep(); else the config.')
_SWEEPDIR = flags.DEFINE_string('sweepdir', '', 'Folder of the sweep.')
_ENGINE = flags.DEFINE_string('engine', 'local', 'local, ray or slurm.')
_TRIALS = flags.DEFINE_integer('trials', 0, 'Points of a space with ranges.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of points that are drawn.')
_RETRY = flags.DEFINE_bool('retry', False, 'Runs failed points again.')
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Prints the commands alone.')
_POINT = flags.DEFINE_integer('point', None, 'Runs this point alone.')
_REPORT = flags.DEFINE_bool('report', False, 'Runs nothing; writes report.md.')
# Arguments of engines: each takes some of them.
OPTIONS = {
  flag.name: flag
  for flag in (
    flags.DEFINE_integer('workers', 0, 'Runs at once; local: by default 2.'),
    flags.DEFINE_bool('prune', False, 'Stops runs that do worse than others.'),
    flags.DEFINE_list('gpus', [], 'local: GPUs that runs take turns with.'),
    flags.DEFINE_string('ray_address', '', 'ray: of a cluster, or auto.'),
    flags.DEFINE_string('ray_resources', '', 'ray: of a run, in JSON.'),
    flags.DEFINE_list('slurm', [], 'slurm: partition=gpu,timeout_min=600,...'),
    flags.DEFINE_string('slurm_cluster', 'slurm', 'slurm: slurm or local.'),
    flags.DEFINE_bool('wait', False, 'slurm: waits for the jobs.'),
  )
}


def _folder(spec: str | None) -> pathlib.Path:
  """The folder of the sweep: as given, or named after its config."""
  if _SWEEPDIR.value:
    folder = pathlib.Path(_SWEEPDIR.value)
  elif spec is None:
    raise UserError('--config is missing: give FILE.py or FILE.py:ROW')
  else:
    name = re.sub(r'[^\w.]+', '-', spec.replace('.py', '').rpartition('/')[2])
    folder = pathlib.Path('runs/sweeps') / name
  return folder.expanduser().absolute()  # jobs may run elsewhere


def make_sweep(spec: str | None) -> Sweep:
  """The sweep of the command line; every point has been checked."""
  if spec is None:
    raise UserError('--config is missing: give FILE.py or FILE.py:ROW')
  given = [
    f'--{name}={text(flags.FLAGS[name].value)}'
    for name in flags.FLAGS
    if name.startswith('config.') and flags.FLAGS[name].present
  ]
  space = load_space(spec, _SPACE.value)
  sweep = Sweep(
    folder=_folder(spec),
    config=spec,
    flags=tuple(given),
    space=space,
    num_points=_num_points(space),
    seed=_SEED.value,
  )
  objective, num_steps = check(sweep)
  return dataclasses.replace(
    sweep, objective=f'valid/{objective}', num_steps=num_steps
  )


def _num_points(space):
  if not space.ranges:
    if _TRIALS.present:
      raise UserError(
        f'--trials: the space has no ranges, but {len(space.points())} points; '
        f'leave --trials away'
      )
    return len(space.points())
  if _TRIALS.value < 1:
    raise UserError('--trials: the space has ranges; say how many points')
  return _TRIALS.value


def make_engine():
  """The engine of the command line, with those options that it takes."""
  build = by_name.find('sweeps.engines', _ENGINE.value, '--engine')
  known = by_name.options_of(build)
  for name, flag in OPTIONS.items():
    if flag.present and name not in known:
      raise UserError(
        f"--{name}: the engine '{_ENGINE.value}' has no use of it"
      )
  return build(
    **{name: flag.value for name, flag in OPTIONS.items() if name in known}
  )


def dry_run(sweep: Sweep) -> None:
  """Prints the command of each point."""
  if sweep.space.ranges and _ENGINE.value == 'local':
    say('points that are still to be chosen are drawn at random here')
  for number in range(sweep.num_points):
    print(shlex.join(sweep.command(number, sweep.point(number))))


def _number(sweep):
  """The one point to run; None means all of them."""
  number, task = _POINT.value, os.environ.get('SLURM_ARRAY_TASK_ID')
  if number is None and task and _ENGINE.value == 'local':
    number = int(task)
    say(f'point {number}, by SLURM_ARRAY_TASK_ID; --point chooses another')
  if number is not None and not 0 <= number < sweep.num_points:
    raise UserError(
      f'--point is {number}; it must be from 0 to {sweep.num_points - 1}'
    )
  return number


def one_point(sweep: Sweep, number: int) -> None:
  """Runs a point in the foreground."""
  claim = sweep.claim(number)
  if claim is None:
    raise UserError(f'--point={number}: another process runs it')
  with claim, loop.Interruption() as interruption:
    if records.read(sweep, number):
      say(f'point {number} has ended already')
      return
    interruption.patient = True  # the run is stopped first
    run_point(
      sweep,
      number,
      claim,
      engine='point',
      stopping=lambda: bool(interruption.signum),
      shown=True,
    )
  if interruption.signum:
    raise loop.SignalledError(interruption.signum)


def main(argv: Sequence[str]) -> int:
  """Runs a sweep, or what is left of it; returns the exit code."""
  del argv  # flags alone
  # Whoever checks must not take the accelerator from the runs.
  jax.config.update('jax_platforms', 'cpu')
  spec, _ = configs.take_spec(sys.argv)
  if _REPORT.value:
    from hyperjax.sweeps import report  # its libraries take a while

    print(report.write(_folder(spec)))
    return 0
  sweep = make_sweep(spec)
  engine = make_engine()
  if _DRY_RUN.value:
    dry_run(sweep)
    return 0
  sweep.open()
  number = _number(sweep)
  wanted = range(sweep.num_points) if number is None else [number]
  if _RETRY.value:
    records.forget_failed(sweep, wanted)
  if number is None:
    engine(sweep)
    print(records.table(sweep))
  else:
    one_point(sweep, number)
  return _exit_code([records.read(sweep, number) for number in wanted])


def _exit_code(ended):
  if any(record and record['status'] == 'failed' for record in ended):
    return 1
  if None in ended and _ENGINE.value != 'slurm':  # whose jobs may still wait
    return 128 + signal.SIGTERM
  return 0


if __name__ == '__main__':
  command_line.launch(main, command_line.parse_with_config)
