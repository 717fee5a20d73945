"""Cells by the variables of the author's code, beside that code's equations.

`theirs` is a step in float64 NumPy, by the names of the variables in three
versions of that code: the first, that of its last commit, and Magenta's.
"""

import functools
import itertools

import jax
import numpy as np
import pytest
from flax import nnx

from hyperjax.errors import UserError
from hyperjax.nn import supercell
from hyperjax.nn.cells.hyper_lstm import HyperLSTM
from hyperjax.nn.cells.lstm import LSTM
from hyperjax.nn.unroll import unroll

INPUTS, SIZE, HYPER, Z, BATCH, TIME = 3, 6, 5, 2, 4, 5
LAYOUTS = 'first', 'last', 'magenta'
CASES = [
  case
  for case in itertools.product(LAYOUTS, ('lstm', 'hyper_lstm'), (False, True))
  if case != ('magenta', 'hyper_lstm', False)  # which is not quite without
]


def shapes_of(layout, kind, layer_norm):
  """The names of a cell's variables, with their shapes."""
  if kind == 'lstm':
    return plain_shapes(layout, INPUTS, SIZE, layer_norm)
  shapes = {
    'W_xh': (INPUTS, 4 * SIZE),
    'W_hh': (SIZE, 4 * SIZE),
    'bias': (4 * SIZE,),
  }
  inner = plain_shapes(layout, INPUTS + SIZE, HYPER, layer_norm)
  scope = inner_scope(layout, layer_norm)
  shapes |= {f'{scope}/{name}': shape for name, shape in inner.items()}
  for gate in 'ijfo':
    for which in 'xh':
      base = f'hyper_{gate}{which}'
      shapes[f'{base}/zw/super_linear_w'] = HYPER, Z
      shapes[f'{base}/zw/super_linear_b'] = (Z,)
      shapes[f'{base}/alpha/super_linear_w'] = Z, SIZE
    base = shift_scope(layout, gate)
    shapes[f'{base}/zb/super_linear_w'] = HYPER, Z
    shapes[f'{base}/beta/super_linear_w'] = Z, SIZE
  if layer_norm:
    shapes |= norm_shapes('first' if layout == 'first' else 'magenta', SIZE)
  return shapes


def plain_shapes(layout, inputs, size, layer_norm):
  recurrent = 'W_hh_i' if layout == 'last' else 'W_hh'
  shapes = {'W_xh': (inputs, 4 * size), recurrent: (size, 4 * size)}
  if layout == 'last' or not layer_norm:
    shapes['bias'] = (4 * size,)
  return shapes | (norm_shapes(layout, size) if layer_norm else {})


def norm_shapes(layout, size):
  if layout == 'first':
    return {
      f'ln_{place}/layer_norm_{which}': (size,)
      for place in 'ijfoc'
      for which in ('alpha', 'bias')
    }
  gates = 'ln' if layout == 'last' else 'ln_all'
  return {
    f'{scope}/ln_{which}': (width,)
    for scope, width in ((gates, 4 * size), ('ln_c', size))
    for which in ('gamma', 'beta')
  }


def inner_scope(layout, layer_norm):
  norm_has_its_class = layer_norm and layout != 'last'
  return 'LayerNormLSTMCell' if norm_has_its_class else 'LSTMCell'


def shift_scope(layout, gate):
  return f'hyper_{gate}b' if layout == 'last' else f'hyper_{gate}h'


def make(layout, kind, layer_norm, seed=0):
  rng = np.random.default_rng(seed)
  return {
    name: rng.normal(0.0, 0.6, shape) + ('gamma' in name or 'alpha' in name)
    for name, shape in shapes_of(layout, kind, layer_norm).items()
  }


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def normalize(x, gain, bias):
  centred = x - x.mean(-1, keepdims=True)
  variance = (centred**2).mean(-1, keepdims=True)
  return gain * centred / np.sqrt(variance + 1e-3) + bias


def normalize_place(v, place, x):
  """The norm of one gate, or of c, under any of the versions' names."""
  if f'ln_{place}/layer_norm_alpha' in v:
    gain, bias = (
      v[f'ln_{place}/layer_norm_{name}'] for name in ('alpha', 'bias')
    )
    return normalize(x, gain, bias)
  if place == 'c':
    return normalize(x, v['ln_c/ln_gamma'], v.get('ln_c/ln_beta', 0))
  (scope,) = {name.split('/')[0] for name in v} & {'ln', 'ln_all'}
  at = 'ijfo'.index(place)
  columns = slice(at * x.shape[-1], (at + 1) * x.shape[-1])
  beta = v.get(f'{scope}/ln_beta')
  bias = 0 if beta is None else beta[columns]
  return normalize(x, v[f'{scope}/ln_gamma'][columns], bias)


