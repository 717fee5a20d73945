"""Measures training speed and memory, side by side with others.

    python scripts/bench.py [--quick]
      [--parts=speed,resnet,handwriting,translation,memory,start,gap,parity]
      [--shapes=ptb-32x50,...] [--repeats=7] [--out=experiments/speed]
      [--translators=WORKDIR,...]
    python scripts/bench.py --parts=compiled [--rows=ptb/lstm_1000,...]

All contenders of a shape take turns, so that a slow moment of the machine
meets them all; a figure is the median of its turns. Writes DEVICE.json and
DEVICE.md under --out, of which parts that were not asked for stay as they
were. `pip install -e '.[bench]'` adds the PyTorch peers; without them their
rows are missing. `--quick` takes a minute on a CPU and writes nothing.
`--parts=compiled` measures nothing: it counts what the compilers for a GPU and
TPUs make of the paper's rows, without such devices, in hours; it needs
`pip install -e '.[compile-gpu,compile-tpu]'` and writes compiled.{json,md}.
"""

import importlib.metadata
import importlib.util
import json
import pathlib
import re
import shlex
import sys
import time
from collections.abc import Sequence

import jax
from absl import flags

from hyperjax import command_line
from hyperjax import workdir as files
from hyperjax.errors import UserError, did_you_mean
from hyperjax.training.progress import say

from speed import compiled, measures
from speed.contenders import (
  ACCELERATOR_SHAPES,
  QUICK,
  SHAPES,
  Shape,
  on_accelerator,
)
from speed.tables import markdown

PARTS = (
  *('speed', 'resnet', 'handwriting', 'translation'),
  *('memory', 'start', 'gap', 'parity'),
)
COMPILED = 'compiled'  # apart from all others
KINDS = ('forward', 'gradient', 'train step')

_QUICK = flags.DEFINE_bool('quick', False, 'One small shape, train steps only.')
_PARTS = flags.DEFINE_list('parts', [*PARTS], 'What to measure.')
_SHAPES = flags.DEFINE_list('shapes', [], 'Shapes; none means all.')
_ROWS = flags.DEFINE_list('rows', [], 'Of --parts=compiled; none means all.')
_REPEATS = flags.DEFINE_integer('repeats', 7, 'Turns of each contender.')
_TRANSLATORS = flags.DEFINE_list(
  'translators', [], 'Runs of configs/multi30k.py; none takes fresh weights.'
)
_OUT = flags.DEFINE_string('out', 'experiments/speed', 'Where results go.')


def kinds_of(name: str) -> Sequence[str]:
  """What is timed of a shape: train steps alone but for the main ones."""
  if name.startswith('ptb-') and 'z4' not in name and not _QUICK.value:
    return KINDS
  return KINDS[-1:]


def shapes() -> dict[str, Shape]:
  """The shapes asked for."""
  if _QUICK.value:
    return QUICK
  known = ACCELERATOR_SHAPES if on_accelerator() else SHAPES
  for name in _SHAPES.value:
    if name not in known:
      raise UserError(f"--shapes: no '{name}'{did_you_mean(name, known)}")
  return {k: v for k, v in known.items() if k in _SHAPES.value} or known


def device_name() -> str:
  """The device in a word or two, such as 'cpu' or 'NVIDIA H200'."""
  return jax.devices()[0].device_kind if on_accelerator() else 'cpu'


def main(argv: Sequence[str]) -> None:
  """Measures, prints the tables, and writes them with their numbers."""
  del argv  # flags alone
  if _PARTS.value == [COMPILED]:
    compiled.run(_ROWS.value, pathlib.Path(_OUT.value))
    return
  for part in _PARTS.value:
    if part not in PARTS:
      raise UserError(f"--parts: no '{part}'{did_you_mean(part, PARTS)}")
  if _REPEATS.value < 1:
    raise UserError(f'--repeats is {_REPEATS.value}; it must be at least 1')
  repeats = min(_REPEATS.value, 3) if _QUICK.value else _REPEATS.value
  parts = ['speed'] if _QUICK.value else _PARTS.value
  chosen = shapes()
  environment = files.environment()
  versions = dict(environment['versions'])
  if importlib.util.find_spec('torch'):
    versions['torch'] = importlib.metadata.version('torch')
  result = {
    'device': device_name(),
    'machine': environment['machine'],
    'date': time.strftime('%Y-%m-%d'),
    'command': shlex.join(['python', 'scripts/bench.py', *sys.argv[1:]]),
    'git': environment['git'],
    'versions': versions,
  }
  name = re.sub(r'[^a-z0-9]+', '-', device_name().lower())
  path = pathlib.Path(_OUT.value) / f'{name}.json'
  if path.exists() and not _QUICK.value:
    old = json.loads(path.read_text(encoding='utf-8'))
    kept = (*PARTS, 'measured')
    result = {k: v for k, v in old.items() if k in kept} | result
  # Parts and shapes that stay keep the command that measured them.
  names = 'command', 'date', 'git', 'machine', 'versions'
  origin = {k: result[k] for k in names}
  measured = result.setdefault('measured', {})
  measured |= {part: origin for part in parts if part != 'speed'}
  if 'speed' in parts:
    measured |= {f'speed, {shape}': origin for shape in chosen}

  if 'speed' in parts:
    rows = [
      row
      for shape_name, shape in chosen.items()
      for row in measures.time_shape(
        shape_name, shape, kinds_of(shape_name), repeats
      )
    ]
    if not _QUICK.value:
      others = result.get('speed', [])
      rows = [r for r in others if r['shape'] not in chosen] + rows
    result['speed'] = rows
  if 'resnet' in parts:
    result['resnet'] = measures.resnet(repeats)
  if 'handwriting' in parts:
    result['handwriting'] = measures.handwriting(repeats)
  if 'translation' in parts:
    result['translation'] = measures.translation(repeats, _TRANSLATORS.value)
  if 'memory' in parts:
    result['memory'] = measures.memory()
  if 'gap' in parts:
    result['gap'] = measures.gap(repeats)
  if 'parity' in parts:
    result['parity'] = measures.parity()
  if 'start' in parts:
    result['start'] = measures.start()

  text = markdown(result)
  print(text)
  if not _QUICK.value:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, result)
    path.with_suffix('.md').write_text(text, encoding='utf-8')
    say(f'{path}')


if __name__ == '__main__':
  command_line.launch(main)
