"""The pages: links hold, examples run, and commands are as they say."""

import ast
import json
import pathlib
import re
import runpy
import shlex
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from absl import flags
from flax import nnx

from experiments import readme, table
from hyperjax import by_name, run
from hyperjax import config as configs
from hyperjax.data import translation
from hyperjax.errors import UserError
from hyperjax.models import wide_resnet
from hyperjax.nn.cells.hyper_lstm import HyperLSTM
from hyperjax.sweeps import space
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / 'docs'
ROOT_PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md']
PAGES = [
  *ROOT_PAGES,
  *(f'docs/{path.name}' for path in sorted(DOCS.glob('*.md'))),
]
CONFIGS = [
  f'configs/{path.name}' for path in (REPOSITORY / 'configs').glob('*.py')
]
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r'(?m)^    (\S.*)$')
FILE = re.compile(r'# (\w+\.py)\n')  # how an example begins that is a file
PROGRAMS = r'(?:python|bash) '


def read(page: str) -> str:
  return (REPOSITORY / page).read_text(encoding='utf-8')


def examples(page: str) -> list[tuple[int, str]]:
  """The Python of a page, each with its line."""
  text = read(page)
  return [
    (text[: match.start()].count('\n') + 2, match[2])
    for match in FENCE.finditer(text)
    if match[1] == 'python'
  ]


def write_files(page: str, folder: pathlib.Path) -> list[str]:
  """Writes those examples of a page that are files; returns their names."""
  names = []
  for _, code in examples(page):
    if match := FILE.match(code):
      (folder / match[1]).write_text(code)
      names.append(match[1])
  return names


# Python.


@pytest.fixture(scope='session')
def folder(tmp_path_factory, make_tiny_config):
  """Where the examples run: as if the quick start had."""
  folder = tmp_path_factory.mktemp('examples')
  config = make_tiny_config()
  config.model.cell = 'lstm'
  config.data.vocab_size = 256
  config.optimizer.warmup_steps = 0
  config.train.update({'num_steps': 2, 'eval_every': 2, 'checkpoint_every': 2})
  run.train(config, folder / 'runs' / 'quickstart')
  scope = 'rnn/LSTMCell'
  shapes = {'W_xh': (2, 12), 'W_hh': (3, 12), 'bias': (12,)}
  arrays = {f'{scope}/{name}': np.ones(shapes[name]) for name in shapes}
  np.savez(folder / 'variables.npz', **arrays)
  return folder


@pytest.mark.parametrize('page', [page for page in PAGES if examples(page)])
def test_the_examples_of_a_page_run_in_their_order(page, folder, monkeypatch):
  monkeypatch.chdir(folder)
  names = {'__name__': page}
  for line, code in examples(page):
    if not FILE.match(code):
      exec(compile('\n' * (line - 1) + code, page, 'exec'), names)
  if 'sweep' in names:
    config = configs.load(f'{REPOSITORY}/configs/ptb.py')
    for point in space.as_space(names['sweep']()).edges():
      table.override(config, point)


@pytest.mark.parametrize(
  ('page', 'file', 'fields', 'metric', 'bound'),
  [
    # A uniform guess is 8 bits, or ln 256 = 5.5 nats.
    (
      'README.md',
      'ugrnn_text.py',
      [
        'model.hidden_size=16',
        'data.batch_size=4',
        'optimizer.warmup_steps=0',
        'train.num_steps=60',
      ],
      'test/bits_per_char',
      5.0,
    ),
    ('docs/extend.md', 'bigram.py', ['train.num_steps=60'], 'test/nats', 3.5),
  ],
)
def test_what_a_page_adds_trains_from_outside(
  page, file, fields, metric, bound, parse, text_file, tmp_path, monkeypatch
):
  monkeypatch.chdir(REPOSITORY)
  monkeypatch.setattr(sys, 'path', list(sys.path))
  assert file in write_files(page, tmp_path)
  (words,) = [words for words in commands(page) if f'--config={file}' in words]
  parse(
    *(word.replace(f'={file}', f'={tmp_path / file}') for word in words[3:]),
    *(f'--config.{field}' for field in fields),
    f'--config.data.path={text_file}',
    '--config.train.eval_every=60',
  )
  assert flags.FLAGS['workdir'].value
  result = run.train(flags.FLAGS['config'].value, tmp_path / 'run')
  assert result[metric] < bound


def docstring_examples() -> dict[str, str]:
  """Indented blocks of docstrings that are Python and call something."""
  found = {}
  for path in sorted((REPOSITORY / 'hyperjax').rglob('*.py')):
    for node in ast.walk(ast.parse(path.read_text())):
      if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
        continue
      for block in re.findall(
        r'\n\n((?: {2,}\S.*\n?(?:\n(?= ))?)+)', ast.get_docstring(node) or ''
      ):
        code = textwrap.dedent(block)
        try:
          tree = ast.parse(code)
        except SyntaxError:  # a formula, or prose
          continue
        if any(isinstance(part, ast.Call) for part in ast.walk(tree)):
          found[getattr(node, 'name', path.stem)] = code
  return found