def finish(v, pre, c, forget_bias):
  """From pre-activations of i, j, f, o to the new c and h."""
  norm = any(name.startswith('ln') for name in v)
  i, j, f, o = (
    normalize_place(v, place, x) if norm else x
    for place, x in zip('ijfo', pre, strict=True)
  )
  c = c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j)
  seen = normalize_place(v, 'c', c) if norm else c
  return c, np.tanh(seen) * sigmoid(o)


def plain(v, x, c, h, forget_bias=1.0):
  recurrent = v['W_hh_i'] if 'W_hh_i' in v else v['W_hh']
  y = x @ v['W_xh'] + h @ recurrent + v.get('bias', 0)
  return finish(v, np.split(y, 4, axis=1), c, forget_bias)


def hyper(v, x, state, forget_bias=1.0):
  (c, h), inner_state = state
  scope = next(
    n for n in ('LSTMCell/', 'LayerNormLSTMCell/') if f'{n}W_xh' in v
  )
  inner = {
    name.removeprefix(scope): value
    for name, value in v.items()
    if name.startswith(scope)
  }
  main = {name: value for name, value in v.items() if 'LSTMCell' not in name}
  inner_state = plain(inner, np.concatenate([x, h], axis=1), *inner_state)
  signal, pre = inner_state[1], []
  for at, gate in enumerate('ijfo'):
    columns = slice(at * SIZE, (at + 1) * SIZE)
    y = v['bias'][columns]
    for letter, into, matrix in (('x', x, 'W_xh'), ('h', h, 'W_hh')):
      base = f'hyper_{gate}{letter}'
      z = signal @ v[f'{base}/zw/super_linear_w']
      z = z + v[f'{base}/zw/super_linear_b']
      scale = z @ v[f'{base}/alpha/super_linear_w']
      y = y + scale * (into @ v[matrix][:, columns])
    base = f'hyper_{gate}b'
    base = base if f'{base}/zb/super_linear_w' in v else f'hyper_{gate}h'
    z = signal @ v[f'{base}/zb/super_linear_w']
    pre.append(y + z @ v[f'{base}/beta/super_linear_w'])
  return finish(main, pre, c, forget_bias), inner_state


def theirs(v, xs, forget_bias=1.0):
  """All h, [T, B, H], and the last state, after steps from a random one."""
  state = start(v)
  outputs = []
  for x in xs:
    if isinstance(state[0], tuple):
      state = hyper(v, x, state, forget_bias)
      outputs.append(state[0][1])
    else:
      state = plain(v, x, *state, forget_bias)
      outputs.append(state[1])
  return np.stack(outputs), state


def start(v):
  rng = np.random.default_rng(1)
  main = tuple(rng.normal(0, 0.5, (BATCH, SIZE)) for _ in range(2))
  if not any(name.startswith('hyper_') for name in v):
    return main
  return main, tuple(rng.normal(0, 0.5, (BATCH, HYPER)) for _ in range(2))


@functools.partial(jax.jit, static_argnums=0)
def run(graph, params, carry, xs):
  return unroll(nnx.merge(graph, params), carry, xs)


