import jax
import jax.numpy as jnp
import numpy as np

from hyperjax.ops.onehot import OneHot, matmul, one_hot, one_hot_dropout, rows

INDEX = jnp.array([[3, 0, 3], [1, 3, 0]])  # 3 and 0 repeat, 2 and 4 never come
DENSE = jax.nn.one_hot(INDEX, 5)


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_one_hot_has_the_value_one():
  x = one_hot(INDEX)

  np.testing.assert_array_equal(x.index, INDEX)
  np.testing.assert_array_equal(x.value, np.ones((2, 3)))
  assert x.value.dtype == jnp.float32


def test_rows_are_the_product_with_the_written_out_vectors():
  kernel = random(5, 4)

  np.testing.assert_array_equal(rows(kernel, INDEX), DENSE @ kernel)


def test_gradient_of_rows_is_that_of_the_dense_product():
  kernel, weights = jnp.asarray(random(5, 4)), random(2, 3, 4, seed=1)

  def gradient(product):
    return jax.jit(jax.grad(lambda k: jnp.sum(product(k) * weights)))(kernel)

  actual = gradient(lambda k: rows(k, INDEX))

  expected = gradient(lambda k: DENSE @ k)
  np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
  assert not np.any(actual[jnp.array([2, 4])])
  assert np.all(np.any(actual[jnp.array([0, 1, 3])], axis=1))


def test_gradient_of_rows_under_vmap():
  kernels, weights = random(3, 5, 4), random(3, 2, 3, 4, seed=1)
  index = jnp.stack([INDEX, INDEX[::-1], (INDEX + 1) % 5])

  def gradient(kernel, index, weights):
    return jax.grad(lambda k: jnp.sum(rows(k, index) * weights))(kernel)

  actual = jax.jit(jax.vmap(gradient))(jnp.asarray(kernels), index, weights)

  dense = jax.nn.one_hot(index, 5)
  expected = np.einsum('stbv,stbf->svf', dense, weights)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_matmul_takes_both_kinds_of_input():
  kernel = random(5, 4)

  actual = matmul(one_hot(INDEX), kernel)

  np.testing.assert_array_equal(actual, matmul(DENSE, kernel))
  assert actual.shape == (2, 3, 4)


def test_matmul_counts_the_value_forward_and_backward():
  kernel, weights = jnp.asarray(random(5, 4)), random(2, 3, 4, seed=1)
  value = jnp.asarray(random(2, 3, seed=2))

  def gradients(product):
    def loss(kernel, value):
      return jnp.sum(product(kernel, value) * weights)

    return jax.value_and_grad(loss, argnums=(0, 1))(kernel, value)

  actual = gradients(lambda k, v: matmul(OneHot(INDEX, v), k))

  expected = gradients(lambda k, v: (v[..., None] * DENSE) @ k)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_dropout_leaves_all_of_a_vector_or_nothing():
  x = one_hot(jnp.zeros(2000, jnp.int32))

  y = one_hot_dropout(x, jax.random.key(0), 0.8)

  np.testing.assert_array_equal(y.index, x.index)
  assert set(np.unique(y.value)) == {0, np.float32(1 / 0.8)}
  assert abs(np.mean(y.value != 0) - 0.8) < 0.04  # standard error 0.009


def test_dropout_needs_a_key():
  x = one_hot(INDEX)

  np.testing.assert_array_equal(one_hot_dropout(x, None, 0.5).value, x.value)
