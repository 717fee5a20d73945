"""The faults of `mutants.toml` fit the package, and outcomes are read right."""

import ast
import collections

import pytest

from tests import mutants

ALL = mutants.load()
TESTS = mutants.REPOSITORY / 'tests'


def test_names_are_unique():
  counts = collections.Counter(mutant.name for mutant in ALL)
  assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize('mutant', ALL, ids=lambda mutant: mutant.name)
def test_each_fits_its_file(mutant):
  text = mutant.path(mutants.REPOSITORY).read_text(encoding='utf-8')
  changed = mutant.apply(text)  # which has the text once
  assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))
  assert mutant.tests
  assert [name for name in mutant.tests if not (TESTS / name).exists()] == []


def test_what_is_not_there_once_is_refused():
  mutant = mutants.Mutant('twice', 'x.py', 'a', 'b', ('test_x.py',))
  assert mutant.apply('xax') == 'xbx'
  for text in ('xx', 'xaxa'):
    with pytest.raises(ValueError, match='has the text'):
      mutant.apply(text)


@pytest.mark.parametrize(
  ('code', 'output', 'state', 'by'),
  [
    (0, '3 passed', 'survived', ''),
    (1, '...\nFAILED tests/a.py::b[1] - x - y\n', 'caught', 'tests/a.py::b[1]'),
    (1, '...\nERROR tests/a.py::b\n', 'caught', 'tests/a.py::b'),
    (2, 'ERROR tests/a.py\n', 'error', 'pytest exits with 2'),
    (5, '', 'error', 'pytest exits with 5'),
    (None, '', 'error', 'it took too long'),
  ],
)
def test_judges_by_the_exit_code(code, output, state, by):
  outcome = mutants.judge(code, output)
  assert outcome.state == state
  assert outcome.by == by
  assert bool(outcome.output) == (state == 'error' and bool(output))
