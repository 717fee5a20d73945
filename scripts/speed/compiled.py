"""What compilers make of the paper's rows, for accelerators that are not there.

Each row, target and kind of loop is compiled by `--mode=compile` in a process
of its own. Nothing here is a time: kernels are counted and bytes added up.
"""

import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from hyperjax import workdir as files
from hyperjax.errors import UserError, did_you_mean
from hyperjax.training.progress import track

REPOSITORY = pathlib.Path(__file__).parents[2]
TABLES = 'cifar10', 'ptb', 'enwik8', 'handwriting', 'translation'  # 2 to 6
TARGETS = 'h100', 'v5e', 'v6e'
HEAD = """# Compiled for accelerators

Written by `python scripts/bench.py --parts=compiled`: the rows of Tables 2 to 6
as XLA's compilers for these devices, which need no such device, make programs
of them. **Counts by a compiler, not times; nothing here has run.** One
train step on one device: kernels in the body of each loop over time (everything
counted but what is free), launches in all, bytes of memory, and on TPUs the
cycles that the compiler estimates. `scan` is `config.unroll.kernels=xla`, and
`auto` is what a run takes.
"""


def rows_of(names: Sequence[str]) -> dict[str, str]:
  """{'table/row': config} of the rows that are asked for, or of all."""
  sys.path.append(str(REPOSITORY))  # for it is not installed
  from experiments import table

  known = {
    f'{name}/{row.name}': row.config
    for name in TABLES
    for row in table.load(name).rows
  }
  for name in names:
    if name not in known:
      raise UserError(f"--rows: no '{name}'{did_you_mean(name, known)}")
  return {name: known[name] for name in names or known}


def run(names: Sequence[str], out: pathlib.Path) -> None:
  """Compiles, and writes compiled.{json,md} as results come.

  What was found by other versions of jax, and of other rows, stays.
  """
  path = out / 'compiled.json'
  found = json.loads(path.read_text()) if path.exists() else {}
  own = found.setdefault(jax.__version__, {})
  jobs = [
    (name, config, target, kernels)
    for (name, config), target in itertools.product(
      rows_of(names).items(), TARGETS
    )
    for kernels in _kinds(name, target)
  ]
  for name, config, target, kernels in track(jobs, unit='program'):
    own[f'{name} {target} {kernels}'.strip()] = _compile(
      config, target, kernels
    )
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(path, found)
    (out / 'compiled.md').write_text(markdown(found), encoding='utf-8')


def _kinds(name, target):
  """Loops to compare: where there are kernels, with and without them."""
  if name.startswith('cifar10'):
    return ['']
  return ['scan', 'auto'] if target == 'h100' else ['auto']


def _compile(config, target, kernels) -> dict[str, Any]:
  flags = ['--config.unroll.kernels=xla'] if kernels == 'scan' else []
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'found.json'
    command = [
      *(sys.executable, '-m', 'hyperjax.main', '--mode=compile'),
      *(f'--config={config}', f'--target={target}', f'--json={path}', *flags),
    ]
    done = subprocess.run(
      command, cwd=REPOSITORY, capture_output=True, text=True
    )
    if not path.exists():
      return {'error': done.stderr.strip().splitlines()[-1]}
    return json.loads(path.read_text())


def markdown(found: dict[str, dict[str, Any]]) -> str:
  """The table for people, from what `run` has found."""
  lines = [HEAD]
  for version, programs in found.items():
    lines += [
      f'## jax {version}',
      '',
      '| row | device | loop | kernels a time step | launches | MiB | cycles |',
      '| --- | --- | --- | --- | ---: | ---: | ---: |',
    ]
    lines += [_row(name, report) for name, report in programs.items()]
    lines.append('')
  return '\n'.join(lines)


def _row(name, report):
  row, target, *kernels = name.split()
  if 'error' in report:
    cells = [report['error'].replace('|', '/'), '', '', '']
  else:
    step = report['programs']['train step']
    cycles = step['estimated_cycles']
    cells = [
      ' / '.join(_counts(step['loops'])),
      f'{step["launches"]:,}',
      f'{sum(step["bytes"].values()) / 2**20:,.0f}',
      f'{cycles:,}' if cycles else '',
    ]
  return '| ' + ' | '.join([row, target, ''.join(kernels), *cells]) + ' |'


def _counts(loops) -> Iterator[str]:
  """Kernels of each loop that has no other within, but for small ones."""
  for loop, after in itertools.zip_longest(loops, loops[1:]):
    is_innermost = after is None or after['depth'] <= loop['depth']
    if is_innermost and loop['depth'] and (loop['trips'] or 0) > 1:
      yield f'{sum(loop["kernels"].values())}'
