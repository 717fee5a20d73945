import dataclasses
import json
import shlex
import subprocess
import sys

import pytest

from hyperjax.errors import UserError
from hyperjax.sweeps.space import choice, grid, uniform
from hyperjax.sweeps.sweep import load_space


def test_a_command_can_be_given_to_a_shell(make_sweep):
  point = {'a': "it's", 'b': (1, 2), 'c': '$HOME *', 'd': True, 'e': 1e-05}
  sweep = make_sweep(more=('--config.f=two words',))
  sweep = dataclasses.replace(
    sweep, program=(sys.executable, '-c', 'import sys; print(sys.argv[1:])')
  )
  words = sweep.command(3, point)
  assert shlex.split(shlex.join(words)) == words
  printed = subprocess.check_output(shlex.join(words), shell=True, text=True)
  assert eval(printed) == [
    '--config=stub.py',
    '--config.pause=0.0',
    '--config.f=two words',
    "--config.a=it's",
    '--config.b=(1, 2)',
    '--config.c=$HOME *',
    '--config.d=True',
    '--config.e=1e-05',
    f'--workdir={sweep.folder}/points/0003',
  ]


def test_another_sweep_in_the_folder_is_refused(make_sweep):
  make_sweep((1.0, 2.0))
  before = make_sweep((1.0, 2.0, 3.0))  # more at the end
  with pytest.raises(UserError, match='another sweep: points'):
    make_sweep((1.0, 2.0))
  for values in ((2.0, 1.0, 3.0), (2.0, 1.0, 3.0, 4.0)):
    with pytest.raises(UserError, match=r'points .*choose another folder'):
      make_sweep(values)
  for change in ({'seed': 1}, {'config': 'x.py'}, {'objective': 'valid/x'}):
    with pytest.raises(UserError, match=f'another sweep: {next(iter(change))}'):
      dataclasses.replace(before, **change).open()


def test_more_trials_may_come_but_not_fewer(make_sweep):
  space = uniform('x', 0, 1)
  make_sweep(space=space, num_points=2)
  make_sweep(space=space, num_points=3)
  with pytest.raises(UserError, match=r'trials \(was 3, is 2\)'):
    make_sweep(space=space, num_points=2)
  with pytest.raises(UserError, match='space'):
    make_sweep(space=uniform('x', 0, 2), num_points=3)


def test_a_chosen_point_stays_what_it_is(make_sweep):
  sweep = make_sweep(space=uniform('x', 0, 1), num_points=2)
  drawn = sweep.point(0)
  assert drawn == sweep.space.draw(0, 0)
  sweep.choose(0, {'x': 0.25, 'y': (1, 2)})
  assert sweep.point(0, lambda: {'x': 9.0}) == {'x': 0.25, 'y': (1, 2)}
  assert sweep.point(1, lambda: {'x': 9.0}) == {'x': 9.0}


def test_a_point_has_one_claim(make_sweep):
  sweep = make_sweep()
  with sweep.claim(0):
    assert sweep.claim(0) is None
    with sweep.claim(1):
      pass
  with sweep.claim(0):
    pass


def test_the_space_is_that_of_the_config_or_of_the_file(tmp_path):
  config, space = tmp_path / 'config.py', tmp_path / 'space.py'
  config.write_text("def sweep():\n  return [{'a': 1}, {'a': 2}]\n")
  space.write_text(
    'from hyperjax.sweeps.space import choice\n'
    "def sweep():\n  return choice('b', (3,))\n"
  )
  assert load_space(f'{config}:row').points() == [{'a': 1}, {'a': 2}]
  assert load_space(f'{config}', f'{space}') == choice('b', (3,))


@pytest.mark.parametrize(
  ('code', 'message'),
  [
    ('', r'no sweep\(\); write such as'),
    ('def sweep(): return 3', '3 is not a space'),
    ('def sweep(): return 1 / 0', 'ZeroDivisionError'),
    ('def sweep(:', 'SyntaxError'),
  ],
)
def test_a_bad_file_is_named(tmp_path, code, message):
  path = tmp_path / 'space.py'
  path.write_text(code)
  with pytest.raises(UserError, match=message) as error:
    load_space('', f'{path}')
  assert str(path) in str(error.value)
  assert '\n' not in str(error.value)


def test_sweep_json_says_what_it_is(make_sweep):
  sweep = make_sweep(space=grid({'x': (1, 2)}))
  content = json.loads((sweep.folder / 'sweep.json').read_text())
  assert content['points'] == [{'x': 1}, {'x': 2}]
  assert content['objective'] == 'valid/loss'
