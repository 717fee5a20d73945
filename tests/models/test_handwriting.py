import functools
import math
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.errors import UserError
from hyperjax.models.handwriting import build
from hyperjax.nn import unroll as unrolling
from hyperjax.nn import weight_changes
from hyperjax.nn.cells.lstm import LSTM
from hyperjax.nn.unroll import unroll
from hyperjax.nn.window import WindowCell
from hyperjax.ops import mdn
from hyperjax.tasks.handwriting import Handwriting
from tests.models.test_char_lm import products_of
from tests.nn import small
from tests.nn.test_unroll import assert_close

HIDDEN, MIXTURES, SYMBOLS, WINDOWS, TIME = 6, 2, 4, 3, 6
MOVES = np.asarray(small.random_like(np.zeros((3, TIME, 3)), 5))
TEXT = jnp.asarray([[1, 4, 2, 3], [2, 2, 0, 0], [3, 0, 0, 0]])
KEY = jax.random.key(3)
READS = {'num_symbols': SYMBOLS, 'num_windows': WINDOWS}


def options_of(cell, **options):
  sizes = {'hyper_size': 4, 'z_size': 2} if 'hyper' in cell else {}
  return {
    'cell': cell,
    'hidden_size': HIDDEN,
    'num_mixtures': MIXTURES,
    'key': jax.random.key(0),
    **sizes,
    **options,
  }


def shapes(cell, **options):
  """The model without its arrays: nothing is computed."""
  return nnx.eval_shape(lambda: build(**options_of(cell, **options)))


@functools.lru_cache
def make(cell, **options):
  """A model moved off its initial values, so that all has an influence."""
  model = build(**options_of(cell, **options))
  nnx.update(model, small.moved(nnx.state(model)))
  return model


def call(model, moves=MOVES, carry=None, key=None, **options):
  if carry is None:
    text = TEXT[: len(moves)] if model.reads else None
    carry = model.initial_carry(len(moves), text)
  return model(carry, moves, key, **options)


@functools.lru_cache
def compiled(model):
  graph, _ = nnx.split(model)
  return jax.jit(lambda params, *args: call(nnx.merge(graph, params), *args))


def outputs(model, moves=MOVES, carry=None, key=None):
  return compiled(model)(nnx.state(model), moves, carry, key)


def count(model):
  return sum(math.prod(x.shape) for x in jax.tree.leaves(nnx.state(model)))


# Sizes.


def lstm(inputs, units, bias=True):
  return 4 * units * (inputs + units + bias)


@pytest.mark.parametrize('num_layers', [1, 2, 3])
def test_an_lstm_has_the_parameters_of_its_equations(num_layers):
  model = shapes('lstm', num_layers=num_layers)

  layers = lstm(3, HIDDEN) + (num_layers - 1) * lstm(HIDDEN, HIDDEN)
  assert count(model) == layers + (HIDDEN + 1) * (6 * MIXTURES + 1)


@pytest.mark.parametrize('num_layers', [1, 2, 3])
def test_a_window_adds_its_head_and_what_it_reads(num_layers):
  model = shapes('lstm', num_layers=num_layers, **READS)

  layers = lstm(3 + SYMBOLS, HIDDEN)
  top = HIDDEN + SYMBOLS
  if num_layers > 1:
    layers += lstm(HIDDEN + SYMBOLS, HIDDEN)
    layers += (num_layers - 2) * lstm(HIDDEN, HIDDEN)
    top = HIDDEN
  window = (HIDDEN + 1) * 3 * WINDOWS
  head = (top + 1) * (6 * MIXTURES + 1)
  assert count(model) == layers + window + head


