"""Small cells whose every parameter is drawn anew, and their parameters as
`reference` wants them.
"""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn import reference

PLAIN = ('rnn', 'ln_rnn', 'lstm', 'ln_lstm')
HYPER_NAMES = ('hyper_rnn', 'ln_hyper_rnn', 'hyper_lstm', 'ln_hyper_lstm')
NAMES = PLAIN + HYPER_NAMES
# 'hyper_lstm/full/rnn' is a HyperLSTM with whole generated matrices, made by
# an RNN; 'hyper_lstm' is what the package takes when it is told nothing.
PAIRINGS = tuple(
  f'{name}/{generation}/{hyper_cell}'
  for name in HYPER_NAMES
  for generation in ('row_scaling', 'full')
  for hyper_cell in ('rnn', 'lstm')
  if generation == 'full' or not name.endswith(hyper_cell)
)
# One of each kind, where all pairings would take long.
FULL = ('hyper_rnn/full/lstm', 'ln_hyper_lstm/full/rnn')


def slow(*values):
  """Values of a parametrization, for the slow tests."""
  return pytest.param(*values, marks=pytest.mark.slow)


def some_of(names, *some):
  """Some names, and the rest of all for the slow tests."""
  rest = [name for name in names if name not in some]
  return [
    *some,
    *(slow(*x) if isinstance(x, tuple) else slow(x) for x in rest),
  ]


jit = jax.jit
TIME, BATCH, INPUT, HIDDEN, HYPER, Z = 5, 2, 3, 6, 4, 2


def build(name, *, keep_prob=1.0, hyper_keep_prob=1.0, seed=0, **options):
  """A cell as the package initialises it; for the name see `PAIRINGS`."""
  name, *pairing = name.split('/')
  options = {'input_size': INPUT, 'hidden_size': HIDDEN, **options}
  if 'hyper' in name:
    options = {'hyper_size': HYPER, 'z_size': Z, **options}
  if pairing:
    options['generation'], options['hyper_cell'] = pairing
  for option, value in (
    ('recurrent_keep_prob', keep_prob),
    ('hyper_recurrent_keep_prob', hyper_keep_prob),
  ):
    if value != 1.0:
      options[option] = value
  module = importlib.import_module(f'hyperjax.nn.cells.{name}')
  return module.build(**options, key=jax.random.key(seed))


def main_is_lstm(name):
  return name.split('/')[0].endswith('lstm')


def hyper_is_lstm(name):
  return 'hyper' in name and name.endswith('lstm')


def noise(name):
  """All that a key makes random in a cell, as options of `build`."""
  options = {'zoneout_h': 0.2}
  if main_is_lstm(name):
    options |= {'keep_prob': 0.7, 'zoneout_c': 0.3}
  if hyper_is_lstm(name):
    options['hyper_keep_prob'] = 0.6
  return options


def skip_without_gpu(platform):
  """Skips where JAX lowers Triton kernels for a GPU that is there alone."""
  if (
    platform == 'cuda'
    and jax.__version_info__ >= (0, 12)
    and jax.default_backend() != 'gpu'
  ):
    pytest.skip('this jax lowers Triton kernels on a GPU alone')


def random_like(tree, seed, scale=1.0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(scale * rng.normal(size=x.shape), jnp.float32), tree
  )


def moved(params, seed=1, scale=0.3):
  """Parameters off their special initial values."""
  noise = random_like(params, seed, scale)
  return jax.tree.map(
    lambda x, y: jnp.asarray(np.asarray(x) + np.asarray(y)), params, noise
  )


@functools.lru_cache
def initial(name, **options):
  """The graph and the parameters as the package initialises them."""
  return nnx.split(build(name, **options))


@functools.lru_cache
def split(name, *, seed=0, **options):
  """The graph and the parameters, moved off their special initial values."""
  graph, params = initial(name, seed=seed, **options)
  return graph, moved(params, seed + 100)


def cell(name, **options):
  graph, params = split(name, **options)
  return nnx.merge(
    graph, jax.tree.map(lambda x: jnp.array(np.asarray(x)), params)
  )


