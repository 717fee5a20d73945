"""Whole cells whose products are in bfloat16."""

import functools
import itertools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.nn.unroll import unroll
from hyperjax.ops.onehot import one_hot
from tests.nn import small

SIZES = {'hidden_size': 16, 'hyper_size': 8}


@functools.lru_cache
def at(name, dtype):
  """Graph, parameters near their initial values, carry and inputs."""
  sizes = SIZES if 'hyper' in name else {'hidden_size': 16}
  graph, params = nnx.split(small.build(name, dtype=dtype, **sizes))
  params = small.moved(params, 100, 0.05)
  carry = nnx.merge(graph, params).initial_carry(4)
  return graph, (params, small.random_like(carry, 2, 0.5)), small.sequence(5, 4)


@functools.lru_cache
def outputs_and_gradients(name, dtype, defer=True):
  graph, args, xs = at(name, dtype)
  weights = small.random_like(np.zeros((5, 4, SIZES['hidden_size'])), 3)

  def loss(params, carry, xs):
    carry, hs = unroll(nnx.merge(graph, params), carry, xs, defer=defer)
    return jnp.sum(hs * weights), (carry, hs)

  gradient = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
  return jax.jit(gradient)(*args, xs)


def assert_close(actual, expected, rtol):
  """Leaf by leaf, to within `rtol` of the leaf's size."""
  actual, expected = (jax.tree.leaves_with_path(x) for x in (actual, expected))
  for (path, a), (_, b) in zip(actual, expected, strict=True):
    assert np.linalg.norm(a - b) <= rtol * np.linalg.norm(b), path


every_kind = pytest.mark.parametrize(
  'name', ['hyper_rnn', 'ln_lstm', small.slow('ln_hyper_lstm')]
)


@every_kind
def test_bfloat16_comes_near_float32(name):
  actual = outputs_and_gradients(name, 'bfloat16')
  expected = outputs_and_gradients(name, 'float32')

  # Each factor is off by up to 2^-9 = 0.002, over five steps.
  assert_close(actual, expected, rtol=2e-2)
  assert all(
    np.any(a != b)
    for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True)
  )


@every_kind
def test_all_but_the_products_is_float32_and_so_are_parameters(name):
  _, (params, carry), _ = at(name, 'bfloat16')
  gradients, out = outputs_and_gradients(name, 'bfloat16')

  for leaf in jax.tree.leaves((params, carry, gradients, out)):
    assert leaf.dtype == jnp.float32


@pytest.mark.parametrize('name', ['ln_lstm', small.slow('ln_hyper_lstm')])
def test_deferral_and_plain_scan_agree_in_bfloat16(name):
  # Both sum the same rounded products, unless a float32 falls to the other
  # side of a tie: one factor in some is then off by 2^-8.
  assert_close(
    outputs_and_gradients(name, 'bfloat16'),
    outputs_and_gradients(name, 'bfloat16', defer=False),
    rtol=1e-3,
  )


def equations(jaxpr):
  for eqn in jaxpr.eqns:
    yield eqn
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      yield from equations(inner)


def dtypes(variables):
  return {v.aval.dtype for v in variables if hasattr(v.aval, 'dtype')}


@pytest.mark.parametrize(
  ('name', 'symbols'),
  small.some_of(
    [*itertools.product(['rnn', 'lstm', *small.HYPER_NAMES], [True, False])],
    ('lstm', True),
    ('rnn', False),
    ('hyper_rnn', True),
    ('ln_hyper_lstm', False),
  ),
)
def test_all_products_and_nothing_else_are_bfloat16(name, symbols):
  graph, args, xs = at(name, 'bfloat16')
  if symbols:
    xs = one_hot(jnp.zeros(xs.shape[:2], jnp.int32))

  def loss(params, carry):
    _, hs = unroll(nnx.merge(graph, params), carry, xs, defer=symbols)
    return jnp.sum(hs)

  program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*args)

  moved = {'convert_element_type', 'transpose', 'reshape', 'scan'}
  products = 0
  for eqn in equations(program.jaxpr):
    if eqn.primitive.name == 'dot_general':
      assert dtypes(eqn.invars) == {jnp.dtype('bfloat16')}
      assert dtypes(eqn.outvars) == {jnp.dtype('float32')}
      products += 1
    elif eqn.primitive.name not in moved and not list(
      jax.extend.core.jaxprs_in_params(eqn.params)
    ):
      assert jnp.dtype('bfloat16') not in dtypes(eqn.invars + eqn.outvars)
  assert products >= 4