def test_examples_in_docstrings_run():
  class CNN(nnx.Module):
    def __init__(self, *, rngs):
      self.conv = nnx.Conv(1, 2, (3, 3), rngs=rngs)

    def __call__(self, images):
      return self.conv(images).mean(axis=(1, 2))

  def small_cell(arguments):
    assert arguments is ...
    return HyperLSTM(2, 3, hyper_size=2, z_size=1, key=jax.random.key(0))

  found = docstring_examples()
  assert set(found) >= {'Hypernetwork', 'NNXCell', 'space'}
  for name, code in found.items():
    module = {'Hypernetwork': 'hypernetwork', 'NNXCell': 'nnx_cell'}.get(name)
    path = f'hyperjax.nn.{module}' if module else 'hyperjax.sweeps.space'
    names = dict(vars(sys.modules.get(path) or __import__(path, fromlist='_')))
    names |= {'CNN': CNN, 'images': jax.numpy.ones((1, 4, 4, 1))}
    names |= {'HyperLSTM': small_cell}
    exec(compile(code, name, 'exec'), names)
    if 'sweep' in names:
      assert names['sweep']()


# Commands.


def commands(page: str) -> list[list[str]]:
  """The words of each command of a page, in blocks and within lines."""
  text = FENCE.sub('', read(page)).replace('\\\n', ' ')
  lines = INDENTED.findall(text)
  lines += [
    match.replace('\n', ' ')
    for match in re.findall(rf'`({PROGRAMS}[^`]+)`', INDENTED.sub('', text))
  ]
  return [
    shlex.split(line.replace('[--', '--').replace(']', ''), comments=True)
    for line in lines
    if re.match(rf'{PROGRAMS}|--', line)
  ]


def defined_flags(path: pathlib.Path) -> set[str]:
  return set(re.findall(r"DEFINE_\w+\(\s*'(\w+)'", path.read_text()))


def flag_names(words: list[str]) -> set[str]:
  names = {word.partition('=')[0] for word in words if word.startswith('--')}
  return {name.removeprefix('--') for name in names}


class Checker:
  """Checks commands; `...` stands for the config that came before."""

  def __init__(self, page, folder, parse):
    self.spec = 'configs/ptb.py'
    self.folder, self.parse = folder, parse
    self.files = write_files(page, folder)

  def check(self, words):
    if words[0].startswith('--'):
      self.config(words)
    elif words[:2] == ['python', '-m'] and words[2] == 'hyperjax.main':
      self.config(words[3:])
    elif words[0] == 'bash':
      text = read(words[1])
      for word in words[2:3]:  # what follows goes to pytest
        known = word in f'{text} -k' or (REPOSITORY / word).exists()
        assert known, word
    else:
      assert words[0] == 'python'
      module = words[1] == '-m'
      path = words[2].replace('.', '/') + '.py' if module else words[1]
      self.script(REPOSITORY / path, words[3 if module else 2 :])

  def script(self, path, words):
    if '--' in words:  # what another machine is to run
      place = words.index('--')
      self.check(words[place + 1 :])
      words = words[:place]
    names = {name for name in flag_names(words) if 'config' not in name}
    assert names <= defined_flags(path)
    if given := [word for word in words if word.startswith('--config')]:
      assert 'parse_with_config' in path.read_text()
      self.config(given)
    values = dict(word.partition('=')[::2] for word in words)
    if name := values.get('--table'):
      rows = table.load(name)
      if row := values.get('--row'):
        assert rows.row(row)

  def config(self, words):
    """Parses a command line of `main`, as it would itself."""
    spec, words = configs.take_spec(words)
    if spec and spec != '...':
      self.spec = spec
    spec = self.spec
    if spec in self.files:
      spec = f'{self.folder}/{spec}'
    words = [re.sub(r'^(--process_id)=K$', r'\1=0', word) for word in words]
    self.parse(f'--config={spec}', *words)
    configs.validate(flags.FLAGS['config'].value)


@pytest.mark.parametrize('page', [*PAGES, *CONFIGS])
def test_commands_of_a_page_are_understood(
  page, parse, forget, tmp_path, monkeypatch
):
  monkeypatch.chdir(REPOSITORY)
  monkeypatch.setattr(sys, 'path', list(sys.path))
  checker = Checker(page, tmp_path, parse)
  for words in commands(page):
    words = [re.sub(r'\.py:ROW$', '.py', word) for word in words]
    try:
      checker.check(words)
    except Exception as error:
      raise AssertionError(f'{page}: {shlex.join(words)}') from error
    forget()


def test_commands_are_found_and_wrong_ones_refused(parse, forget, tmp_path):
  assert sum(len(commands(page)) for page in PAGES) > 40
  checker = Checker('README.md', tmp_path, parse)
  for line in (
    'python -m hyperjax.main --config=configs/ptb.py --config.model.hiden=3',
    'python -m hyperjax.main --config=configs/ptb.py:lstm_1001',
    'python -m hyperjax.main --config=... --config.seed=x',
    'python scripts/sweep.py --wokers=2',
    'python -m experiments.run --table=ptbb',
    'bash scripts/tset.sh',
    'bash scripts/test.sh --fast',
  ):
    with pytest.raises((UserError, AssertionError, FileNotFoundError)):
      checker.check(line.split())
    forget()


