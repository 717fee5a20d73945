"""Mixture densities against scipy, numerical integration and samples."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from hyperjax.ops import mdn

nats = jax.jit(mdn.nats)
nats_and_gradient = jax.jit(jax.value_and_grad(mdn.nats))
sample = jax.jit(mdn.sample)


@jax.jit
def log_density(outputs, move):
  return mdn.log_density(mdn.mixture(outputs), move)


def pack(weights, means, scales, correlations, pen=0.0):
  """Outputs of a network whose mixture has these values."""
  means, scales = np.asarray(means), np.asarray(scales)
  parts = [
    np.log(weights),
    means[:, 0],
    means[:, 1],
    np.log(scales[:, 0]),
    np.log(scales[:, 1]),
    np.arctanh(correlations),
    [pen],
  ]
  return np.float32(np.concatenate(parts))


def reference(weights, means, scales, correlations, move):
  """ln density in float64, by scipy."""
  logs = []
  for weight, mean, (sx, sy), rho in zip(
    weights, means, scales, correlations, strict=True
  ):
    covariance = [[sx * sx, rho * sx * sy], [rho * sx * sy, sy * sy]]
    normal = stats.multivariate_normal(mean, covariance, allow_singular=False)
    logs.append(np.log(weight) + normal.logpdf(move))
  return special.logsumexp(logs)


@pytest.mark.parametrize('seed', range(5))
def test_densities_are_those_of_scipy(seed):
  rng = np.random.default_rng(seed)
  values = (
    rng.dirichlet(np.ones(20)),
    rng.normal(size=(20, 2)),
    np.exp(rng.normal(size=(20, 2))),
    rng.uniform(-0.95, 0.95, 20),
  )
  move = rng.normal(size=2)
  found = log_density(pack(*values), np.float32(move))
  np.testing.assert_allclose(found, reference(*values, move), rtol=2e-5)


@pytest.mark.parametrize(
  ('scale', 'rho', 'distance'),
  [
    *itertools.product(
      [1e-4, 1e-2, 1.0], [0.0, 0.9999, -0.9999], [0.0, 1.5, -3.0]
    )
  ],
)
def test_narrow_and_correlated_gaussians(scale, rho, distance):
  """Moves by the mean, where float32 tells them apart from it."""
  values = [1.0], [[0.0, 0.0]], [[scale, 2 * scale]], [rho]
  move = np.float32([distance * scale, 0.5 * distance * scale])
  outputs = pack(*values)
  found = log_density(outputs, move)
  # The correlation as float32 has it: near 1, its last digit counts.
  exact = [np.tanh(float(outputs[5]))]
  expected = reference(*values[:3], exact, move.astype(float))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  'outputs',
  [
    np.zeros(121),
    np.full(121, 50.0),
    np.full(121, -50.0),
    np.linspace(-80, 80, 121),
  ],
)
def test_extreme_outputs_have_finite_losses_and_gradients(outputs):
  targets = np.float32([3, -3, 1])
  loss, grad = nats_and_gradient(np.float32(outputs), targets)
  assert np.isfinite(loss)
  assert np.isfinite(grad).all()


def test_gradients_are_those_of_differences():
  rng = np.random.default_rng(0)
  outputs = rng.normal(size=13)
  targets = np.float32([0.3, -0.2, 1])
  with jax.enable_x64(True):
    _, grad = nats_and_gradient(outputs, targets)
  for k in range(13):
    high, low = outputs.copy(), outputs.copy()
    high[k] += 1e-2
    low[k] -= 1e-2
    slope = (
      nats(np.float32(high), targets) - nats(np.float32(low), targets)
    ) / 2e-2
    np.testing.assert_allclose(grad[k], slope, rtol=5e-2, atol=5e-3)


def test_the_density_integrates_to_one():
  values = (
    [0.3, 0.7],
    [[0.5, -0.5], [-1.0, 0.2]],
    [[0.4, 0.8], [1.0, 0.3]],
    [0.8, -0.6],
  )
  axis = np.linspace(-8, 8, 801)
  grid = np.stack(np.meshgrid(axis, axis), axis=-1).astype(np.float32)
  density = np.exp(log_density(pack(*values), grid))
  total = integrate.simpson(integrate.simpson(density, x=axis), x=axis)
  assert total == pytest.approx(1, abs=1e-4)


def test_the_pen_bit_is_a_bernoulli():
  outputs = pack([1.0], [[0, 0]], [[1, 1]], [0.0], pen=0.7)
  move = np.zeros(2, np.float32)
  up, down = (nats(outputs, np.float32([0, 0, bit])) for bit in (1, 0))
  density = log_density(outputs, move)
  p = special.expit(0.7)
  np.testing.assert_allclose(up + density, -np.log(p), rtol=1e-5)
  np.testing.assert_allclose(down + density, -np.log(1 - p), rtol=1e-5)


def test_samples_have_the_mixtures_moments():
  values = [1.0], [[2.0, -1.0]], [[0.5, 2.0]], [-0.7]
  outputs = np.broadcast_to(pack(*values, pen=1.0), (40_000, 7))
  drawn = np.asarray(sample(jax.random.key(0), outputs))
  np.testing.assert_allclose(drawn[:, :2].mean(0), [2, -1], atol=0.04)
  np.testing.assert_allclose(drawn[:, :2].std(0), [0.5, 2], rtol=0.02)
  assert np.corrcoef(drawn[:, :2].T)[0, 1] == pytest.approx(-0.7, abs=0.02)
  assert drawn[:, 2].mean() == pytest.approx(special.expit(1), abs=0.01)
  assert set(drawn[:, 2].tolist()) == {0, 1}


def test_samples_choose_gaussians_by_their_weights():
  values = [0.2, 0.8], [[-5.0, 0.0], [5.0, 0.0]], [[0.1, 0.1]] * 2, [0.0, 0.0]
  outputs = np.broadcast_to(pack(*values), (20_000, 13))
  drawn = np.asarray(sample(jax.random.key(1), outputs))
  assert (drawn[:, 0] > 0).mean() == pytest.approx(0.8, abs=0.01)


def test_a_bias_makes_samples_neater():
  values = [0.2, 0.8], [[-5.0, 0.0], [5.0, 0.0]], [[1.0, 1.0]] * 2, [0.0, 0.0]
  biased = mdn.mixture(pack(*values), bias=2.0)
  np.testing.assert_allclose(biased.log_scales, -2.0, rtol=1e-6)
  weights = np.exp(biased.log_weights)
  np.testing.assert_allclose(weights[1] / weights[0], 4.0**3, rtol=1e-4)


def test_twenty_gaussians_have_121_outputs():
  assert mdn.num_outputs(20) == 121
  mixture = mdn.mixture(jnp.arange(242.0).reshape(2, 121))
  assert mixture.log_weights.shape == (2, 20)
  assert mixture.means.shape == (2, 20, 2)
  np.testing.assert_array_equal(mixture.means[0, 3], [23, 43])
  np.testing.assert_array_equal(mixture.pen_logit, [120, 241])