def agree(cell, v, forget_bias=1.0):
  xs = np.random.default_rng(2).normal(0, 1, (TIME, BATCH, INPUTS))
  expected, expected_state = theirs(v, xs, forget_bias)
  carry = jax.tree.map(np.float32, start(v))
  state, actual = run(*nnx.split(cell), carry, np.float32(xs))
  for a, b in zip(
    jax.tree.leaves((actual, state)),
    jax.tree.leaves((expected, expected_state)),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('layout, kind, layer_norm', CASES)
def test_a_cell_computes_what_theirs_does(layout, kind, layer_norm):
  v = make(layout, kind, layer_norm)
  cell = supercell.cell_of(v)
  assert type(cell) is (LSTM if kind == 'lstm' else HyperLSTM)
  agree(cell, v)


@pytest.mark.parametrize('kind', ['lstm', 'hyper_lstm'])
@pytest.mark.parametrize('layer_norm', [False, True])
def test_another_forget_bias(kind, layer_norm):
  v = make('last', kind, layer_norm)
  agree(supercell.cell_of(v, forget_bias=0.25), v, forget_bias=0.25)


@pytest.mark.parametrize('kind', ['lstm', 'hyper_lstm'])
def test_norms_without_a_bias(kind):
  v = make('last', kind, layer_norm=True)
  v = {name: x for name, x in v.items() if not name.endswith('ln_beta')}
  agree(supercell.cell_of(v), v)


@pytest.mark.parametrize('kind', ['lstm', 'hyper_lstm'])
def test_a_zero_bias_before_a_norm_is_no_parameter(kind):
  v = make('last', kind, layer_norm=True)
  inner = '' if kind == 'lstm' else 'LSTMCell/'
  v[f'{inner}bias'] *= 0
  options = {'hyper_size': HYPER, 'z_size': Z} if kind != 'lstm' else {}
  made = (LSTM if kind == 'lstm' else HyperLSTM)(
    INPUTS, SIZE, layer_norm=True, key=jax.random.key(0), **options
  )
  cell = supercell.cell_of(v)
  assert nnx.graphdef(cell) == nnx.graphdef(made)
  shapes = [
    jax.tree.map(lambda x: (x.shape, x.dtype), nnx.to_pure_dict(nnx.state(c)))
    for c in (cell, made)
  ]
  assert shapes[0] == shapes[1]
  agree(cell, v)


def test_a_cell_of_a_checkpoint():
  v = make('last', 'hyper_lstm', layer_norm=True)
  whole = {f'rnn/HyperLSTMCell/{name}:0': x for name, x in v.items()}
  whole['rnn/HyperLSTMCell/W_xh/Adam:0'] = v['W_xh']
  whole['output_w:0'] = np.ones((SIZE, 3))
  cell = supercell.cell_of(whole, 'rnn/HyperLSTMCell', recurrent_keep_prob=0.9)
  assert cell.main.keep_prob == 0.9
  agree(cell, v)
  with pytest.raises(
    UserError, match=r"'W_xh'; scopes with a W_xh: rnn/HyperLSTMCell, rnn/Hyper"
  ):
    supercell.cell_of(whole)


some_cases = pytest.mark.parametrize(
  'layout, kind, layer_norm',
  [
    ('first', 'hyper_lstm', True),
    ('last', 'hyper_lstm', True),
    ('magenta', 'lstm', False),
    ('last', 'lstm', False),
  ],
)


def of_few_gates(names):
  """Without those of gates j and f, which are as those of i and o."""
  return [n for n in names if not n.startswith(('hyper_j', 'hyper_f'))]


@some_cases
def test_each_missing_variable_is_named(layout, kind, layer_norm):
  v = make(layout, kind, layer_norm)
  for name in of_few_gates(v):
    if name == 'LSTMCell/bias' and layer_norm:
      continue  # the first version has none
    with pytest.raises(UserError, match=f"'{name}'"):
      supercell.cell_of({n: x for n, x in v.items() if n != name})


@some_cases
def test_each_wrong_shape_is_named(layout, kind, layer_norm):
  v = make(layout, kind, layer_norm)
  for name in of_few_gates(v):
    with pytest.raises(UserError, match=f"'{name}' is .* should be"):
      supercell.cell_of(v | {name: v[name][None]})


def test_an_inner_cell_of_another_width_is_named():
  v = make('last', 'hyper_lstm', layer_norm=False)
  v['LSTMCell/W_xh'] = v['LSTMCell/W_xh'][1:]
  with pytest.raises(
    UserError, match=r"'LSTMCell/W_xh' is \[8, 20\]; it should be \[9, 20\]"
  ):
    supercell.cell_of(v)


def test_magentas_norm_of_c_alone_is_refused():
  v = make('magenta', 'hyper_lstm', layer_norm=False)
  v |= {f'ln_c/ln_{name}': np.ones(SIZE) for name in ('gamma', 'beta')}
  with pytest.raises(UserError, match='ln_i/ln_gamma'):
    supercell.cell_of(v)


def test_what_has_no_place_is_named():
  v = make('last', 'lstm', layer_norm=False)
  with pytest.raises(UserError, match=r"'peephole' and 1 more has no place"):
    supercell.cell_of(v | {'peephole': np.ones(2), 'W_hx': np.ones(2)})
