import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.models import char_lm, handwriting
from hyperjax.nn.cells.hyper_lstm import HyperLSTM
from hyperjax.nn.trace import trace, trace_cell
from hyperjax.nn.unroll import unroll
from tests.nn import reference, small

each = pytest.mark.parametrize(
  'name',
  small.some_of(
    ('lstm', 'ln_hyper_lstm', 'ln_hyper_lstm/full/rnn'),
    *('rnn', 'ln_lstm', 'ln_hyper_rnn', 'hyper_lstm', 'hyper_rnn/full/lstm'),
  ),
)


@functools.cache
def traced(name):
  """Carry, inputs, and what `trace_cell` and `unroll` make of them."""
  cell, carry, xs = small.cell(name), small.carry(name), small.sequence()
  both = jax.jit(lambda *x: (trace_cell(cell, *x), unroll(cell, *x)))
  return carry, xs, *both(carry, xs)


def by_hand(p, carry, xs):
  """Gates, memory and changes of W_h by step, of one batch row."""
  num_main = 2 if 'f' in p.get('b_0', p.get('W_h')) else 1
  main, hyper = carry[:num_main], carry[num_main:]
  gates, memories, changes = [], [], []
  for x in xs:
    old = main
    if 'hyper' in p:
      pre = {}
      before = weights(p, hyper[0])
      main, hyper = reference.hyper_step(p, main, hyper, x)
      after = weights(p, hyper[0])
      changes.append([np.linalg.norm(after[y] - before[y]) for y in after])
      for y in p['b_0']:
        z_x = p['W_hat_x'][y] @ hyper[0] + p['b_hat_x'][y]
        z_b = p['W_hat_b'][y] @ hyper[0]
        pre[y] = after[y] @ old[0] + p['W_bz'][y] @ z_b + p['b_0'][y]
        pre[y] = pre[y] + reference.generated_product(p, 'x', y, z_x, x)
    else:
      pre = {y: p['W_h'][y] @ old[0] + p['W_x'][y] @ x for y in p['W_h']}
      if 'b' in p:
        pre = {y: pre[y] + p['b'][y] for y in pre}
      main = reference.plain_step(p, main, x)
    if 'gain' in p:
      pre = {
        y: reference.layer_norm(pre[y], p['gain'][y], p['bias'][y]) for y in pre
      }
    if num_main == 1:
      gates.append([np.tanh(pre['a'])])
      continue
    pre['f'] = pre['f'] + 1
    squash = {'g': np.tanh}
    gates.append([squash.get(y, reference.sigmoid)(pre[y]) for y in 'igfo'])
    c = main[1]
    if 'gain' in p:
      c = reference.layer_norm(c, p['gain']['c'], p['bias']['c'])
    memories.append(np.tanh(c))
  return gates, memories, changes


def weights(p, hyper_h):
  """W_h of each gate (Eq. 5 or 8)."""
  found = {}
  for y in p['b_0']:
    z = p['W_hat_h'][y] @ hyper_h + p['b_hat_h'][y]
    generator = p['W_hz'][y]
    found[y] = (
      generator @ z
      if generator.ndim == 3
      else np.diag(generator @ z) @ p['W_h'][y]
    )
  return found


@each
def test_what_is_seen_is_that_of_the_equations(name):
  carry, xs, (_, found), _ = traced(name)
  p = small.to_reference(nnx.to_pure_dict(small.split(name)[1]))
  carry = small.to_reference_carry(name, carry)

  for row in range(small.BATCH):
    of_row = by_hand(p, [x[row] for x in carry], np.float64(xs)[:, row])
    parts = found.gates, found.memory, found.changes
    for part, expected in zip(parts, of_row, strict=True):
      if not expected:
        assert part is None
        continue
      np.testing.assert_allclose(part[:, row], expected, rtol=1e-3, atol=1e-5)


