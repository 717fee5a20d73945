import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.ops.zoneout import zoneout

OLD, NEW = jnp.asarray(
  np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32
)


@pytest.mark.parametrize('key', [None, jax.random.key(0)])
def test_nothing_stays_at_rate_zero(key):
  np.testing.assert_array_equal(zoneout(OLD, NEW, key, 0.0), NEW)


@pytest.mark.parametrize('rate', [0.05, 0.5, 0.9])
def test_units_stay_at_their_rate_and_are_not_scaled(rate):
  old, new = (jnp.tile(x, (100, 10)) for x in (OLD, NEW))

  y = zoneout(old, new, jax.random.key(0), rate)

  stayed = np.asarray(y == old)
  # 12,000 draws: the standard error of the share is below 0.005.
  assert abs(stayed.mean() - rate) < 0.02
  np.testing.assert_array_equal(y[~stayed], new[~stayed])


def test_without_a_key_it_is_the_mean_over_keys():
  keys = jax.random.split(jax.random.key(1), 20_000)

  mean = jax.vmap(lambda key: zoneout(OLD, NEW, key, 0.3))(keys).mean(axis=0)

  actual = zoneout(OLD, NEW, None, 0.3)
  np.testing.assert_allclose(actual, 0.3 * OLD + 0.7 * NEW, rtol=1e-6)
  # Of each element: |old - new| sqrt(0.3 * 0.7 / 20,000) = 0.0033 |old - new|.
  assert np.all(np.abs(mean - actual) < 0.0165 * np.abs(OLD - NEW))


def test_a_key_gives_one_mask():
  one, same, other = (
    zoneout(jnp.zeros(200), jnp.ones(200), jax.random.key(seed), 0.5)
    for seed in (2, 2, 3)
  )

  np.testing.assert_array_equal(one, same)
  assert 0.3 < np.mean(one != other) < 0.7


def test_gradient_goes_to_the_value_that_was_taken():
  key = jax.random.key(4)

  to_old, to_new = jax.grad(
    lambda *args: jnp.sum(zoneout(*args, key, 0.5)), argnums=(0, 1)
  )(OLD, NEW)

  stayed = zoneout(jnp.ones(OLD.shape), jnp.zeros(OLD.shape), key, 0.5)
  np.testing.assert_array_equal(to_old, stayed)
  np.testing.assert_array_equal(to_new, 1 - stayed)
  assert 0 < np.mean(stayed) < 1
