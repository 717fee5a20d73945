import functools
import sys

import numpy as np
import pytest
from flax import nnx

from hyperjax import by_name
from hyperjax.data import text
from hyperjax.errors import UserError
from hyperjax.models import char_lm


def refusal(function, *args, **kwargs):
  with pytest.raises(UserError) as error:
    function(*args, **kwargs)
  message = str(error.value)
  assert message and '\n' not in message
  return message


@pytest.fixture
def user_modules(tmp_path, monkeypatch):
  """A folder on sys.path; what is imported from it is forgotten again."""
  monkeypatch.syspath_prepend(tmp_path)
  before = set(sys.modules)
  yield tmp_path
  for name in set(sys.modules) - before:
    if str(tmp_path) in str(getattr(sys.modules[name], '__file__', '')):
      del sys.modules[name]


def write_module(folder, name, source):
  path = folder.joinpath(*name.split('.')).with_suffix('.py')
  path.parent.mkdir(parents=True, exist_ok=True)
  for package in path.relative_to(folder).parents[:-1]:
    (folder / package / '__init__.py').touch()
  path.write_text(source)


# Finding.


@pytest.mark.parametrize(
  ('package', 'name', 'module'),
  [('models', 'char_lm', char_lm), ('data', 'text', text)],
)
def test_a_name_of_the_house_is_found(package, name, module):
  assert by_name.find(package, name, 'config.x') is module.build


def test_a_name_of_the_house_goes_before_a_module_elsewhere(user_modules):
  write_module(user_modules, 'text', 'def build(): pass')
  assert by_name.find('data', 'text', 'config.x') is text.build


@pytest.mark.parametrize(
  'name', ['my_cells.nested.my_cell', 'my_cells.my_cell', 'my_lone_cell']
)
def test_a_module_of_the_users_is_imported(user_modules, name):
  write_module(user_modules, name, 'def build(): return __name__')
  assert by_name.find('nn.cells', name, 'config.x')() == name


def test_build_may_be_any_callable(user_modules):
  write_module(user_modules, 'my_class', 'class build: pass')
  assert by_name.find('data', 'my_class', 'config.x').__name__ == 'build'


@pytest.mark.parametrize(
  ('package', 'name', 'nearest'),
  [
    ('nn.cells', 'lstn', 'lstm'),
    ('nn.cells', 'hyper-lstm', 'hyper_lstm'),
    ('data', 'pbt', 'ptb'),
    ('models', 'charlm', 'char_lm'),
  ],
)
def test_an_unknown_name_suggests_the_nearest(package, name, nearest):
  message = refusal(by_name.find, package, name, 'config.model.cell')
  assert message.startswith(f"config.model.cell: no '{name}' in hyperjax.")
  assert f"did you mean '{nearest}'?" in message


@pytest.mark.parametrize(
  'name', ['', '.', '..', '.lstm', 'no.such.module', 'os.path.x', 'a b', 'é']
)
def test_a_name_unlike_all_lists_the_files_that_can_be_built(name):
  message = refusal(by_name.find, 'data', name, 'config.data.name')
  assert message.startswith('config.data.name: ')
  assert (
    'known: cifar10, enwik8, iam_ondb, images, mnist, multi30k, ptb, strokes, '
    'synthetic_handwriting, text, translation, wmt14'
  ) in message
  assert 'stdlib' not in message  # a file of the package, without a `build`


@pytest.mark.parametrize('name', ['files', 'stdlib', 'json', 'os.path'])
def test_a_module_without_build_is_refused(name):
  message = refusal(by_name.find, 'data', name, 'config.data.name')
  assert f"config.data.name: no '{name}'" in message
  assert 'build' in message


def test_a_build_that_can_not_be_called_is_refused(user_modules):
  write_module(user_modules, 'my_number', 'build = 3')
  assert 'my_number' in refusal(by_name.find, 'data', 'my_number', 'config.x')


def test_an_error_inside_a_module_of_the_users_is_shown(user_modules):
  write_module(user_modules, 'my_broken', 'import no_such_package')
  with pytest.raises(ModuleNotFoundError, match='no_such_package'):
    by_name.find('data', 'my_broken', 'config.x')


def test_an_error_inside_a_package_of_the_users_is_shown(user_modules):
  write_module(user_modules, 'my_package.my_cell', 'def build(): pass')
  (user_modules / 'my_package' / '__init__.py').write_text(
    'import no_such_package'
  )
  with pytest.raises(ModuleNotFoundError, match='no_such_package'):
    by_name.find('nn.cells', 'my_package.my_cell', 'config.x')


# Options.


def build(*, size: int, rate: float = 0.1, name: str = '', on: bool = False):
  return size, rate, name, on


def check(options, given=(), build=build):
  by_name.check(build, options, dict(given), field='config.model', what="'toy'")