@each
def test_it_goes_as_unroll_does(name):
  _, _, (after, found), (expected_after, expected) = traced(name)

  np.testing.assert_allclose(found.outputs, expected, rtol=1e-5, atol=1e-6)
  for a, b in zip(
    jax.tree.leaves(after), jax.tree.leaves(expected_after), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_weights_come_to_rest_where_the_input_does():
  cell = HyperLSTM(
    3, 6, hyper_size=4, z_size=2, hyper_cell='rnn', key=jax.random.key(0)
  )
  # As it is initialised, nothing is generated.
  embedding = cell.weights_h.vectors.embedding
  embedding.kernel[...] = jnp.ones_like(embedding.kernel)
  xs = jnp.ones((200, 2, 3))

  _, found = trace_cell(cell, cell.initial_carry(2), xs)

  assert np.all(found.changes[0] > 1e-3)
  assert np.all(found.changes[-1] < 1e-5)


def test_a_language_model_is_traced_layer_by_layer():
  lm = char_lm.build(
    cell='hyper_lstm',
    hyper_size=3,
    z_size=2,
    vocab_size=7,
    hidden_size=5,
    num_layers=2,
    unroll={'defer': False},
    key=jax.random.key(0),
  )
  symbols = np.array([[0, 6, 2, 2], [1, 3, 5, 4]])

  traced = jax.jit(functools.partial(trace, lm))
  carry, layers = traced(symbols)

  expected, logits = jax.jit(lm)(lm.initial_carry(2), symbols)
  found = lm.head(layers[-1].outputs).swapaxes(0, 1)
  np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-6)
  for a, b in zip(
    jax.tree.leaves(carry), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  assert len(layers) == 2
  for layer in layers:
    assert layer.gates.shape == (4, 2, 4, 5)
    assert layer.memory.shape == (4, 2, 5)
    assert layer.changes.shape == (4, 2, 4)
  # In two parts, it is the same.
  carry, first = traced(symbols[:, :2])
  _, rest = traced(symbols[:, 2:], carry)
  np.testing.assert_allclose(
    np.concatenate([first[1].gates, rest[1].gates]),
    layers[1].gates,
    rtol=1e-5,
    atol=1e-6,
  )


def test_a_pen_that_reads_is_traced_through_its_window():
  pen = handwriting.build(
    cell='hyper_lstm',
    hyper_size=3,
    z_size=2,
    num_symbols=4,
    num_windows=2,
    num_mixtures=2,
    hidden_size=5,
    key=jax.random.key(0),
  )
  rng = np.random.default_rng(1)
  for _, param in nnx.iter_modules(pen):
    if hasattr(param, 'kernel') and isinstance(param.kernel, nnx.Param):
      shape = param.kernel.shape
      param.kernel[...] += 0.1 * np.float32(rng.normal(size=shape))
  moves = small.random_like(np.zeros((2, 3, 3)), 0)
  begun = pen.initial_carry(2, jnp.array([[1, 2], [4, 0]]))

  _, (layer,) = trace(pen, moves, begun)

  before, changes = begun, []
  step = jax.jit(pen)
  for k in range(3):
    after, outputs = step(before, moves[:, k : k + 1])
    changes.append(pen.weight_changes(before, after))
    before = after
  np.testing.assert_allclose(layer.changes, changes, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(
    pen.head(layer.outputs[-1]), outputs[:, 0], rtol=1e-5, atol=1e-6
  )
  h = layer.gates[:, :, 3] * layer.memory
  np.testing.assert_allclose(
    h, layer.outputs[..., : h.shape[-1]], rtol=1e-5, atol=1e-6
  )
  assert np.all(layer.changes > 0)


def test_a_cell_of_another_kind_has_outputs_alone():
  class Sum(nnx.Module):
    def project(self, xs):
      return 2 * xs

    def step(self, carry, x, key):
      return carry + x, carry + x

  xs = jnp.arange(3.0).reshape(3, 1, 1)

  carry, found = trace_cell(Sum(), jnp.zeros((1, 1)), xs)

  assert carry == 6 and found.outputs.ravel().tolist() == [0, 2, 6]
  assert found.gates is found.memory is found.changes is None
