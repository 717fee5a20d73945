"""Small cells whose every parameter is drawn anew, and their parameters as
`reference` wants them.
"""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

NAMES = ('lstm', 'ln_lstm', 'hyper_lstm', 'ln_hyper_lstm')


def known(option, value):
  """Whether this version of XLA has an option."""
  try:
    jax.jit(lambda: 0, compiler_options={option: value})()
  except jax.errors.JaxRuntimeError:
    return False
  return True


# Compiling is what takes time here; the programs run once or twice.
QUICK = {
  'xla_backend_optimization_level': 0,
  'xla_llvm_disable_expensive_passes': True,
  'xla_cpu_use_fusion_emitters': False,
}
jit = functools.partial(
  jax.jit,
  compiler_options={k: v for k, v in QUICK.items() if known(k, v)},
)

TIME, BATCH, INPUT, HIDDEN, HYPER, Z = 5, 2, 3, 6, 4, 2


def build(name, *, keep_prob=1.0, seed=0, **sizes):
  """A cell as the package initialises it."""
  sizes = {'input_size': INPUT, 'hidden_size': HIDDEN, **sizes}
  if 'hyper' in name:
    sizes = {'hyper_size': HYPER, 'z_size': Z, **sizes}
  module = importlib.import_module(f'hyperjax.nn.cells.{name}')
  return module.build(
    **sizes, recurrent_keep_prob=keep_prob, key=jax.random.key(seed)
  )


def random_like(tree, seed, scale=1.0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(scale * rng.normal(size=x.shape), jnp.float32), tree
  )


@functools.lru_cache
def split(name, *, seed=0, **options):
  """The graph and the parameters, moved off their special initial values."""
  graph, params = nnx.split(build(name, seed=seed, **options))
  noise = random_like(params, seed + 100, 0.3)
  return graph, jax.tree.map(
    lambda x, y: jnp.asarray(np.asarray(x) + np.asarray(y)), params, noise
  )


def cell(name, **options):
  graph, params = split(name, **options)
  return nnx.merge(
    graph, jax.tree.map(lambda x: jnp.array(np.asarray(x)), params)
  )


def sequence(time=TIME, batch=BATCH, seed=1):
  return random_like(np.zeros((time, batch, INPUT)), seed)


def carry(name, batch=BATCH, seed=2):
  """A carry that is not zero."""
  return random_like(cell(name).initial_carry(batch), seed, 0.5)


# From the package's layout to the paper's: kernels are [in, 4 out] there, gate
# by gate, and `W[out, in]`, one a gate, in the reference.


def to_reference(params):
  """Float64 parameters of a cell (a pure dictionary) for `reference`."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  return _hyper_lstm(params) if 'hyper' in params else _lstm(params)


def to_reference_carry(carry):
  """(c, h) -> (h, c); ((c, h), (c', h')) -> (h, c, h', c')."""
  parts = [np.asarray(x, np.float64) for x in jax.tree.leaves(carry)]
  pairs = zip(parts[::2], parts[1::2], strict=True)
  return tuple(x for c, h in pairs for x in (h, c))


def _matrices(kernel):
  return _by_gate(block.T for block in np.split(kernel, 4, axis=1))


def _by_gate(values):
  return dict(zip('igfo', values, strict=True))


def _norms(gates, cell):
  return {
    'gain': {**_by_gate(gates['scale']), 'c': cell['scale']},
    'bias': {**_by_gate(gates['bias']), 'c': cell['bias']},
  }


def _lstm(p):
  kernels = {
    'W_h': _matrices(p['recurrent']['kernel']),
    'W_x': _matrices(p['input']['kernel']),
  }
  if 'norm_cell' in p:
    return {**kernels, **_norms(p['norm_gates'], p['norm_cell'])}
  return {**kernels, 'b': _by_gate(p['bias']['bias'])}


def _hyper_lstm(p):
  h_and_x = [p['feedback']['kernel'], p['hyper']['input']['kernel']]
  hyper = {**p['hyper'], 'input': {'kernel': np.concatenate(h_and_x)}}
  scale_h, scale_x = p['weights_h']['vectors'], p['weights_x']['vectors']
  shift, main = p['shift'], p['main']
  bias_h = scale_h['embedding']['bias']
  bias_x = scale_x['embedding']['bias']
  result = {
    'W_h': _matrices(main['recurrent']['kernel']),
    'W_x': _matrices(main['input']['kernel']),
    'b_0': _by_gate(shift['bias']),
    'hyper': _lstm(hyper),
    'W_hat_h': _matrices(scale_h['embedding']['kernel']),
    'W_hat_x': _matrices(scale_x['embedding']['kernel']),
    'W_hat_b': _matrices(shift['embedding']['kernel']),
    'b_hat_h': _by_gate(np.split(bias_h, 4)),
    'b_hat_x': _by_gate(np.split(bias_x, 4)),
    'W_hz': _by_gate(scale_h['kernel'].transpose(0, 2, 1)),
    'W_xz': _by_gate(scale_x['kernel'].transpose(0, 2, 1)),
    'W_bz': _by_gate(shift['kernel'].transpose(0, 2, 1)),
  }
  if 'norm_cell' in main:
    result |= _norms(main['norm_gates'], main['norm_cell'])
  return result
