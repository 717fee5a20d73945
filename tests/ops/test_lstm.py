import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.ops.lstm import lstm_update
from hyperjax.ops.norm import layer_norm
from tests.nn import reference


def random(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


GATES = [random(3, 5, seed=k) for k in range(4)]  # 3 rows of 5 units
C = random(3, 5, seed=4)


def expected_update(parameters, **options):
  rows = []
  for *gates, c in zip(*GATES, C, strict=True):
    pre = dict(zip('igfo', np.asarray(gates, np.float64), strict=True))
    c = np.asarray(c, np.float64)
    rows.append(reference.gates_to_state(parameters, pre, c, **options))
  h, c = (np.stack(x) for x in zip(*rows, strict=True))
  return c, h


def test_equals_the_reference():
  c, h = lstm_update(GATES, C)

  expected_c, expected_h = expected_update({})
  np.testing.assert_allclose(c, expected_c, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(h, expected_h, rtol=1e-5, atol=1e-6)


def test_cell_norm_is_inside_the_tanh_and_not_carried():
  scale, bias = random(5, seed=2), random(5, seed=3)

  c, h = lstm_update(GATES, C, norm_cell=lambda c: layer_norm(c, scale, bias))

  plain_c, _ = lstm_update(GATES, C)
  np.testing.assert_array_equal(c, plain_c)
  normed = [reference.layer_norm(np.asarray(x), scale, bias) for x in c]
  o = reference.sigmoid(np.asarray(GATES[3]))
  np.testing.assert_allclose(h, o * np.tanh(normed), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('forget_bias', [0.0, 1.0, 2.5])
def test_forget_bias_is_added_inside_the_sigmoid(forget_bias):
  gates = [jnp.full((1, 2), x) for x in (-1e3, 0.0, 0.0, 0.0)]  # nothing new
  c = jnp.array([[2.0, -3.0]])

  actual, _ = lstm_update(gates, c, forget_bias=forget_bias)

  expected = np.asarray(c) / (1 + np.exp(-forget_bias))
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_forget_bias_is_one_unless_told():
  c, _ = lstm_update(GATES, C)
  same, _ = lstm_update(GATES, C, forget_bias=1.0)
  np.testing.assert_array_equal(c, same)


# Recurrent dropout.


def all_dropped(gates, c):
  return lstm_update(gates, c, keep_prob=1e-6, key=jax.random.key(0))


def test_dropout_never_erases_memory():
  c, h = all_dropped(GATES, C)

  kept = jax.nn.sigmoid(GATES[2] + 1.0) * C
  np.testing.assert_array_equal(c, kept)
  expected = jax.nn.sigmoid(GATES[3]) * jnp.tanh(kept)
  np.testing.assert_array_equal(h, expected)


def test_dropped_candidates_get_no_gradient_and_the_other_gates_do():
  gradient_at = jax.jit(
    jax.grad(lambda gates: jnp.sum(all_dropped(gates, C)[1]))
  )
  i, g, f, o = gradient_at(GATES)

  assert not np.any(i) and not np.any(g)
  assert np.all(f != 0) and np.all(o != 0)


def test_dropout_scales_the_candidates_that_it_keeps():
  c, _ = lstm_update(GATES, C, keep_prob=0.5, key=jax.random.key(1))

  dropped, _ = expected_update({}, keep=0.0)
  kept, _ = expected_update({}, keep=2.0)
  was_dropped = np.abs(c - dropped) < 1e-6
  was_kept = np.abs(c - kept) < 1e-6
  assert np.all(was_dropped ^ was_kept)
  assert was_dropped.any() and was_kept.any()


def test_mean_over_keys_is_the_update_without_dropout():
  keys = jax.random.split(jax.random.key(2), 20_000)

  c = jax.vmap(lambda key: lstm_update(GATES, C, keep_prob=0.7, key=key)[0])(
    keys
  )

  expected, _ = lstm_update(GATES, C)
  # |sigmoid(i) tanh(g)| < 1: the standard error is below 0.005.
  np.testing.assert_allclose(c.mean(axis=0), expected, rtol=0, atol=0.025)


@pytest.mark.parametrize(
  'options', [{'keep_prob': 0.5}, {'key': jax.random.key(0)}]
)
def test_no_dropout_without_a_key_or_with_nothing_to_drop(options):
  for a, b in zip(
    lstm_update(GATES, C, **options), lstm_update(GATES, C), strict=True
  ):
    np.testing.assert_array_equal(a, b)
