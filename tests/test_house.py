"""The shape of the house: what imports what, and what configs may hold."""

import ast
import pathlib
import re

import jax
import pytest

from hyperjax import config as configs
from hyperjax import parts

REPOSITORY = pathlib.Path(__file__).parent.parent
PACKAGE = REPOSITORY / 'hyperjax'
BOTTOM = {'types', 'errors', 'by_name'}
# What each part of the house may import, beside itself.
ALLOWED = {
  'types': set(),
  'errors': set(),
  'by_name': {'errors'},
  'ops': {'types', 'errors'},
  'nn': {'ops', *BOTTOM},
  'models': {'ops', 'nn', *BOTTOM},
  'data': {'ops', 'training', *BOTTOM},
  'training': {'ops', *BOTTOM},
  'evaluation': {'ops', 'training', *BOTTOM},
  'tasks': {
    *('ops', 'nn', 'models', 'data', 'training', 'evaluation', 'pictures'),
    *BOTTOM,
  },
  'pictures': BOTTOM,
  'config': BOTTOM,
  'budget': BOTTOM,
  'command_line': {'config', 'training', *BOTTOM},
  'workdir': {'config', 'training', *BOTTOM},
  'compiling': {'parts', 'training', 'evaluation', *BOTTOM},
  'model_card': set(),
  'model_folder': {
    *('run', 'parts', 'workdir', 'config', 'model_card', 'training', *BOTTOM),
  },
}


def imports(code: str, package: tuple[str, ...]) -> set[str]:
  """Modules of hyperjax that code in a package imports, relative ones too."""
  found = set()
  for node in ast.walk(ast.parse(code)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      base = package[: len(package) + 1 - node.level] if node.level else ()
      module = '.'.join((*base, *filter(None, [node.module])))
      found |= {module} | {f'{module}.{alias.name}' for alias in node.names}
  return found


def part(path: pathlib.Path) -> str:
  return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


@pytest.mark.parametrize(
  'path', sorted(PACKAGE.rglob('*.py')), ids=lambda p: p.name
)
def test_imports_point_downward(path):
  names = imports(path.read_text(), path.relative_to(REPOSITORY).parent.parts)
  if part(path) not in ('nn', 'models', 'tasks', 'run'):
    assert not {name for name in names if name.split('.')[0] == 'flax'}
  if part(path) not in ALLOWED:
    assert part(path) in ('__init__', 'parts', 'run', 'main', 'sweeps')
    return
  parts = {name.split('.')[1] for name in names if 'hyperjax.' in name}
  parts &= {part(other) for other in PACKAGE.rglob('*.py')}
  assert parts <= ALLOWED[part(path)] | {part(path)}


def test_the_walk_sees_relative_imports():
  code = 'from ..tasks import language_model\nfrom . import norm\n'
  names = imports(code, ('hyperjax', 'ops'))
  assert 'hyperjax.tasks.language_model' in names
  assert 'hyperjax.ops.norm' in names


def rows():
  """Every config file with each of its arguments."""
  for path in sorted((REPOSITORY / 'configs').glob('*.py')):
    yield f'{path}'
  for name in ('ptb', 'enwik8'):
    path = REPOSITORY / 'configs' / f'{name}.py'
    for row in configs.load_module(path)['ROWS']:
      yield f'{path}:{row}'
      yield f'{path}:{row},smoke'
  for name in ('mnist', 'cifar10'):
    path = REPOSITORY / 'configs' / f'{name}.py'
    for row in configs.load_module(path)['ROWS']:
      yield f'{path}:{row}'
      yield f'{path}:{row},budget=0.1'
  yield f'{REPOSITORY}/configs/cifar10.py:wrn_40_1,images'
  path = REPOSITORY / 'configs' / 'handwriting.py'
  for row in configs.load_module(path)['ROWS']:
    for options in ('', ',smoke', ',synthetic', ',strokes', ',text'):
      yield f'{path}:{row}{options}'
  for row in ('hyper_lstm', 'ln_lstm', 'lstm'):
    yield f'{REPOSITORY}/configs/text.py:{row}'


NUMBERS = {}  # of parameters, by what decides them


@pytest.mark.parametrize('spec', list(rows()), ids=lambda spec: spec[-32:])
def test_every_config_builds_without_allocating(spec):
  config = configs.load(spec)
  task = parts.build_task(config)
  sizes = [v for k, v in config.data.items() if k not in ('name', 'dir')]
  same = str((config.task, config.model, sizes))
  if same not in NUMBERS:
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    NUMBERS[same] = parts.count(shapes.params)
  assert NUMBERS[same] > 0


@pytest.mark.parametrize(
  'make', [configs.language_model_config, configs.handwriting_config]
)
def test_every_config_field_is_read_by_something(make):
  code = '\n'.join(
    path.read_text()
    for path in PACKAGE.rglob('*.py')
    if path.name != 'config.py'
  )
  for path, _ in configs.flatten(make()):
    section, _, name = path.rpartition('.')
    # The other sections are arguments of a `build`, which knows no others.
    if section in ('', 'train', 'eval', 'sample'):
      assert re.search(rf"config\.({path}|{name})\b|'{name}'\]", code), path


def test_configs_are_short():
  for path in (REPOSITORY / 'configs').glob('*.py'):
    assert path.read_text().count('\n') <= 110, path