def test_a_hyper_lstm_has_the_parameters_of_its_equations():
  model = shapes('hyper_lstm', hyper_size=5, z_size=2)

  main = lstm(3, HIDDEN, bias=False)
  hyper = lstm(HIDDEN + 3, 5)
  embeddings = 4 * 2 * (5 + 1 + 5 + 1 + 5)  # of z_h, z_x and, biasless, z_b
  vectors = 4 * HIDDEN * (3 * 2 + 1)  # of z to d, and b_0
  head = (HIDDEN + 1) * (6 * MIXTURES + 1)
  assert count(model) == main + hyper + embeddings + vectors + head


@pytest.mark.parametrize('reads', [{}, READS])
@pytest.mark.parametrize('num_layers', [1, 2, 3])
def test_twenty_gaussians_are_121_outputs(num_layers, reads):
  model = shapes('lstm', num_layers=num_layers, num_mixtures=20, **reads)

  carry, y = nnx.eval_shape(call, model)

  assert y.shape == (3, TIME, 121) and y.dtype == jnp.float32
  assert mdn.num_outputs(20) == 121
  assert len(carry) == num_layers
  assert model.reads == bool(reads)


# What the model computes.


def test_outputs_are_those_of_the_cells_and_the_head():
  model = make('lstm', num_layers=2, **READS)

  _, y = outputs(model)

  first, second = model.stack.cells
  assert isinstance(first, WindowCell) and not isinstance(second, WindowCell)
  carry = first.read(first.initial_carry(3), TEXT)

  @jax.jit
  def cells():
    _, hs = unroll(first, carry, MOVES.swapaxes(0, 1))
    return unroll(second, second.initial_carry(3), hs)[1]

  hs = np.asarray(cells(), np.float64)
  expected = hs @ np.asarray(model.head.kernel[...]) + model.head.bias[...]
  np.testing.assert_allclose(y.swapaxes(0, 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('reads', [{}, READS])
def test_two_halves_equal_the_whole(reads):
  model = make('lstm', num_layers=2, **reads)
  carry, whole = outputs(model)

  middle, first = outputs(model, MOVES[:, :3])
  end, second = outputs(model, MOVES[:, 3:], middle)

  assert_close(np.concatenate([first, second], axis=1), whole)
  assert_close(end, carry)


@pytest.mark.parametrize('reads', [{}, READS])
def test_outputs_know_the_past_and_no_future(reads):
  graph, params = nnx.split(make('lstm', num_layers=2, **reads))

  @jax.jit
  @jax.grad
  def influence(moves):
    model = nnx.merge(graph, params)
    carry = model.initial_carry(3, TEXT if reads else None)
    return jnp.sum(model(carry, moves)[1][:, 2] ** 2)

  found = np.abs(influence(MOVES))

  assert (found[:, :3] > 0).all()
  assert not found[:, 3:].any()


def test_rows_do_not_see_each_other():
  model = make('lstm', **READS)
  _, together = outputs(model)

  for row in range(2):
    changed = MOVES.copy()
    changed[row + 1 :] = 9
    _, other = outputs(model, changed)
    np.testing.assert_array_equal(other[: row + 1], together[: row + 1])


def test_what_is_to_be_written_matters():
  model = make('lstm', **READS)
  carry = model.initial_carry(3, TEXT)
  changed = model.initial_carry(3, TEXT.at[0, 0].set(2))

  _, first = outputs(model, carry=carry)
  _, second = outputs(model, carry=changed)

  assert np.abs(first[0] - second[0]).max() > 1e-4
  np.testing.assert_array_equal(first[1:], second[1:])
  assert model.has_written(carry).shape == (3,)


# Padding.


def task_of(**options):
  return Handwriting(
    lambda *, num_symbols, key: build(
      **options_of(num_symbols=num_symbols, **(options | {'key': key}))
    ),
    'abc' if 'num_windows' in options else '',
  )


def batch_of(lengths, reads, garbage=0.0):
  rng = np.random.default_rng(0)
  moves = rng.normal(size=(len(lengths), TIME + 1, 3)).astype(np.float32)
  moves[..., 2] = rng.random(size=moves.shape[:2]) < 0.5
  mask = np.arange(TIME) < np.asarray(lengths)[:, None]
  batch = {
    'inputs': np.where(mask[..., None], moves[:, :-1], garbage),
    'targets': np.where(mask[..., None], moves[:, 1:], garbage),
    'mask': mask,
    'length': np.int32(max(lengths)),
  }
  if reads:
    batch['text'] = np.asarray(TEXT)
  return batch


@pytest.mark.parametrize(
  'options',
  [
    {'cell': 'lstm', 'num_layers': 2, 'num_windows': WINDOWS},
    small.slow({'cell': 'lstm', 'num_layers': 2}),
    small.slow({'cell': 'ln_hyper_lstm', 'num_windows': WINDOWS}),
  ],
)
def test_padding_changes_neither_loss_nor_gradient(options, monkeypatch):
  monkeypatch.setattr(unrolling, 'RAGGED_CHUNK_ROWS', 6)  # two steps
  task = task_of(**options)
  reads = 'num_windows' in options
  params, state = task.init(jax.random.key(0))
  params = small.moved(params)
  lengths = 4, 1, 1

  def loss(params, batch):
    value, aux = task.loss(params, state, (), batch, KEY)
    return value, aux.metrics

  grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
  batch = batch_of(lengths, reads)

  (value, metrics), grads = grad(params, batch)

  values, alone = [], []
  for row, length in enumerate(lengths):
    line = {
      name: x[row : row + 1, :length] if np.ndim(x) > 1 else np.int32(length)
      for name, x in batch.items()
    }
    if reads:
      line['text'] = TEXT[row : row + 1]
    (one, _), of_line = grad(params, line)
    share = length / sum(lengths)
    values.append(share * float(one))
    alone.append(jax.tree.map(lambda x, share=share: share * x, of_line))
  assert float(value) == pytest.approx(sum(values), rel=1e-5)
  assert_close(grads, jax.tree.map(lambda *x: sum(x), *alone), rtol=2e-5)
  assert float(metrics['nats_per_point'].weight) == sum(lengths)
  assert float(metrics['nats_per_sequence'].weight) == len(lengths)
  other = batch_of(lengths, reads, garbage=7.0)
  # Behind the longest line nothing is computed.
  other['inputs'][:, max(lengths) :] = np.nan
  assert_close(grad(params, other), ((value, metrics), grads), rtol=1e-6)


# Dropout.


@pytest.mark.parametrize(
  ('cell', 'option'),
  [
    ('lstm', {'output_keep_prob': 0.5}),
    ('rnn', {'zoneout_h': 0.5}),
  ],
)
def test_there_is_dropout_with_a_key_alone(cell, option):
  model = make(cell, **option, **READS)

  noisy, other, quiet = (
    outputs(model, key=key)[1] for key in (KEY, jax.random.key(4), None)
  )

  for a, b in ((noisy, quiet), (noisy, other)):
    assert np.abs(a - b).max() > 1e-3
  if 'zoneout_h' not in option:  # whose mean it is, without a key
    np.testing.assert_array_equal(quiet, outputs(make(cell, **READS))[1])


def test_layers_have_dropout_between_them():
  model = make('lstm', num_layers=2, output_keep_prob=0.5)

  assert model.stack.keep_prob == model.output_keep_prob == 0.5
  # The lowest layer's output is not dropped before it is its own memory.
  lowest = [outputs(model, key=key)[0][0] for key in (KEY, None)]
  assert_close(*lowest, rtol=0)


# Changes of weights.


@pytest.mark.parametrize(
  ('cell', 'gates', 'reads'), [('hyper_rnn', 1, READS), ('hyper_lstm', 4, {})]
)
def test_changes_are_those_of_the_lowest_cell(cell, gates, reads):
  model = make(cell, num_layers=2, **reads)
  carry = model.initial_carry(3, TEXT if reads else None)
  before, after = (small.random_like(carry, seed) for seed in (6, 7))

  found = model.weight_changes(before, after)

  assert found.shape == (3, gates) and (found > 0).all()
  lowest = model.stack.cells[0]
  if reads:
    pair = before[0][0], after[0][0]
    expected = weight_changes.change(lowest.cell, *pair)
  else:
    expected = weight_changes.change(lowest, before[0], after[0])
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('reads', [{}, READS])
def test_a_plain_cell_has_no_changes(reads):
  model = build(**options_of('lstm', **reads))
  carry = model.initial_carry(3, TEXT if reads else None)

  assert model.weight_changes(carry, carry) is None


# Precision.


@pytest.mark.parametrize(
  ('cell', 'dtype'),
  [('lstm', 'float32'), ('lstm', 'bfloat16'), ('hyper_rnn', 'bfloat16')],
)
def test_the_dtype_reaches_all_products(cell, dtype):
  model = shapes(cell, num_layers=2, dtype=dtype, **READS)
  graph, params = nnx.split(model)

  def loss(params):
    model = nnx.merge(graph, params)
    _, y = model(model.initial_carry(3, TEXT), MOVES)
    return jnp.sum(y)

  types_of_factors = products_of(loss, params)

  assert len(types_of_factors) > 8
  assert all(factors == {dtype} for factors in types_of_factors)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('float32')}


def test_bfloat16_is_near_float32():
  _, rough = outputs(make('lstm', dtype='bfloat16', **READS))
  _, fine = outputs(make('lstm', **READS))

  assert rough.dtype == jnp.float32
  assert 0 < np.abs(rough - fine).max() < 0.1


# Options.


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    (
      {'num_windows': 3},
      'config.model.num_windows is 3, but config.data.alphabet is empty; ',
    ),
    (
      {'num_symbols': 4},
      'config.model.num_windows is 0, but config.data.alphabet has characters;',
    ),
    (
      {'num_layer': 2},
      "config.model.num_layer: cell 'lstm' has no such option",
    ),
    ({'input_keep_prob': 0.9}, 'config.model.input_keep_prob: '),
    ({'cell': 'lsmt'}, "config.model.cell: no 'lsmt' in hyperjax.nn.cells"),
    ({'cell': 'hyper_lstm'}, "config.model.hyper_size: cell 'hyper_lstm'"),
    (
      {'cell': 'rnn', 'recurrent_keep_prob': 0.9},
      "config.model.recurrent_keep_prob is 0.9, but cell 'rnn'",
    ),
    ({'unroll': {'remat': 'steps'}}, "config.unroll.remat: no 'steps'"),
  ],
)
def test_wrong_options_are_named(options, words):
  given = {'cell': 'lstm', 'hidden_size': HIDDEN, 'key': jax.random.key(0)}
  with pytest.raises(UserError) as error:
    nnx.eval_shape(lambda: build(**(given | options)))
  assert words in str(error.value)
  assert '\n' not in str(error.value)


def test_options_of_unroll_reach_it(monkeypatch):
  seen = []

  def spy(*args, **options):
    seen.append(options)
    return unroll(*args, **options)

  monkeypatch.setattr('hyperjax.nn.stack.unroll', spy)
  model = shapes('lstm', unroll={'remat': 'step', 'defer': False})

  nnx.eval_shape(lambda model: call(model, length=4), model)

  assert seen == [
    {'remat': 'step', 'defer': False, 'kernels': 'auto', 'length': 4}
  ]


def test_a_cell_of_ones_own_can_read(monkeypatch):
  module = types.ModuleType('house_of_pens')
  module.build = lambda input_size, hidden_size, *, key: LSTM(
    input_size, hidden_size, key=key
  )
  module.__spec__ = types.SimpleNamespace(name='house_of_pens')
  monkeypatch.setitem(sys.modules, 'house_of_pens', module)

  _, found = outputs(make('house_of_pens', **READS))

  assert_close(found, outputs(make('lstm', **READS))[1])
