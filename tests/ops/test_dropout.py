import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.ops.dropout import dropout

X = jnp.asarray(
  np.random.default_rng(0).uniform(0.5, 1.5, size=(3, 4)), jnp.float32
)


@pytest.mark.parametrize(
  ('key', 'keep_prob'), [(None, 0.3), (jax.random.key(0), 1.0), (None, 1.0)]
)
def test_identity_without_a_key_or_with_nothing_to_drop(key, keep_prob):
  np.testing.assert_array_equal(dropout(X, key, keep_prob), X)


@pytest.mark.parametrize('keep_prob', [0.9, 0.5, 0.1])
def test_elements_are_dropped_or_scaled(keep_prob):
  x = jnp.tile(X, (100, 10))

  y = np.asarray(dropout(x, jax.random.key(0), keep_prob))

  kept = y != 0
  # 12,000 draws: the standard error of the share is below 0.005.
  assert abs(kept.mean() - keep_prob) < 0.02
  np.testing.assert_allclose(y[kept], (x / keep_prob)[kept], rtol=1e-6)


def test_mean_over_keys_is_the_input():
  keys = jax.random.split(jax.random.key(1), 20_000)

  mean = jax.vmap(lambda key: dropout(X, key, 0.7))(keys).mean(axis=0)

  # The standard error is sqrt(0.3 / 0.7 / 20,000) = 0.005 of each element.
  np.testing.assert_allclose(mean, X, rtol=0.025)


def test_a_key_gives_one_mask():
  one, same, other = (
    dropout(jnp.ones(200), jax.random.key(seed), 0.5) for seed in (2, 2, 3)
  )

  np.testing.assert_array_equal(one, same)
  assert 0.3 < np.mean(one != other) < 0.7


def test_gradient_goes_through_the_same_mask():
  def loss(x):
    return jnp.sum(dropout(x, jax.random.key(4), 0.5))

  gradient = jax.grad(loss)(X)

  np.testing.assert_allclose(
    gradient, dropout(jnp.ones_like(X), jax.random.key(4), 0.5)
  )
  assert 0 < np.mean(gradient == 0) < 1


def test_dtype_is_kept():
  x = X.astype(jnp.bfloat16)
  assert dropout(x, jax.random.key(0), 0.5).dtype == jnp.bfloat16
