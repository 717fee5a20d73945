import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hyperjax.ops.deferred import watch
from hyperjax.ops.product import kernel_gradient


def random(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def test_watch_is_the_identity_and_never_reads_its_tap():
  y = random(3, 2)

  np.testing.assert_array_equal(watch(y, jnp.zeros((3, 2))), y)
  np.testing.assert_array_equal(watch(y, jnp.full((3, 2), jnp.nan)), y)


def test_watch_hands_the_gradient_to_both():
  y, weights = random(3, 2), random(3, 2, seed=1)

  def loss(y, tap):
    return jnp.sum(jnp.sin(watch(y, tap)) * weights)

  to_y, to_tap = jax.grad(loss, argnums=(0, 1))(y, jnp.zeros((3, 2)))

  np.testing.assert_allclose(to_y, jnp.cos(y) * weights, rtol=1e-5)
  np.testing.assert_array_equal(to_tap, to_y)


def test_weight_gradient_sums_over_all_leading_axes():
  inputs, cotangents = random(5, 3, 4), random(5, 3, 2, seed=1)

  actual = kernel_gradient(inputs, cotangents)

  expected = np.einsum('tbn,tbm->nm', inputs, cotangents)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_weight_gradient_is_that_of_the_product():
  inputs, cotangents = random(6, 4), random(6, 2, seed=1)

  def loss(kernel):
    return jnp.sum((inputs @ kernel) * cotangents)

  expected = jax.grad(loss)(random(4, 2, seed=2))
  actual = kernel_gradient(inputs, cotangents)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_taps_of_a_scan_collect_the_gradients_of_every_step():
  kernel, start = 0.5 * random(4, 4), random(2, 4, seed=1)
  weights = random(5, 2, 4, seed=2)

  def loss(kernel, taps, defer):
    def step(h, tap):
      y = watch(h @ lax.stop_gradient(kernel), tap) if defer else h @ kernel
      return jnp.tanh(y), (h, jnp.tanh(y))

    _, (seen, hs) = lax.scan(step, start, taps)
    return jnp.sum(hs * weights), seen

  taps = jnp.zeros((5, 2, 4))
  to_taps, seen = jax.grad(loss, argnums=1, has_aux=True)(kernel, taps, True)

  actual = kernel_gradient(seen, to_taps)
  expected, _ = jax.grad(loss, has_aux=True)(kernel, taps, False)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
