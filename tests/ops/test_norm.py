import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from hyperjax.ops.norm import layer_norm
from tests.nn import reference


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_rows_have_mean_zero_and_variance_one():
  x = 5 + 30 * random(4, 7)  # so large that epsilon does not matter

  y = layer_norm(x, jnp.ones(7), jnp.zeros(7))

  np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-5)
  np.testing.assert_allclose(y.var(axis=-1), 1, rtol=1e-4)


@pytest.mark.parametrize('size', [1.0, 0.03])  # 0.03^2 is near epsilon
def test_equals_the_reference(size):
  x, scale, bias = size * random(2, 7), random(7, seed=1), random(7, seed=2)

  y = layer_norm(x, scale, bias)

  expected = [reference.layer_norm(row.astype(float), scale, bias) for row in x]
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_epsilon_is_added_to_the_variance_inside_the_root():
  x = np.array([0.01, -0.01], np.float32)  # variance 1e-4

  one = jnp.ones(2), jnp.zeros(2)

  expected = 0.01 / np.sqrt(1e-4 + 1e-3)
  np.testing.assert_allclose(layer_norm(x, *one)[0], expected, rtol=1e-5)
  expected = 0.01 / np.sqrt(1e-4 + 0.5)
  y = layer_norm(x, *one, epsilon=0.5)
  np.testing.assert_allclose(y[0], expected, rtol=1e-5)


def test_a_constant_row_gives_the_bias_and_a_finite_gradient():
  x, bias = jnp.full((1, 5), 3.0), random(5)

  def output(x):
    return layer_norm(x, jnp.ones(5), bias)

  np.testing.assert_array_equal(output(x)[0], bias)
  assert np.all(np.isfinite(jax.jit(jax.jacrev(output))(x)))


def test_leading_axes_have_gains_of_their_own():
  x = random(2, 4, 5)
  scale, bias = random(4, 5, seed=1), random(4, 5, seed=2)

  y = layer_norm(x, scale, bias)

  for gate in range(4):
    expected = layer_norm(x[:, gate], scale[gate], bias[gate])
    np.testing.assert_allclose(y[:, gate], expected, rtol=1e-6, atol=1e-6)


def test_statistics_are_float32():
  # In bfloat16, 1000 and its neighbours 1004, 1008 have no exact mean.
  x = jnp.array([1000, 1004, 1008, 1000], jnp.bfloat16)

  y = layer_norm(x, jnp.ones(4), jnp.zeros(4))

  assert y.dtype == jnp.float32
  expected = reference.layer_norm(np.array([1000.0, 1004, 1008, 1000]), 1, 0)
  np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_gradients_equal_finite_differences():
  args = random(2, 6), random(6, seed=1), random(6, seed=2)
  check_grads(layer_norm, args, order=1, modes=['rev'], atol=2e-2, rtol=2e-2)
