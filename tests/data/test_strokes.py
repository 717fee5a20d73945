import functools
import json
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.data import stroke_files, strokes
from hyperjax.data.pen_lines import Line, offsets
from hyperjax.errors import UserError

# (lines, lines in a batch).
SIZES = [
  (12, 3),
  (10, 3),
  (1, 4),  # a single line
  (3, 8),  # fewer lines than places
  (201, 4),  # buckets of three batches
]


def make_line(k, size, text=''):
  """A line that drifts to the right and down, unlike that of any other k."""
  draws = np.random.default_rng(k)
  points = np.zeros((size, 3), np.float32)
  points[:, :2] = np.cumsum(
    draws.normal([8, -3], [20, 10], (size, 2)), axis=0
  ).round(2)
  points[:, 2] = draws.random(size) < 0.2
  points[0, 2], points[-1, 2] = 0, 1
  return Line(f'line-{k}', text, points)


def make_lines(count, seed=0, shortest=4, longest=30, texts=('',)):
  sizes = np.random.default_rng(seed).integers(shortest, longest + 1, count)
  return [
    make_line(1000 * seed + k, size, texts[k % len(texts)])
    for k, size in enumerate(sizes)
  ]


def make_source(splits, batch_size=3, **keywords):
  options = {'name': 'toy', 'min_points': 2, **keywords}
  if not isinstance(splits, dict):
    splits = {'train': splits, 'valid': make_lines(7, seed=1)}
  return strokes.StrokeSource(splits, batch_size=batch_size, **options)


@functools.cache
def toy(count=10, batch_size=3, scale_range=0.0):
  return make_source(make_lines(count), batch_size, scale_range=scale_range)


@functools.cache
def compiled(source):
  return jax.jit(jax.vmap(source.batch, (None, None, 0)))


def run_steps(source, steps, seed=0):
  batches = compiled(source)(
    source.arrays(), jnp.uint32(seed), jnp.array([*steps], jnp.int32)
  )
  return jax.tree.map(np.asarray, batches)


def run_epochs(source, epochs, seed=0):
  """Batches [epochs, batches of an epoch, ...]."""
  count = source.batches_per_epoch
  batches = run_steps(source, range(epochs * count), seed)
  return jax.tree.map(lambda x: x.reshape(epochs, count, *x.shape[1:]), batches)


def names_of(source, lines, batch):
  """The name of the line in each row, told by its moves; None for none."""
  known = {
    strokes.normalize(line, source.meta).tobytes(): line.name for line in lines
  }
  names = []
  for targets, mask in zip(batch['targets'], batch['mask'], strict=True):
    count = mask.sum()
    assert mask[:count].all()
    names.append(known[targets[:count].tobytes()] if count else None)
  return names


def at(batches, *index):
  return {name: value[index] for name, value in batches.items()}


def one_line(error):
  message = str(error.value)
  assert message and '\n' not in message
  return message


def refusal(*arguments, **keywords):
  with pytest.raises(UserError) as error:
    make_source(*arguments, **keywords)
  return one_line(error)


# Training batches.


@pytest.mark.parametrize(('count', 'batch_size'), SIZES)
def test_each_line_comes_once_an_epoch(count, batch_size):
  source, lines = toy(count, batch_size), make_lines(count)
  epochs, steps = 3, math.ceil(count / batch_size)
  assert source.batches_per_epoch == steps
  batches = run_epochs(source, epochs)
  longest = max(len(line.points) for line in lines) - 1
  shape = (epochs, steps, batch_size, longest)
  for name in ('inputs', 'targets'):
    assert batches[name].shape == (*shape, 3)
    assert batches[name].dtype == np.float32
  assert batches['mask'].shape == shape
  assert batches['mask'].dtype == bool
  assert set(batches) == {'inputs', 'targets', 'mask', 'length'}
  for epoch in range(epochs):
    rows = [
      names_of(source, lines, at(batches, epoch, k)) for k in range(steps)
    ]
    assert all(any(names) for names in rows)
    found = [name for names in rows for name in names if name]
    assert sorted(found) == sorted(line.name for line in lines)
    # Only places that no line is left for are empty.
    empty = [name for names in rows for name in names if not name]
    assert len(empty) == steps * batch_size - count < batch_size