def memoryless_lstm(**options):
  """An LSTM whose new c is that of its candidate alone, always the same."""
  cell = build('lstm', **options)
  cell.recurrent.kernel[...] = jnp.zeros_like(cell.recurrent.kernel)
  cell.input.kernel[...] = jnp.ones_like(cell.input.kernel)
  cell.bias.bias[...] = np.array([[0], [0], [-1e3], [0]]) * np.ones((4, HIDDEN))
  return cell


def sequence(time=TIME, batch=BATCH, seed=1):
  return random_like(np.zeros((time, batch, INPUT)), seed)


def carry(name, batch=BATCH, seed=2):
  """A carry that is not zero."""
  return random_like(cell(name).initial_carry(batch), seed, 0.5)


# From the package's layout to the paper's: kernels are [in, gates out] there,
# gate by gate, and `W[out, in]`, one a gate, in the reference.


def to_reference(params):
  """Float64 parameters of a cell (a pure dictionary) for `reference`."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  return _hyper(params) if 'hyper' in params else _plain(params)


def to_reference_carry(name, carry):
  """A carry as `reference` has it: h, any c, any hyper h, any hyper c."""
  if 'hyper' not in name:
    return _state(carry, main_is_lstm(name))
  main, hyper = carry
  return (
    *_state(main, main_is_lstm(name)),
    *_state(hyper, hyper_is_lstm(name)),
  )


def _state(carry, is_lstm):
  c_and_h = carry if is_lstm else (carry,)
  return tuple(np.asarray(x, np.float64) for x in reversed(c_and_h))


def _by_gate(values):
  values = list(values)
  gates = reference.GATES if len(values) == 4 else reference.ONE_GATE
  return dict(zip(gates, values, strict=True))


def _matrices(kernel, num_gates):
  blocks = np.split(kernel, num_gates, axis=1)
  return _by_gate(block.T for block in blocks)


def _norms(p):
  gates, cell = p['norm_gates'], p.get('norm_cell')
  result = {
    'gain': _by_gate(gates['scale']),
    'bias': _by_gate(gates['bias']),
  }
  if cell:
    result['gain']['c'], result['bias']['c'] = cell['scale'], cell['bias']
  return result


def _plain(p):
  rows, columns = p['recurrent']['kernel'].shape
  kernels = {
    'W_h': _matrices(p['recurrent']['kernel'], columns // rows),
    'W_x': _matrices(p['input']['kernel'], columns // rows),
  }
  if 'norm_gates' in p:
    return {**kernels, **_norms(p)}
  return {**kernels, 'b': _by_gate(p['bias']['bias'])}


def _hyper(p):
  h_and_x = [p['feedback']['kernel'], p['hyper']['input']['kernel']]
  hyper = {**p['hyper'], 'input': {'kernel': np.concatenate(h_and_x)}}
  shift, main = p['shift'], p['main']
  num_gates = len(shift['kernel'])
  result = {
    'b_0': _by_gate(shift['bias']),
    'hyper': _plain(hyper),
    'W_hat_b': _matrices(shift['embedding']['kernel'], num_gates),
    'W_bz': _by_gate(shift['kernel'].transpose(0, 2, 1)),
  }
  for v, kernel in (('h', main['recurrent']), ('x', main['input'])):
    weights, kernel = p[f'weights_{v}'], kernel['kernel']
    if 'vectors' in weights:
      weights = weights['vectors']
      result[f'W_{v}'] = _matrices(kernel, num_gates)
      result[f'W_{v}z'] = _by_gate(weights['kernel'].transpose(0, 2, 1))
    else:  # [in, N_z gates out] -> [out, in, N_z], one a gate
      size = shift['bias'].shape[1]
      kernel = kernel.reshape(len(kernel), -1, num_gates, size)
      result[f'W_{v}z'] = _by_gate(kernel.transpose(2, 3, 0, 1))
    embedding = weights['embedding']
    result[f'W_hat_{v}'] = _matrices(embedding['kernel'], num_gates)
    result[f'b_hat_{v}'] = _by_gate(np.split(embedding['bias'], num_gates))
  if 'norm_gates' in main:
    result |= _norms(main)
  return result