def test_fields_that_pages_name_exist():
  # Options that no config sets, but a `build` has.
  known = {
    f'config.{section}.{option}'
    for section, module in (('model', wide_resnet), ('data', translation))
    for option in by_name.options_of(module.build)
  }
  rows = ('cifar10.py:images', 'handwriting.py:strokes', 'multi30k.py:pairs')
  for path in (*CONFIGS, *(f'configs/{row}' for row in rows)):
    config = configs.load(f'{REPOSITORY}/{path}')
    known |= {f'config.{name}' for name, _ in configs.flatten(config)}
  named = [
    (page, name)
    for page in PAGES
    for name in re.findall(r'`-*(config(?:\.(?!json)[a-z_]+)+)\b', read(page))
  ]
  assert named
  assert [
    (page, name)
    for page, name in named
    if not any(f'{field}.'.startswith(f'{name}.') for field in known)
  ] == []


# Pages.


def anchors(path: pathlib.Path) -> set[str]:
  """What may follow the # of a link to a page."""
  titles = re.findall(r'(?m)^#+ (.*)$', FENCE.sub('', path.read_text()))
  return {re.sub(r'[^\w -]', '', t).lower().replace(' ', '-') for t in titles}


def links(page: str) -> list[str]:
  return [
    link
    for link in re.findall(r'\]\(([^)\s]+)\)', FENCE.sub('', read(page)))
    if '://' not in link
  ]


@pytest.mark.parametrize('page', PAGES)
def test_links_and_pictures_are_there(page):
  here = REPOSITORY / page
  for link in links(page):
    path, _, anchor = link.partition('#')
    target = here.parent / path if path else here
    assert target.is_file(), link
    assert not anchor or anchor in anchors(target), link


def test_links_of_the_notebook_are_there():
  for cell in json.loads((DOCS / 'hyperjax.ipynb').read_text())['cells']:
    for link in re.findall(r'\]\(([^)\s]+)\)', ''.join(cell['source'])):
      assert (DOCS / link).is_file(), link


def test_every_page_is_in_the_table_of_contents():
  entries = [
    line
    for _, body in FENCE.findall(re.sub('[{}]', '', read('docs/index.md')))
    for line in body.splitlines()
  ]
  listed = {line for line in entries if line and not line.startswith(':')}
  there = {
    f'{path.relative_to(DOCS).with_suffix("")}'
    for pattern in ('*.md', '*.ipynb', 'api/*.rst')
    for path in DOCS.glob(pattern)
  }
  assert listed | {'index'} == there


def test_every_package_has_a_page_of_its_docstrings():
  package = REPOSITORY / 'hyperjax'
  described = '\n'.join(
    path.read_text() for path in (DOCS / 'api').glob('*.rst')
  )
  for path in package.iterdir():
    if path.suffix == '.py' and path.stem != '__init__':
      assert f'.. automodule:: hyperjax.{path.stem}\n' in described
    elif (path / '__init__.py').exists():
      assert f'.. package:: hyperjax.{path.name}\n' in described


def test_the_rules_of_the_house_are_short():
  assert read('CONTRIBUTING.md').count('\n') < 60


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
  command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going']
  done = subprocess.run(
    [*command, str(DOCS), str(tmp_path)],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  page = (tmp_path / 'api' / 'nn.html').read_text()
  assert 'id="hyperjax.nn.cells.hyper_lstm.HyperLSTM"' in page
  assert 'id="mnist"' in (tmp_path / 'tables.html').read_text()


def test_links_are_those_of_the_site():
  pages = runpy.run_path(str(DOCS / 'conf.py'))
  text = (
    '[a](docs/ptb.md) [b](experiments/ptb/table.md) [c](LICENSE) '
    '[d](CONTRIBUTING.md) [e](#cite) ![f](docs/pictures/x.png) '
    '[g](https://a.b/c.md) [h](experiments/speed/cpu.md)'
  )
  assert pages['page_links'](text, '') == (
    '[a](ptb.md) [b](tables.md#ptb) [c](../LICENSE) [d](contributing.md) '
    '[e](#cite) ![f](pictures/x.png) [g](https://a.b/c.md) [h](speed.md)'
  )
  assert pages['page_links']('[a](../README.md)', 'docs') == '[a](index.md)'


def test_docstrings_formulas_stay_as_they_are():
  pages = runpy.run_path(str(DOCS / 'conf.py'))
  lines = ['Scales |x|, a * b.', '', '    y = a * |x|', '', 'See `a * b`.']
  pages['plain_docstring'](None, '', '', None, None, lines)
  assert lines == [
    r'Scales \|x\|, a \* b.',
    '',
    '::',
    '',
    '    y = a * |x|',
    '',
    'See `a * b`.',
  ]


# The results in README.


def test_the_results_in_readme_are_those_of_the_records():
  text = read('README.md')
  assert readme.replaced(text) == text, (
    'README.md: run python -m experiments.readme --write'
  )
