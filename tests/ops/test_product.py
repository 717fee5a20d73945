import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.ops import onehot, product
from hyperjax.ops.product import matmul, round_to

SUM = 17  # terms of each forward sum


def random(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def rounded(x):
  """To bfloat16: 8 bits of mantissa, by hand; ties to even."""
  bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
  bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
  return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def assert_is_product(actual, x, kernel):
  """Of the rounded factors, up to float32's rounding of their sum."""
  x, kernel = rounded(x), rounded(kernel)
  assert actual.dtype == jnp.float32
  # Each of n - 1 additions rounds a partial sum: at most n 2^-24 of the sum of
  # the sizes. The products themselves are exact in float32.
  bound = x.shape[-1] * 2.0**-24 * (np.abs(x) @ np.abs(kernel))
  error = np.abs(np.asarray(actual, np.float64) - x @ kernel)
  assert np.all(error <= bound + 1e-30)


@pytest.mark.parametrize('dtype', ['bfloat16', jnp.bfloat16])
@pytest.mark.parametrize('leading', [(), (3,), (2, 3)])
def test_bfloat16_products_are_those_of_rounded_factors(dtype, leading):
  x, kernel = random(*leading, SUM), random(SUM, 5, seed=1)

  actual = matmul(x, kernel, dtype)

  assert actual.shape == (*leading, 5)
  assert_is_product(actual, x, kernel)
  assert np.abs(actual - x @ kernel).max() > 1e-3  # it does round


def test_sums_are_float32():
  # In bfloat16, 256 + 1 is 256.
  x, kernel = jnp.ones((1, 300)), jnp.ones((300, 1))

  assert matmul(x, kernel, jnp.bfloat16)[0, 0] == 300


@pytest.mark.parametrize('dtype', ['float32', jnp.float32])
def test_float32_products_are_the_plain_ones(dtype):
  x, kernel = random(2, 3, SUM), random(SUM, 5, seed=1)

  def gradients(product):
    return jax.grad(
      lambda x, kernel: jnp.sum(jnp.sin(product(x, kernel))), argnums=(0, 1)
    )(x, kernel)

  np.testing.assert_array_equal(matmul(x, kernel, dtype), x @ kernel)
  np.testing.assert_array_equal(matmul(x, kernel), x @ kernel)
  actual = gradients(lambda x, kernel: matmul(x, kernel, dtype))
  jax.tree.map(
    np.testing.assert_array_equal, actual, gradients(lambda x, y: x @ y)
  )
  assert round_to(x, dtype) is x


@pytest.mark.parametrize('leading', [(), (3,), (2, 3)])
def test_gradients_are_bfloat16_products_too(leading):
  x, kernel = random(*leading, SUM), random(SUM, 5, seed=1)
  cotangent = random(*leading, 5, seed=2)

  _, pull_back = jax.vjp(lambda *args: matmul(*args, jnp.bfloat16), x, kernel)
  to_x, to_kernel = pull_back(cotangent)

  assert to_x.shape == x.shape and to_kernel.shape == kernel.shape
  assert_is_product(to_x, cotangent, kernel.T)
  flat = cotangent.reshape(-1, 5)
  assert_is_product(to_kernel, x.reshape(-1, SUM).T, flat)


def test_products_under_vmap_and_jit():
  x, kernel = random(2, 3, SUM), random(2, SUM, 5, seed=1)

  def of_one(x, kernel):
    return jax.value_and_grad(
      lambda kernel: jnp.sum(matmul(x, kernel, jnp.bfloat16))
    )(kernel)

  actual = jax.jit(jax.vmap(of_one))(x, kernel)

  for row in range(2):
    expected = of_one(x[row], kernel[row])
    jax.tree.map(
      lambda a, b, row=row: np.testing.assert_allclose(a[row], b, rtol=1e-5),
      actual,
      expected,
    )


# The other products that take a dtype.

INDEX = jnp.array([[3, 0, 3], [1, 3, 0]])


def test_one_hot_rows_are_rounded_and_so_is_their_gradient():
  kernel, cotangent = random(5, 4), random(2, 3, 4, seed=1)

  rows, pull_back = jax.vjp(
    lambda kernel: onehot.rows(kernel, INDEX, jnp.bfloat16), kernel
  )
  (gradient,) = pull_back(cotangent)

  assert rows.dtype == jnp.float32
  np.testing.assert_array_equal(rows, rounded(kernel)[INDEX])
  hot = np.eye(5)[np.asarray(INDEX).reshape(-1)]
  assert_is_product(gradient, hot.T, cotangent.reshape(-1, 4))


def test_one_hot_matmul_equals_that_of_written_out_vectors():
  kernel, cotangent = random(5, 4), random(2, 3, 4, seed=1)
  dense = jax.nn.one_hot(INDEX, 5)

  def both(x):
    out, pull_back = jax.vjp(
      lambda kernel: onehot.matmul(x, kernel, jnp.bfloat16), kernel
    )
    return out, *pull_back(cotangent)

  actual, expected = both(onehot.one_hot(INDEX)), both(dense)

  np.testing.assert_array_equal(actual[0], expected[0])
  np.testing.assert_allclose(actual[1], expected[1], rtol=1e-6)


def test_deferred_weight_gradient_is_a_bfloat16_product():
  inputs, cotangents = random(4, 3, SUM), random(4, 3, 5, seed=1)

  for given in (inputs, round_to(inputs, jnp.bfloat16)):
    actual = product.kernel_gradient(given, cotangents, jnp.bfloat16)

    assert_is_product(
      actual, inputs.reshape(-1, SUM).T, cotangents.reshape(-1, 5)
    )


@pytest.mark.parametrize('shape', [(3, 5, 7), (1, 4, 2)])
def test_weights_first_is_the_same_product(shape):
  rows, inner, columns = shape
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(rows, inner)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(inner, columns)), jnp.float32)
  weights = jnp.asarray(rng.normal(size=(rows, columns)), jnp.float32)

  def gradient(function):
    return jax.grad(lambda x: jnp.sum(weights * function(x)))(x)

  def weight_first(x):
    return product.weight_first(x, kernel, kernel.T)

  np.testing.assert_allclose(weight_first(x), x @ kernel, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    gradient(weight_first), gradient(lambda x: x @ kernel), rtol=1e-5, atol=1e-6
  )


def test_weights_come_first_for_few_rows_and_large_matrices():
  large, small = jnp.zeros((1000, 4000)), jnp.zeros((100, 400))

  on_cpu = jax.default_backend() == 'cpu'
  assert product.is_weight_first(large, 32, jnp.float32) == on_cpu
  assert not product.is_weight_first(large, 128, jnp.float32)
  assert not product.is_weight_first(large, 32, jnp.bfloat16)
  assert not product.is_weight_first(small, 32, jnp.float32)
