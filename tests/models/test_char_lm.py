import functools
import sys
import types

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.errors import UserError
from hyperjax.models import char_lm
from hyperjax.models.char_lm import build
from hyperjax.nn.cells.lstm import LSTM
from hyperjax.nn.cells.rnn import RNN
from hyperjax.nn.unroll import unroll
from tests.nn import small

VOCAB, HIDDEN = 7, 6
SYMBOLS = jnp.asarray([[0, 3, 6, 2], [5, 5, 1, 0], [2, 4, 6, 3]])
KEY = jax.random.key(3)


def options_of(cell, **options):
  sizes = {'hyper_size': 4, 'z_size': 2} if 'hyper' in cell else {}
  return {
    'vocab_size': VOCAB,
    'cell': cell,
    'hidden_size': HIDDEN,
    'key': jax.random.key(0),
    **sizes,
    **options,
  }


def shapes(cell, **options):
  """The model without its arrays: nothing is computed."""
  return nnx.eval_shape(lambda: build(**options_of(cell, **options)))


@functools.lru_cache
def compiled(model):
  return jax.jit(
    lambda key: model(model.initial_carry(len(SYMBOLS)), SYMBOLS, key)
  )


def logits(model, key=None):
  return compiled(model)(key)


@pytest.mark.parametrize(
  ('cell', 'unroll', 'words'),
  [
    ('lstm', {'remat': 'steps'}, "config.unroll.remat: no 'steps'; did you"),
    ('lstm', {'remet': 'step'}, 'no field config.unroll.remet; did you mean'),
    ('rnn', {'kernels': 'pallas'}, "but cell 'rnn' has no such option"),
    ('lstm', {'kernels': 'cuda'}, "config.unroll.kernels: no 'cuda'"),
  ],
)
def test_wrong_options_of_unroll_are_named(cell, unroll, words):
  with pytest.raises(UserError) as error:
    shapes(cell, unroll=unroll)
  assert words in str(error.value)


# What the model computes.


def test_logits_are_those_of_the_equations():
  model = build(**options_of('hyper_rnn', num_layers=2))

  carry, actual = logits(model)

  @jax.jit
  def expected():
    xs = jax.nn.one_hot(SYMBOLS.T, VOCAB)
    carries = []
    for cell in model.stack.cells:
      carry, xs = unroll(cell, cell.initial_carry(len(SYMBOLS)), xs)
      carries.append(carry)
    return tuple(carries), xs

  expected_carry, hs = expected()
  y = np.asarray(hs) @ np.asarray(model.head.kernel[...])
  np.testing.assert_allclose(actual, y.swapaxes(0, 1), rtol=1e-5, atol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    carry,
    expected_carry,
  )


def test_layers_are_drawn_anew_and_read_the_layer_below():
  model = build(**options_of('lstm', num_layers=3))

  sizes = [cell.input.kernel.shape[0] for cell in model.stack.cells]
  assert sizes == [VOCAB, HIDDEN, HIDDEN]
  _, second, third = model.stack.cells
  assert np.abs(second.input.kernel[...] - third.input.kernel[...]).max() > 0.1


def test_the_head_starts_orthogonal_without_bias():
  head = build(**options_of('rnn')).head

  kernel = np.asarray(head.kernel[...])
  np.testing.assert_allclose(kernel @ kernel.T, np.eye(HIDDEN), atol=1e-5)
  assert not np.any(head.bias[...])
  assert head.bias.shape == (VOCAB,)


@pytest.mark.parametrize(
  ('cell', 'option'),
  [
    ('lstm', {'input_keep_prob': 0.5}),
    ('lstm', {'output_keep_prob': 0.5}),
    ('lstm', {'recurrent_keep_prob': 0.5}),
    ('hyper_rnn', {'zoneout_h': 0.5}),
    small.slow('hyper_lstm', {'input_keep_prob': 0.5}),
    small.slow('hyper_lstm', {'hyper_recurrent_keep_prob': 0.5}),
    small.slow('lstm', {'zoneout_c': 0.5}),
  ],
)
def test_every_kind_of_noise_reaches_the_logits_with_a_key(cell, option):
  model = build(**options_of(cell, **option))
  # Moved, for at its start a hyper cell has hardly any influence.
  nnx.update(model, small.moved(nnx.state(model)))

  noisy, other, quiet = (
    logits(model, key)[1] for key in (KEY, jax.random.key(4), None)
  )

  for a, b in ((noisy, quiet), (noisy, other)):
    assert np.abs(a - b).max() > 1e-3
  np.testing.assert_array_equal(noisy, logits(model, KEY)[1])


