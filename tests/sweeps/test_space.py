import math
import statistics

import numpy as np
import pytest

from hyperjax.errors import UserError
from hyperjax.sweeps import space
from hyperjax.sweeps.space import (
  as_space,
  choice,
  grid,
  in_words,
  integers,
  log_uniform,
  product,
  uniform,
  zipped,
)


def test_a_grid_has_all_combinations_and_the_last_field_changes_fastest():
  points = grid({'a': (1, 2), 'b': ('x', 'y', 'z')}).points()
  assert points[:4] == [
    {'a': 1, 'b': 'x'},
    {'a': 1, 'b': 'y'},
    {'a': 1, 'b': 'z'},
    {'a': 2, 'b': 'x'},
  ]
  assert len(points) == 6


def test_zipped_fields_walk_together():
  made = zipped({'a': (1, 2), 'b': (10, 20)})
  assert made.points() == [{'a': 1, 'b': 10}, {'a': 2, 'b': 20}]


def test_a_product_of_all_kinds_counts_right():
  made = product(
    zipped({'a': (1, 2), 'b': (10, 20)}),
    choice('c', (True, False)),
    [{'d': (1, 2)}, {'d': (), 'e': 1}],
  )
  assert len(made.points()) == 8
  assert made.points()[-1] == {'a': 2, 'b': 20, 'c': False, 'd': (), 'e': 1}


def test_values_of_numpy_are_printed_as_numbers():
  (point,) = choice('a', [np.float64(0.5)]).points()
  assert in_words(point) == 'a=0.5'
  (point,) = choice('a', [np.int64(5)]).points()
  assert in_words(point) == 'a=5'


RANGES = product(
  log_uniform('rate', 1e-4, 1e-2),
  uniform('keep', 0.5, 1.0),
  integers('size', 2, 5),
  choice('name', ('x', 'y')),
)


def test_drawn_points_are_functions_of_seed_and_number():
  first = [RANGES.draw(3, number) for number in range(20)]
  assert [RANGES.draw(3, number) for number in reversed(range(20))] == first[
    ::-1
  ]
  assert len({in_words(point) for point in first}) == 20
  assert RANGES.draw(4, 0) != first[0]


def test_drawn_points_fill_their_ranges():
  points = [RANGES.draw(0, number) for number in range(500)]
  logs = [math.log10(point['rate']) for point in points]
  assert -4 <= min(logs) < -3.9 and -2.1 < max(logs) <= -2
  assert abs(statistics.median(logs) + 3) < 0.15  # 500 draws: deviation 0.045
  assert all(0.5 <= point['keep'] <= 1 for point in points)
  assert {point['size'] for point in points} == {2, 3, 4, 5}
  assert {point['name'] for point in points} == {'x', 'y'}


def test_edges_have_every_value_and_both_ends():
  edges = RANGES.edges()
  assert {point['rate'] for point in edges} == {1e-4, 1e-2}
  assert {point['size'] for point in edges} == {2, 5}
  assert {point['name'] for point in edges} == {'x', 'y'}


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: zipped({'a': (1, 2), 'b': (1,)}), 'equally many'),
    (lambda: product(choice('a', (1,)), grid({'a': (2,)})), 'a comes in twice'),
    (lambda: product(choice('a', (1,)), uniform('a', 0, 1)), 'in twice'),
    (lambda: choice('a', (1, 2, 1)), 'a=1 comes in twice'),
    (lambda: choice('a', ()), 'not a space'),
    (lambda: choice('a', [None]), 'a: None is not'),
    (lambda: choice('a', [math.inf]), 'a: inf is not'),
    (lambda: choice('config.a', (1,)), "write 'a'"),
    (lambda: log_uniform('a', 0, 1), 'above 0'),
    (lambda: uniform('a', 1, 1), 'must be below'),
    (lambda: integers('a', 0.5, 1), 'whole'),
    (lambda: grid({}), 'nothing to choose'),
    (lambda: as_space(3, 'f.py'), 'f.py: 3 is not a space'),
    (lambda: as_space([3], 'f.py'), 'point 0 is 3'),
    (lambda: as_space([{3: 3}], 'f.py'), '3 is not the name'),
  ],
)
def test_what_is_no_space_is_said(make, message):
  with pytest.raises(UserError, match=message):
    make()


def test_values_that_are_equal_but_not_the_same_are_two():
  assert len(choice('a', (1, 1.0, True)).points()) == 3
  assert [space.text(v) for v in (1, 1.0, True)] == ['1', '1.0', 'True']