@pytest.mark.parametrize(('count', 'batch_size'), SIZES)
def test_what_is_masked_is_zero(count, batch_size):
  batches = run_epochs(toy(count, batch_size), 3)
  assert (batches['mask'].sum((2, 3)) > 0).all()
  for name in ('inputs', 'targets'):
    assert not batches[name][~batches['mask']].any()


def test_lines_have_other_neighbours_in_another_epoch():
  source, lines = toy(201, 4), make_lines(201)
  batches = run_epochs(source, 3)
  steps = source.batches_per_epoch
  groups, orders = [], []
  for epoch in range(3):
    rows = [
      names_of(source, lines, at(batches, epoch, k)) for k in range(steps)
    ]
    groups.append({frozenset(names) for names in rows})
    orders.append(batches['length'][epoch].tolist())
  for a, b in ((0, 1), (0, 2), (1, 2)):
    assert len(groups[a] & groups[b]) < 5  # of 51
    assert orders[a] != orders[b]
    assert sorted(orders[a]) == sorted(orders[b])
  # Not from the shortest to the longest.
  assert abs(np.corrcoef(orders[0], np.arange(steps))[0, 1]) < 0.5


def test_a_batch_is_a_function_of_seed_and_step():
  source = toy(201, 4, 0.1)
  found = run_steps(source, [4, 9, 4])
  again = run_steps(make_source(make_lines(201), 4, scale_range=0.1), [4])
  other = run_steps(source, [4], seed=1)
  for name, value in found.items():
    np.testing.assert_array_equal(value[0], value[2])
    np.testing.assert_array_equal(value[0], again[name][0])
    assert (value[0] != value[1]).any()
  for name in ('inputs', 'targets', 'mask'):
    assert (found[name][0] != other[name][0]).any()


def test_seeds_have_orders_and_scales_of_their_own():
  plain, lines = toy(201, 4), make_lines(201)
  first, second = (
    names_of(plain, lines, at(run_steps(plain, [7], seed), 0))
    for seed in (0, 1)
  )
  assert set(first) != set(second)
  # A single line has no order to differ in.
  scaled = toy(1, 1, 0.1)
  first, second = (run_steps(scaled, [0, 1], seed) for seed in (0, 1))
  assert (first['targets'][0] != first['targets'][1]).any()
  assert (first['targets'] != second['targets']).any(axis=(1, 2, 3)).all()


def test_large_seeds_are_seeds():
  # The train step closes over the seed as a number of Python's.
  source, seed = toy(10, 3), 2**32 - 1
  plain = jax.jit(lambda arrays: source.batch(arrays, seed, 3))(source.arrays())
  expected = run_steps(source, [3], seed)
  np.testing.assert_array_equal(plain['targets'], expected['targets'][0])


def test_batches_are_the_same_within_a_loop():
  source = toy(201, 4, 0.1)
  arrays, seed = source.arrays(), jnp.uint32(3)
  expected = at(run_steps(source, [5], 3), 0)

  @jax.jit
  def looped(arrays):
    def step(state):
      return state[0] + 1, source.batch(arrays, seed, state[0])

    first = source.batch(arrays, seed, jnp.int32(0))
    return jax.lax.while_loop(
      lambda state: state[0] < 6, step, (jnp.int32(0), first)
    )[1]

  found = looped(arrays)
  for name, value in expected.items():
    # XLA may multiply and add at once, which rounds in another way.
    np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


# The length.


@pytest.mark.parametrize(('count', 'batch_size'), SIZES)
def test_the_length_bounds_the_mask_and_no_more(count, batch_size):
  batches = run_epochs(toy(count, batch_size), 3)
  assert batches['length'].dtype == np.int32
  longest = batches['mask'].sum(-1).max(-1)
  assert (longest <= batches['length']).all()
  for epoch in range(3):
    for length in set(batches['length'][epoch].tolist()):
      same = batches['length'][epoch] == length
      assert longest[epoch][same].max() == length