# Options.

NEUTRAL = {
  'hyper_size': 4,
  'z_size': 2,
  'hyper_cell': '',
  'generation': 'row_scaling',
  'recurrent_keep_prob': 1.0,
  'hyper_recurrent_keep_prob': 1.0,
  'zoneout_c': 0.0,
  'zoneout_h': 0.0,
}


@pytest.mark.parametrize('cell', small.NAMES)
def test_every_cell_takes_options_that_change_nothing(cell):
  model = shapes(cell, **NEUTRAL)

  expected = shapes(cell)
  assert nnx.state(model) == nnx.state(expected)


@pytest.mark.parametrize(
  ('cell', 'option', 'value'),
  [
    ('rnn', 'zoneout_c', 0.5),
    ('rnn', 'recurrent_keep_prob', 0.5),
    ('ln_hyper_rnn', 'zoneout_c', 0.5),
    ('ln_hyper_rnn', 'recurrent_keep_prob', 0.5),
    ('lstm', 'hyper_recurrent_keep_prob', 0.5),
    ('lstm', 'hyper_cell', 'lstm'),
    ('ln_rnn', 'hyper_cell', 'rnn'),
    ('ln_lstm', 'generation', 'full'),
    ('rnn', 'generation', 'full'),
    ('rnn', 'hyper_recurrent_keep_prob', 0.9),
  ],
)
def test_options_that_a_cell_does_not_know_are_refused(cell, option, value):
  with pytest.raises(UserError) as error:
    shapes(cell, **{option: value})

  message = str(error.value)
  assert message.startswith(
    f"config.model.{option} is {value!r}, but cell '{cell}' has no such option"
  )
  assert '\n' not in message


@pytest.mark.parametrize(
  ('cell', 'option', 'hint'),
  [
    ('lstm', 'zoneout', 'zoneout_h'),
    ('hyper_lstm', 'layer_nrom', 'layer_norm'),
  ],
)
def test_an_option_that_no_cell_knows_is_named_with_the_nearest(
  cell, option, hint
):
  with pytest.raises(UserError) as error:
    shapes(cell, **{option: 1})

  assert str(error.value) == (
    f"config.model.{option}: cell '{cell}' has no such option; did you mean "
    f"'{hint}'?"
  )


@pytest.mark.parametrize('cell', ['hyper_rnn', 'ln_hyper_lstm'])
def test_an_rnn_that_makes_weights_has_no_recurrent_dropout(cell):
  with pytest.raises(UserError) as error:
    shapes(cell, hyper_cell='rnn', hyper_recurrent_keep_prob=0.9)

  message = str(error.value)
  assert message.startswith('config.model.hyper_recurrent_keep_prob is 0.9')
  assert '\n' not in message


@pytest.mark.parametrize(
  ('option', 'value', 'hint'),
  [
    ('hyper_cell', 'lsmt', "; did you mean 'lstm'?"),
    ('hyper_cell', 'gru-like', '; known: lstm, rnn'),
    ('generation', 'row_scale', "; did you mean 'row_scaling'?"),
    ('generation', 'everything', '; known: full, row_scaling'),
  ],
)
@pytest.mark.parametrize('cell', ['hyper_rnn', 'ln_hyper_lstm'])
def test_an_unknown_way_to_make_weights_is_named(cell, option, value, hint):
  with pytest.raises(UserError) as error:
    shapes(cell, **{option: value})

  assert str(error.value) == f"config.model.{option}: no '{value}'{hint}"


@pytest.mark.parametrize('option', ['hyper_size', 'z_size'])
def test_a_hyper_cell_needs_its_sizes(option):
  with pytest.raises(UserError) as error:
    shapes('hyper_rnn', **{option: 0})

  assert str(error.value).startswith(f'config.model.{option}: cell')


@pytest.mark.parametrize(
  ('cell', 'hyper_cell', 'kind'),
  [
    ('hyper_rnn', '', RNN),
    ('hyper_rnn', 'lstm', LSTM),
    ('ln_hyper_lstm', '', LSTM),
    ('ln_hyper_lstm', 'rnn', RNN),
  ],
)
def test_the_hyper_cell_is_of_the_cells_own_kind_unless_told(
  cell, hyper_cell, kind
):
  model = shapes(cell, hyper_cell=hyper_cell, num_layers=2)

  assert all(type(layer.hyper) is kind for layer in model.stack.cells)