@pytest.mark.parametrize(
  'options',
  [
    {'size': 3},
    {'size': np.int64(3), 'rate': np.float32(0.5)},
    {'size': 3, 'rate': 0.5, 'name': 'x', 'on': True},
    {'size': 3, 'rate': 1},  # an integer is a number
  ],
)
def test_good_options_pass(options):
  check(options)


@pytest.mark.parametrize(
  ('option', 'value', 'kind'),
  [
    ('size', '3', 'int'),
    ('size', 3.0, 'int'),
    ('size', True, 'int'),
    ('size', None, 'int'),
    ('rate', '0.1', 'float'),
    ('rate', True, 'float'),
    ('rate', 1j, 'float'),
    ('name', 3, 'str'),
    ('name', b'x', 'str'),
    ('on', 1, 'bool'),
    ('on', 'True', 'bool'),
  ],
)
def test_a_value_of_the_wrong_type_is_refused(option, value, kind):
  message = refusal(check, {'size': 3, option: value})
  assert message == f'config.model.{option}: {value!r} is not of type {kind}'


def test_other_annotations_take_any_value():
  def build(*, sizes: list[int], maybe: float | None = None, free=0):
    pass

  check({'sizes': 'x', 'maybe': 'y', 'free': []}, build=build)


def test_an_unknown_option_suggests_the_nearest():
  message = refusal(check, {'size': 3, 'rat': 0.1})
  assert message == (
    "config.model.rat: 'toy' has no such option; did you mean 'rate'?"
  )


def test_an_unknown_option_unlike_all_lists_them():
  message = refusal(check, {'size': 3, 'zzz': 0.1})
  assert 'known: name, on, rate, size' in message


def test_an_option_that_is_given_elsewhere_is_no_option():
  message = refusal(check, {'size': 3}, given={'size': 4})
  assert message.startswith("config.model.size: 'toy' has no such option")
  assert 'known: name, on, rate' in message


def test_a_missing_option_is_named():
  message = refusal(check, {'rate': 0.5})
  assert message == "config.model.size: 'toy' needs this option"
  check({'rate': 0.5}, given={'size': 3})


def test_keyword_arguments_take_all_options_but_those_given():
  def build(*, size: int, key: object, **options):
    pass

  check({'size': 3, 'other': 'x'}, given={'key': 0}, build=build)
  assert 'size: 3.5' in refusal(
    check, {'size': 3.5}, given={'key': 0}, build=build
  )
  message = refusal(check, {'size': 3, 'key': 1}, {'key': 0}, build)
  assert 'config.model.key' in message


class Module(nnx.Module):
  def __init__(self, size: int, *, rate: float = 0.1):
    self.size = size


class Plain:
  def __init__(self, size: int, *, rate: float = 0.1):
    self.size = size


def function(size: int, *, rate: float = 0.1):
  return size, rate


@pytest.mark.parametrize('build', [Module, Plain, function])
def test_options_of_functions_and_classes(build):
  options = by_name.options_of(build)
  assert list(options) == ['size', 'rate']
  assert options['size'].annotation is int
  assert options['rate'].default == 0.1


@pytest.mark.parametrize('build', [Module, Plain, function])
def test_what_a_partial_has_set_is_no_option(build):
  partial = functools.partial(build, rate=0.5)
  assert list(by_name.options_of(partial)) == ['size']
  again = functools.partial(partial, size=3)
  assert list(by_name.options_of(again)) == []
  message = refusal(check, {'size': 3, 'rate': 0.5}, build=partial)
  assert 'config.model.rate' in message


@pytest.mark.parametrize('build', [Module, Plain, function])
def test_what_a_partial_has_set_by_place_is_no_option(build):
  partial = functools.partial(build, 3)
  assert list(by_name.options_of(partial)) == ['rate']


def test_options_of_a_class_that_inherits_its_constructor():
  class Child(Module):
    pass

  assert list(by_name.options_of(Child)) == ['size', 'rate']


# Calling.


def test_call_passes_options_and_what_is_given(user_modules):
  write_module(
    user_modules,
    'my_toy',
    'def build(*, size: int, key, rate: float = 0.1): return size, key, rate',
  )
  call = functools.partial(by_name.call, 'models', 'my_toy')
  assert call({'size': 3}, field='config.model', key='k') == (3, 'k', 0.1)
  message = refusal(call, {'sizes': 3}, field='config.model', key='k')
  assert message == (
    "config.model.sizes: 'my_toy' has no such option; did you mean 'size'?"
  )


def test_call_names_the_field_of_the_name():
  message = refusal(by_name.call, 'models', 'x', {}, field='config.model')
  assert message.startswith('config.model.name: ')
  message = refusal(
    by_name.call, 'models', 'x', {}, field='config', name_field='config.cell'
  )
  assert message.startswith('config.cell: ')