def test_the_length_is_the_same_for_all_seeds():
  source = toy(201, 4, 0.1)
  seeds = jnp.arange(3, dtype=jnp.uint32)
  out = {'inputs': 0, 'targets': 0, 'mask': 0, 'length': None}
  # JAX refuses None for what depends on the seed.
  batch = jax.jit(jax.vmap(source.batch, in_axes=(None, 0, None), out_axes=out))
  for step in (0, 5, 60):
    found = batch(source.arrays(), seeds, jnp.int32(step))
    for seed in range(3):
      expected = at(run_steps(source, [step], seed), 0)
      assert found['length'] == expected['length']
      np.testing.assert_array_equal(found['mask'][seed], expected['mask'])
      np.testing.assert_allclose(
        found['targets'][seed], expected['targets'], rtol=1e-5, atol=1e-6
      )


def test_little_is_padded():
  # Points of lines like IAM-OnDB's.
  draws = np.random.default_rng(0)
  sizes = np.exp(draws.normal(np.log(620), 0.25, 2_000)).astype(int)
  sizes = np.maximum(sizes, 300)
  lines = [
    Line(str(k), '', np.ones((size, 3), np.float32))
    for k, size in enumerate(sizes)
  ]
  source = make_source({'train': lines}, 32, min_points=300)
  place = jax.jit(
    jax.vmap(
      lambda arrays, k: (lambda batch: (batch['mask'].sum(), batch['length']))(
        source.batch(arrays, 0, k)
      ),
      (None, 0),
    )
  )
  steps = source.batches_per_epoch
  real, length = place(source.arrays(), jnp.arange(steps, 2 * steps))
  assert real.sum() == (sizes - 1).sum()
  assert 1 - real.sum() / (32 * length.sum()) < 0.10


# What is in a line.


def test_a_line_is_predicted_move_by_move():
  lines = make_lines(10)
  source = make_source(lines)
  batches = run_epochs(source, 1)
  by_name = {line.name: line for line in lines}
  for k in range(source.batches_per_epoch):
    batch = at(batches, 0, k)
    for row, name in enumerate(names_of(source, lines, batch)):
      if name is None:
        continue
      points = by_name[name].points
      count = len(points) - 1
      assert batch['mask'][row].sum() == count
      inputs, targets = batch['inputs'][row], batch['targets'][row]
      assert inputs[0].tolist() == [0, 0, 1]
      np.testing.assert_array_equal(inputs[1:count], targets[: count - 1])
      moves = np.diff(points[:, :2].astype(np.float64), axis=0)
      expected = (moves - source.meta['mean']) / source.meta['std']
      np.testing.assert_allclose(targets[:count, :2], expected, atol=1e-5)
      np.testing.assert_array_equal(targets[:count, 2], points[1:, 2])


def test_normalized_moves_give_the_line_back():
  lines = make_lines(10)
  source = make_source(lines)
  for line in lines:
    moves = strokes.normalize(line, source.meta)
    assert moves.shape == (len(line.points) - 1, 3)
    assert moves.dtype == np.float32
    points = strokes.points_of(moves, source.meta)
    assert points[0].tolist() == [0, 0, 0]
    expected = line.points.astype(np.float64)
    expected[:, :2] -= expected[0, :2]
    np.testing.assert_allclose(points, expected, atol=1e-3)


def test_a_drawn_line_ends_with_the_pen_up():
  meta = {'mean': [1.0, -1.0], 'std': [2.0, 4.0]}
  moves = np.float32([[0, 0, 0], [1, 0.5, 1], [-1, 0, 0]])
  np.testing.assert_array_equal(
    strokes.points_of(moves, meta),
    [[0, 0, 0], [1, -1, 0], [4, 0, 1], [3, -1, 1]],
  )


