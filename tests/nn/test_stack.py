import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.nn.stack import Stack
from hyperjax.nn.unroll import unroll
from tests.nn import small

KEY = jax.random.key(4)


def two_layers(name='lstm', keep_prob=1.0, cell_keep_prob=1.0):
  cells = [
    small.cell(name, seed=0, keep_prob=cell_keep_prob),
    small.cell(name, seed=1, keep_prob=cell_keep_prob, input_size=small.HIDDEN),
  ]
  carry = (small.carry(name, seed=2), small.carry(name, seed=3))
  return Stack(cells, keep_prob), carry


@functools.partial(jax.jit, static_argnums=0)
def run_parts(graph, params, carry, xs, key=None, mask=None):
  return nnx.merge(graph, params)(carry, xs, key, mask=mask)


def run(stack, *args, **options):
  return run_parts(*nnx.split(stack), *args, **options)


def assert_same(actual, expected):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
    actual,
    expected,
  )


@pytest.mark.parametrize('name', ['lstm', 'hyper_rnn'])
def test_two_layers_equal_two_unrolls(name):
  stack, carry = two_layers(name)
  xs = small.sequence()

  actual = run(stack, carry, xs)

  @jax.jit
  def two_unrolls(carry, xs):
    first, hs = unroll(stack.cells[0], carry[0], xs)
    second, hs = unroll(stack.cells[1], carry[1], hs)
    return (first, second), hs

  assert_same(actual, two_unrolls(carry, xs))


def test_initial_carry_has_one_part_a_layer():
  stack, carry = two_layers('hyper_rnn')

  initial = stack.initial_carry(small.BATCH)

  assert jax.tree.map(jnp.shape, initial) == jax.tree.map(jnp.shape, carry)
  assert not any(np.any(x) for x in jax.tree.leaves(initial))


def test_dropout_between_layers_needs_a_key_and_spares_the_input():
  stack, carry = two_layers(keep_prob=0.6)
  always, _ = two_layers(keep_prob=1.0)
  xs = small.sequence()

  without, hs_without = run(stack, carry, xs)
  dropped, hs_dropped = run(stack, carry, xs, KEY)

  assert_same((without, hs_without), run(always, carry, xs))
  assert_same(run(always, carry, xs, KEY), run(always, carry, xs))
  assert_same(dropped[0], without[0])  # the bottom layer saw all of it
  assert np.abs(hs_dropped - hs_without).max() > 1e-2


def test_a_single_layer_has_no_dropout_around_it():
  stack = Stack([small.cell('lstm')], keep_prob=0.5)
  carry, xs = (small.carry('lstm'),), small.sequence()

  assert_same(run(stack, carry, xs, KEY), run(stack, carry, xs))


def memoryless(input_kernel, candidate_bias=0.0, keep_prob=1.0):
  """An LSTM whose output is that of its candidate alone."""
  rows, size = input_kernel.shape
  cell = small.build('lstm', input_size=rows, keep_prob=keep_prob)
  zeros = np.zeros((rows, size))
  kernel = np.concatenate([zeros, input_kernel, zeros, zeros], axis=1)
  cell.input.kernel[...] = jnp.asarray(kernel, jnp.float32)
  cell.recurrent.kernel[...] = jnp.zeros((size, 4 * size))
  bias = np.repeat([[0.0], [candidate_bias], [-1e3], [0.0]], size, axis=1)
  cell.bias.bias[...] = jnp.asarray(bias, jnp.float32)
  return cell


def test_dropout_between_layers_keeps_its_share_and_scales_it():
  bottom, top = small.build('lstm'), memoryless(np.eye(small.HIDDEN))
  xs = small.sequence(time=20, batch=20)
  stack = Stack([bottom, top], keep_prob=0.8)
  carry = stack.initial_carry(20)

  _, hs = run(stack, carry, xs, KEY)

  _, below = run(Stack([bottom]), carry[:1], xs)
  expected = 0.5 * np.tanh(0.5 * np.tanh(below / 0.8))
  kept = np.asarray(hs != 0)
  assert abs(kept.mean() - 0.8) < 0.04  # 2,400 draws: standard error 0.008
  np.testing.assert_allclose(hs[kept], expected[kept], rtol=1e-4)


def test_every_layer_has_recurrent_dropout():
  stack, carry = two_layers(cell_keep_prob=0.7)
  # The top layer does not see what happens below.
  stack.cells[1].input.kernel[...] *= 0
  xs = small.sequence()

  without, _ = run(stack, carry, xs)
  dropped, _ = run(stack, carry, xs, KEY)

  for layer in range(2):
    assert np.abs(dropped[layer][0] - without[layer][0]).max() > 1e-2


def test_masks_differ_between_layers():
  # Neither layer heeds its input: h is zero exactly where the candidate fell.
  size = small.HIDDEN
  layers = [
    memoryless(np.zeros((rows, size)), candidate_bias=1.0, keep_prob=0.5)
    for rows in (small.INPUT, size)
  ]
  stack = Stack(layers)

  (bottom, top), _ = run(
    stack, stack.initial_carry(40), small.sequence(2, 40), KEY
  )

  differ = np.mean((bottom[1] != 0) != (top[1] != 0))
  assert abs(differ - 0.5) < 0.15  # 240 draws: standard error 0.03


def test_options_reach_unroll():
  stack, carry = two_layers()
  mask = jnp.zeros((small.TIME, small.BATCH), bool)

  unmoved, hs = run(stack, carry, small.sequence(), mask=mask)

  assert_same(unmoved, carry)
  assert not np.any(hs)


def test_gradients_of_two_layers_equal_those_of_the_plain_scan():
  stack, carry = two_layers('lstm', 0.8, 0.7)
  graph, params = nnx.split(stack)
  xs = small.sequence()

  @jax.jit
  def both(params):
    def loss(params, defer):
      _, hs = nnx.merge(graph, params)(carry, xs, KEY, defer=defer)
      return jnp.sum(jnp.sin(3 * hs))

    return [jax.grad(loss)(params, defer) for defer in (True, False)]

  deferred, plain = (jax.tree.leaves(x) for x in both(params))
  for a, b in zip(deferred, plain, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