def test_options_reach_every_layer():
  model = shapes(
    'hyper_lstm',
    num_layers=2,
    generation='full',
    recurrent_keep_prob=0.9,
    hyper_recurrent_keep_prob=0.8,
    zoneout_c=0.3,
    zoneout_h=0.2,
    layer_norm=True,
  )

  for layer in model.stack.cells:
    assert layer.main.keep_prob == 0.9
    assert layer.hyper.keep_prob == 0.8
    assert (layer.main.zoneout_c, layer.main.zoneout_h) == (0.3, 0.2)
    assert (layer.hyper.zoneout_c, layer.hyper.zoneout_h) == (0.0, 0.0)
    assert layer.main.norm_gates is not None
    assert layer.main.recurrent.kernel.shape == (HIDDEN, 2 * 4 * HIDDEN)


# Precision.


def products(model):
  """Types of the factors of every matrix product of loss and gradient."""
  graph, params = nnx.split(model)

  def loss(params):
    model = nnx.merge(graph, params)
    _, y = model(model.initial_carry(len(SYMBOLS)), SYMBOLS)
    return jnp.sum(y)

  return products_of(loss, params)


def products_of(loss, params):
  """The same of a loss's gradient."""

  def walk(jaxpr):
    for eqn in jaxpr.eqns:
      if eqn.primitive.name == 'dot_general':
        yield {str(v.aval.dtype) for v in eqn.invars}
      for inner in jax.extend.core.jaxprs_in_params(eqn.params):
        yield from walk(inner)

  return list(walk(jax.make_jaxpr(jax.grad(loss))(params).jaxpr))


@pytest.mark.parametrize(
  ('cell', 'num_layers', 'dtype'),
  [
    ('lstm', 2, 'float32'),
    ('lstm', 2, 'bfloat16'),
    ('rnn', 1, 'bfloat16'),
    ('hyper_rnn', 1, 'bfloat16'),
    ('ln_hyper_lstm', 1, 'bfloat16'),
    *(
      small.slow(name, 2, dtype)
      for name in small.NAMES
      for dtype in ('float32', 'bfloat16')
      if name != 'lstm'
    ),
  ],
)
def test_the_dtype_reaches_all_products(cell, num_layers, dtype):
  model = shapes(cell, num_layers=num_layers, dtype=dtype)

  types_of_factors = products(model)

  # Of each layer and the head, forward and backward.
  assert len(types_of_factors) > 3 * num_layers
  assert all(factors == {dtype} for factors in types_of_factors)
  assert {x.dtype for x in jax.tree.leaves(nnx.state(model))} == {
    jnp.dtype('float32')
  }


def test_whole_generated_matrices_are_multiplied_in_the_dtype():
  model = shapes('hyper_rnn', generation='full', dtype='bfloat16')

  for _, module in nnx.iter_modules(model):
    assert getattr(module, 'dtype', 'bfloat16') == 'bfloat16'
  # Sums of N_z terms are no such products.
  assert {'bfloat16'} in products(model)


def test_a_cell_without_a_dtype_is_refused_in_bfloat16(monkeypatch):
  module = types.ModuleType('house_of_cells')

  def build_cell(input_size, hidden_size, *, key):
    return LSTM(input_size, hidden_size, key=key)

  module.build = build_cell
  module.__spec__ = types.SimpleNamespace(name='house_of_cells')
  monkeypatch.setitem(sys.modules, 'house_of_cells', module)

  model = shapes('house_of_cells', dtype='float32')
  assert isinstance(model.stack.cells[0], LSTM)
  with pytest.raises(UserError) as error:
    shapes('house_of_cells', dtype='bfloat16')
  assert str(error.value) == (
    "config.dtype is bfloat16, but cell 'house_of_cells' has no option dtype; "
    'take float32'
  )


def test_each_place_of_dropout_has_a_key_of_its_own(monkeypatch):
  keys = []

  def keep(x, key, keep_prob):
    keys.append(tuple(jax.random.key_data(key).tolist()))
    return x

  model = build(**options_of('lstm'))
  carry, inside = model.initial_carry(len(SYMBOLS)), model.stack
  model.stack = lambda carry, xs, key, **_: inside(carry, keep(xs, key, 1.0))
  monkeypatch.setattr(char_lm, 'one_hot_dropout', keep)
  monkeypatch.setattr(char_lm, 'dropout', keep)
  model(carry, SYMBOLS, KEY)
  assert len(set(keys)) == 3