def test_moves_are_scaled_by_the_training_lines():
  source = toy(10, 3)
  batches = run_epochs(source, 1)
  moves = batches['targets'][batches['mask']][:, :2]
  np.testing.assert_allclose(moves.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(moves.std(0), 1, atol=1e-5)
  raw = np.concatenate([offsets(line.points) for line in make_lines(10)])
  raw = raw[:, :2].astype(np.float64)
  np.testing.assert_allclose(source.meta['mean'], raw.mean(0), rtol=1e-12)
  np.testing.assert_allclose(source.meta['std'], raw.std(0), rtol=1e-12)
  (batch,) = source.eval('valid', 100)
  lines = make_lines(7, seed=1)
  assert sorted(names_of(source, lines, batch)) == [n.name for n in lines]
  assert np.abs(batch['targets'][batch['mask']][:, :2].mean(0)).max() > 1e-3


def test_lines_that_do_not_move_are_left_as_they_are():
  lines = [Line('dots', '', np.float32([[7, 7, 1]] * 5))]
  source = make_source(lines, 1)
  assert (source.meta['mean'], source.meta['std']) == ([0, 0], [1, 1])
  batch = at(run_steps(source, [0]), 0)
  assert not batch['targets'][..., :2].any()
  assert (batch['targets'][..., 2] == 1).all()
  # One axis alone.
  points = np.float32([[0, 5, 0], [1, 5, 0], [4, 5, 1]])
  source = make_source([Line('dash', '', points)], 1)
  assert (source.meta['mean'], source.meta['std']) == ([2, 0], [1, 1])


@pytest.mark.parametrize('scale', [1e-6, 1e30])
def test_lines_may_be_in_any_unit(scale):
  lines = make_lines(6)
  points = [line.points * np.float32([scale, scale, 1]) for line in lines]
  scaled = [
    line._replace(points=its) for line, its in zip(lines, points, strict=True)
  ]
  (expected,) = make_source(lines).eval('train', 9)
  source = make_source({'train': scaled}, scale_range=0.1)
  (found,) = source.eval('train', 9)
  np.testing.assert_allclose(found['targets'], expected['targets'], atol=1e-3)
  assert np.isfinite(run_steps(source, [0])['targets']).all()


@pytest.mark.parametrize('split', ['train', 'valid'])
def test_a_move_too_long_for_a_number_is_refused(split):
  far = np.float32([[-3e38, 0, 0], [3e38, 0, 0], [0, 0, 1]])
  splits = {'train': make_lines(3), 'valid': make_lines(2, seed=1)}
  splits[split] = [*splits[split], Line('far-off', '', far)]
  message = refusal(splits)
  assert 'toy' in message
  assert 'far-off' in message


# Stretched lines.


def factors_of(source, lines, batches):
  """By what each line of each batch is stretched in x and y, [N, 2]."""
  by_pen = {line.points[1:, 2].tobytes(): line for line in lines}
  assert len(by_pen) == len(lines)
  found = []
  for inputs, targets, mask in zip(
    *(np.concatenate(batches[name]) for name in ('inputs', 'targets', 'mask')),
    strict=True,
  ):
    count = mask.sum()
    if not count:
      assert not inputs.any() and not targets.any()
      continue
    assert inputs[0].tolist() == [0, 0, 1]
    np.testing.assert_array_equal(inputs[1:count], targets[: count - 1])
    line = by_pen[targets[:count, 2].tobytes()]
    raw = targets[:count, :2] * source.meta['std'] + source.meta['mean']
    moves = offsets(line.points)[:, :2]
    factors = (raw * moves).sum(0) / (moves * moves).sum(0)
    # All of the line, and nothing but that: a move of zero stays zero.
    np.testing.assert_allclose(raw, moves * factors, atol=2e-4)
    found.append(factors)
  return np.array(found)


def test_training_lines_are_stretched_as_they_were_written():
  lines = make_lines(10, shortest=20)
  source = make_source(lines, 4, scale_range=0.1)
  factors = factors_of(source, lines, run_steps(source, range(3 * 30)))
  assert factors.shape == (300, 2)
  # The raw numbers were rounded on the way.
  assert factors.min() > 0.8999
  assert factors.max() < 1.1001
  # From 0.9 to 1.1 alike: deviations of mean and share are under 0.004, 0.03.
  np.testing.assert_allclose(factors.mean(0), 1, atol=0.02)
  np.testing.assert_allclose((factors < 0.95).mean(0), 0.25, atol=0.13)
  np.testing.assert_allclose((factors > 1.05).mean(0), 0.25, atol=0.13)
  # x and y, and each line, have factors of their own.
  assert abs(np.corrcoef(factors.T)[0, 1]) < 0.3
  assert len(np.unique(factors.round(5), axis=0)) > 290


def test_a_scale_range_of_zero_changes_nothing():
  lines = make_lines(10, shortest=20)
  source = make_source(lines, 4, scale_range=0.0)
  factors = factors_of(source, lines, run_steps(source, range(3)))
  np.testing.assert_allclose(factors, 1, rtol=1e-6)


@pytest.mark.parametrize('split', ['train', 'valid'])
def test_evaluation_is_never_stretched(split):
  plain = list(toy(10, 3).eval(split, 4))
  scaled = list(toy(10, 3, 0.1).eval(split, 4))
  assert toy(10, 3).meta == toy(10, 3, 0.1).meta
  for one, other in zip(plain, scaled, strict=True):
    for name, value in one.items():
      np.testing.assert_array_equal(value, other[name])


# Which lines.


def test_short_lines_are_left_out_of_all_splits():
  splits = {
    'train': [make_line(k, size) for k, size in enumerate((2, 9, 10, 11))],
    'valid': [make_line(k, size) for k, size in enumerate((9, 10))],
    'test': [make_line(k, size) for k, size in enumerate((10, 30))],
  }
  meta = make_source(splits, min_points=10).meta
  assert meta['sizes'] == {'train': 2, 'valid': 1, 'test': 2}
  assert meta['points'] == {'train': 21, 'valid': 10, 'test': 40}
  assert meta['left_out'] == {
    'train': {'under 10 points': 2},
    'valid': {'under 10 points': 1},
    'test': {},
  }
  # What is left out counts for nothing.
  kept = {'train': splits['train'][2:]}
  for name in ('mean', 'std'):
    assert make_source(kept).meta[name] == meta[name]


def test_lines_without_a_move_are_always_left_out():
  lines = [make_line(0, 5), make_line(1, 1), Line('x', '', np.zeros((0, 3)))]
  meta = make_source({'train': lines}).meta
  assert meta['left_out']['train'] == {'under 2 points': 2}


def test_lines_without_a_text_are_left_out_if_texts_matter():
  texts = ('abc', '', 'ba')
  splits = {'train': make_lines(7, texts=texts), 'valid': make_lines(1)}
  splits['valid'].append(make_line(9, 3, 'b'))
  splits['train'].append(make_line(8, 2))  # short, and without a text
  plain = make_source(splits, min_points=3).meta
  assert plain['sizes'] == {'train': 7, 'valid': 2}
  assert plain['left_out'] == {'train': {'under 3 points': 1}, 'valid': {}}
  meta = make_source(splits, min_points=3, alphabet='abc').meta
  assert meta['sizes'] == {'train': 5, 'valid': 1}
  assert meta['left_out'] == {
    'train': {'under 3 points': 1, 'without a text': 2},
    'valid': {'without a text': 1},
  }


@pytest.mark.parametrize('split', ['train', 'valid'])
def test_a_split_without_long_lines_is_refused(split):
  splits = {'train': make_lines(3, shortest=20), 'valid': make_lines(3)}
  splits['valid'] = make_lines(3, shortest=20)
  splits[split] = [make_line(0, 19), make_line(1, 5)]
  message = refusal(splits, min_points=20)
  assert 'toy' in message
  assert f'the 2 lines of the {split} split' in message
  assert 'config.data.min_points 20' in message


@pytest.mark.parametrize('split', ['train', 'valid'])
def test_a_split_without_texts_is_refused(split):
  splits = {
    'train': make_lines(3, texts='a'),
    'valid': make_lines(3, texts='a'),
  }
  splits[split] = make_lines(2)
  message = refusal(splits, alphabet='a')
  assert f'the 2 lines of the {split} split' in message
  assert 'text' in message
  assert 'config.data.alphabet' in message


@pytest.mark.parametrize('split', ['train', 'valid'])
def test_a_split_without_lines_is_refused(split):
  splits = {'train': make_lines(3), 'valid': make_lines(3), split: []}
  message = refusal(splits)
  assert f'the {split} split has no lines' in message
  assert 'min_points' not in message


@pytest.mark.parametrize(
  ('keywords', 'message'),
  [
    ({'batch_size': 0}, 'config.data.batch_size is 0'),
    ({'min_points': 1}, 'config.data.min_points is 1'),
    ({'min_points': -5}, 'config.data.min_points is -5'),
    ({'scale_range': 1.0}, 'config.data.scale_range is 1.0'),
    ({'scale_range': -0.1}, 'config.data.scale_range is -0.1'),
    ({'scale_range': math.nan}, 'config.data.scale_range is nan'),
    ({'alphabet': 'abca'}, "config.data.alphabet 'abca'"),
    (
      {'alphabet': ''.join(map(chr, range(300, 555)))},
      'up to 254 characters',
    ),
  ],
)
def test_options_out_of_range_are_refused(keywords, message):
  assert message in refusal(make_lines(3, texts='a'), **keywords)


# Texts.


def test_characters_are_their_places_in_the_alphabet():
  assert strokes.encode('cab b', 'abc ').tolist() == [4, 2, 3, 5, 3]
  assert strokes.encode('a?é\n', 'abc ').tolist() == [2, 1, 1, 1]
  assert strokes.encode('', 'abc').shape == (0,)
  assert strokes.num_symbols('abc') == 4
  assert strokes.num_symbols('') == 0


def test_an_alphabet_may_have_254_characters():
  alphabet = ''.join(map(chr, range(300, 554)))
  source = make_source(
    {'train': make_lines(2, texts=(alphabet,))}, alphabet=alphabet
  )
  (batch,) = source.eval('train', 2)
  np.testing.assert_array_equal(batch['text'][0], np.arange(2, 256))


@pytest.mark.parametrize(('count', 'batch_size'), [(10, 3), (3, 8), (100, 4)])
def test_each_text_belongs_to_its_line(count, batch_size):
  texts = ('abba', 'b', 'ca?ab', 'bb a', 'cc')
  splits = {
    'train': make_lines(count, texts=texts),
    'valid': make_lines(6, seed=1, texts=('abcabcabc', 'c!')),
  }
  source = make_source(splits, batch_size, alphabet='abc')
  epochs = run_epochs(source, 2)
  batches = {
    'train': [
      at(epochs, e, k) for e in range(2) for k in range(len(epochs['text'][0]))
    ],
    'valid': list(source.eval('valid', 4)),
  }
  expected = {
    'abba': [2, 3, 3, 2, 0],
    'b': [3, 0, 0, 0, 0],
    'ca?ab': [4, 2, 1, 2, 3],
    'bb a': [3, 3, 1, 2, 0],
    'cc': [4, 4, 0, 0, 0],
    'abcabcabc': [2, 3, 4] * 3,
    'c!': [4, 1] + [0] * 7,
  }
  for split, lines in splits.items():
    text_of = {line.name: line.text for line in lines}
    for batch in batches[split]:
      assert batch['text'].dtype == np.int32
      names = names_of(source, lines, batch)
      for name, symbols in zip(names, batch['text'], strict=True):
        if name:
          assert symbols.tolist() == expected[text_of[name]]


def test_without_an_alphabet_there_are_no_texts():
  source = make_source(make_lines(4, texts='a'))
  assert 'text' not in run_steps(source, [0])
  assert 'text' not in source.eval('train', 2)[0]


# Evaluation.


@pytest.mark.parametrize('split', ['train', 'valid'])
@pytest.mark.parametrize('batch_size', [1, 3, 4, 7, 10, 100])
def test_a_pass_has_each_line_once_from_the_shortest(split, batch_size):
  source = toy(10, 3, 0.1)
  lines = {'train': make_lines(10), 'valid': make_lines(7, seed=1)}[split]
  batches = list(source.eval(split, batch_size))
  assert len(batches) == len(source.eval(split, batch_size))
  rows = min(batch_size, len(lines))
  longest = max(len(line.points) for line in lines) - 1
  found = []
  for batch in batches:
    for name in ('inputs', 'targets'):
      assert batch[name].shape == (rows, longest, 3)
      assert batch[name].dtype == np.float32
      assert not batch[name][~batch['mask']].any()
    assert batch['mask'].shape == (rows, longest)
    assert batch['mask'].dtype == bool
    assert batch['length'] == batch['mask'].sum(1).max()
    assert np.asarray(batch['length']).dtype == np.int32
    begun = batch['mask'][:, 0]
    assert (batch['inputs'][begun, 0] == [0, 0, 1]).all()
    counts = batch['mask'].sum(1)
    for row, count in enumerate(counts):
      np.testing.assert_array_equal(
        batch['inputs'][row, 1:count],
        batch['targets'][row, : max(count - 1, 0)],
      )
    found += names_of(source, lines, batch)
  expected = sorted(lines, key=lambda line: len(line.points))
  assert found[: len(lines)] == [line.name for line in expected]
  assert not any(found[len(lines) :])
  assert len(found) - len(lines) < rows
  assert source.eval_protocol(batch_size) == 'every line once, whole'


def test_a_pass_can_be_indexed_and_ends():
  batches = toy(10, 3).eval('valid', 3)
  assert len(batches) == 3
  assert batches[2]['mask'].any(1).tolist() == [True, False, False]
  for k in (-1, 3):
    with pytest.raises(IndexError):
      batches[k]


def test_another_split_is_refused():
  with pytest.raises(UserError) as error:
    toy(10, 3).eval('tset', 3)
  assert one_line(error) == (
    "config.eval.split: no split 'tset'; known: train, valid"
  )


# Meta.


def test_meta_is_plain_json():
  source = make_source(
    make_lines(5, texts='a'),
    1,
    report={'protocol': 'graves', 'lines': 12},
    scale_range=0.1,
  )
  assert json.loads(json.dumps(source.meta)) == source.meta
  assert source.meta['name'] == 'toy'
  assert source.meta['alphabet'] == ''
  assert source.meta['report'] == {'protocol': 'graves', 'lines': 12}
  assert len(set(source.meta['sha256'].values())) == 2
  # `normalize` and `points_of` take it as it is read back.
  meta, line = json.loads(json.dumps(source.meta)), make_line(0, 9)
  np.testing.assert_array_equal(
    strokes.normalize(line, meta), strokes.normalize(line, source.meta)
  )


def test_the_hash_is_that_of_the_lines():
  lines = make_lines(5, texts=('a', 'bc'))
  sha256 = make_source(lines).meta['sha256']
  for same in ({'batch_size': 2}, {'scale_range': 0.1}, {'name': 'other'}):
    assert make_source(make_lines(5, texts=('a', 'bc')), **same).meta[
      'sha256'
    ] == (sha256)
  points = lines[3].points.copy()
  points[1, 1] += 0.25
  lifted = lines[3].points.copy()
  lifted[1, 2] = 1 - lifted[1, 2]
  for change in (
    {'name': 'line-x'},
    {'text': 'b'},
    {'points': points},
    {'points': lifted},
    {'points': lines[3].points[:-1]},
  ):
    changed = [*lines[:3], lines[3]._replace(**change), lines[4]]
    found = make_source(changed).meta['sha256']
    assert found['train'] != sha256['train']
    assert found['valid'] == sha256['valid']


# Files.


def save(path, **keywords):
  splits = {
    'train': make_lines(5, texts=('ab',)),
    'valid': make_lines(2, seed=1, texts=('b',)),
    'test': make_lines(3, seed=2, texts=('a',)),
    **keywords,
  }
  path.parent.mkdir(parents=True, exist_ok=True)
  stroke_files.write(path, splits)
  return splits


def build(path, **keywords):
  options = {'batch_size': 2, 'min_points': 2, **keywords}
  return strokes.build(path=str(path), **options)


def build_refusal(path, **keywords):
  with pytest.raises(UserError) as error:
    build(path, **keywords)
  return one_line(error)


def test_a_file_of_ones_own_lines(tmp_path, caplog):
  splits = save(tmp_path / 'notes.json')
  with caplog.at_level(logging.INFO, 'hyperjax'):
    source = build(
      tmp_path / 'notes.json', min_points=5, scale_range=0.2, alphabet='ab'
    )
  expected = make_source(splits, 2, min_points=5, alphabet='ab').meta
  assert source.meta == expected | {'name': str(tmp_path / 'notes.json')}
  assert (source.batch_size, source.scale_range) == (2, 0.2)
  for split in splits:
    assert source.meta['sha256'][split] in caplog.text


def test_a_small_file_may_have_nothing_to_test_on(tmp_path):
  save(tmp_path / 'notes.json', test=[])
  source = build(tmp_path / 'notes.json', min_points=5)
  assert set(source.meta['sizes']) == {'train', 'valid'}


def test_what_is_left_out_is_logged(tmp_path, caplog):
  save(tmp_path / 'notes.json', train=[make_line(0, 3), make_line(1, 90)])
  with caplog.at_level(logging.INFO, 'hyperjax'):
    build(tmp_path / 'notes.json', min_points=4)
  assert 'train, 1 lines, 90 points, left out: 1 under 4 points' in caplog.text
  assert 'test, 3 lines' in caplog.text


def test_a_relative_path_is_looked_for_in_two_places(tmp_path, monkeypatch):
  save(tmp_path / 'data' / 'own' / 'notes.json')
  save(tmp_path / 'here' / 'near.json', train=make_lines(4))
  monkeypatch.chdir(tmp_path / 'here')
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  assert 'own/notes.json' in build_refusal('own/notes.json')
  monkeypatch.setenv('HYPERJAX_DATA_DIR', str(tmp_path / 'data'))
  assert build('own/notes.json').meta['sizes']['train'] == 5
  assert build('near.json').meta['sizes']['train'] == 4
  # What lies here comes first.
  save(tmp_path / 'data' / 'near.json')
  assert build('near.json').meta['sizes']['train'] == 4
  assert 'nowhere.json' in build_refusal('nowhere.json')
  monkeypatch.setenv('HOME', str(tmp_path))
  assert build('~/here/near.json').meta['sizes']['train'] == 4
  monkeypatch.setenv('HYPERJAX_DATA_DIR', '~/data')
  assert build('own/notes.json').meta['sizes']['train'] == 5


def test_a_path_must_be_given():
  assert 'config.data.path is empty' in build_refusal('')


def test_a_missing_file_is_refused(tmp_path):
  path = tmp_path / 'nowhere.json'
  assert build_refusal(path) == f'{path}: No such file or directory'
  assert build_refusal('~no-such-user/x').startswith(
    "config.data.path: '~no-such-user/x'"
  )


def test_half_of_a_character_is_no_reason_to_stop(tmp_path):
  # JSON may hold half of a pair that only together is a character.
  save(tmp_path / 'notes.json', train=[make_line(0, 5, 'a\ud83d')])
  source = build(tmp_path / 'notes.json', alphabet='ab')
  assert source.eval('train', 1)[0]['text'].tolist() == [[2, 1]]
