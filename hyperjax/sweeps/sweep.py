"""What a sweep is, and the folder that it keeps."""

import dataclasses
import fcntl
import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import IO, Any

from hyperjax import config as configs
from hyperjax import workdir as files
from hyperjax.errors import UserError
from hyperjax.sweeps.space import Point, Space, as_space, text

EXAMPLE = (
  'write such as def sweep(): return '
  "[{'optimizer.learning_rate': x} for x in (1e-3, 3e-3)]"
)


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A sweep: a config, a space, and the folder of its runs.

  Attributes:
    folder: of the sweep: `sweep.json`, `records/`, and the workdirs `points/`.
    config: FILE.py or FILE.py:ARGUMENT.
    flags: that all runs have: `--config.FIELD=VALUE`.
    space: where the points are from.
    num_points: how many there are.
    seed: of points that are drawn.
    objective: what to make small, as `result.json` calls it: 'valid/...'.
    num_steps: of a run.
    cwd: where the commands are run.
    program: what runs a point; another one in tests.
  """

  folder: pathlib.Path
  config: str
  flags: tuple[str, ...]
  space: Space
  num_points: int
  seed: int = 0
  objective: str = ''
  num_steps: int = 0
  cwd: str = dataclasses.field(default_factory=os.getcwd)
  program: tuple[str, ...] = (sys.executable, '-m', 'hyperjax.main')

  def workdir(self, number: int) -> pathlib.Path:
    """The workdir of a point's run."""
    return self.folder / 'points' / f'{number:04d}'

  def log(self, number: int) -> pathlib.Path:
    """What the point's run has printed."""
    return self.workdir(number).with_suffix('.log')

  def command(self, number: int, point: Point) -> list[str]:
    """The command of a point's run, as words."""
    return [
      *self.program,
      f'--config={self.config}',
      *self.flags,
      *point_flags(point),
      f'--workdir={self.workdir(number)}',
    ]

  def point(
    self, number: int, choose: Callable[[], Point] | None = None
  ) -> Point:
    """What point `number` is.

    Args:
      number: of the point.
      choose: chooses a point of a space with ranges, if it has not been
        chosen; by default it is drawn.
    """
    if not self.space.ranges:
      return self.space.points()[number]
    if path := self.chosen(number):
      point = files.read_json(path, 'overrides')['overrides']
      return {k: tuple(v) if type(v) is list else v for k, v in point.items()}
    return choose() if choose else self.space.draw(self.seed, number)

  def chosen(self, number: int) -> pathlib.Path | None:
    """The file that says what a point is, if it has been chosen."""
    path = self.workdir(number).with_suffix('.json')
    return path if path.exists() else None

  def choose(self, number: int, point: Point) -> None:
    """Keeps what a point is, for whoever goes on with it."""
    if self.space.ranges:
      path = self.workdir(number).with_suffix('.json')
      files.write_json(path, {'overrides': point})

  def open(self) -> None:
    """Makes the folder, or checks that it is of this sweep.

    Raises:
      UserError: it is of another one. Only more points may come at the end.
    """
    try:
      for name in ('points', 'records'):
        (self.folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise UserError(f'--sweepdir {self.folder}: {error.strerror}') from error
    with (self.folder / 'lock').open('w') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)  # many may begin at once
      self._keep_definition()

  def _keep_definition(self):
    path = self.folder / 'sweep.json'
    new = json.loads(json.dumps(self._definition()))
    old = files.read_json(path, *new) if path.exists() else new
    changes = [
      f'{name} (was {_short(old[name])}, is {_short(new[name])})'
      for name in new
      if new[name] != old[name] and not _only_more(old, new, name)
    ]
    if changes:
      raise UserError(
        f'--sweepdir {self.folder} holds another sweep: {", ".join(changes)}; '
        f'take these back or choose another folder'
      )
    files.write_json(path, new)

  def _definition(self):
    ranges = bool(self.space.ranges)
    return {
      'config': self.config,
      'flags': list(self.flags),
      'objective': self.objective,
      'seed': self.seed,
      'trials': self.num_points if ranges else None,
      'space': self.space.to_json() if ranges else None,
      'points': None if ranges else self.space.points(),
    }

  def claim(self, number: int) -> IO[bytes] | None:
    """An open file that keeps others from a point; None if they have it.

    It is a lock of the kernel's, which ends with the processes that have the
    file open: this one, and the run itself.
    """
    file = self.workdir(number).with_suffix('.lock').open('wb')
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.close()
      return None
    return file


def _only_more(old: dict[str, Any], new: dict[str, Any], name: str) -> bool:
  before, now = old[name], new[name]
  if name == 'trials':
    return None not in (before, now) and now > before
  if name == 'points':
    return None not in (before, now) and now[: len(before)] == before
  return False


def _short(value):
  words = json.dumps(value)
  return words if len(words) <= 100 else f'{words[:100]}...'


def point_flags(point: Point) -> list[str]:
  """The flags that make a point of a config."""
  return [f'--config.{field}={text(value)}' for field, value in point.items()]


def load_space(spec: str, path: str = '') -> Space:
  """The space of a config file, or of a file of its own.

  Args:
    spec: the config: FILE.py or FILE.py:ARGUMENT.
    path: of a file with `sweep()`; empty means the config's.

  Raises:
    UserError: there is no such file or no `sweep()`, or it returns no space.
  """
  if path and not os.path.isfile(path):
    raise UserError(f"--space: no file '{path}'")
  path = path or spec.partition(':')[0]
  try:
    names = configs.load_module(path)
    if 'sweep' in names:
      return as_space(names['sweep'](), f'{path}: sweep()')
  except UserError:
    raise
  except Exception as error:  # whatever the user's file raises
    reason = f'{type(error).__name__}: {error}'.split('\n')[0]
    raise UserError(f'{path}: can not be loaded: {reason}') from error
  raise UserError(
    f'{path} has no sweep(); {EXAMPLE}, there or in a file for --space'
  )
