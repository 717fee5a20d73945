"""Mixtures of bivariate Gaussians with a pen bit (Graves 2013, Eq. 15-26).

All in log space and float32. Scales are kept within `SCALES` and correlations
within +-`MAX_CORRELATION`: inside, densities and gradients are exact; outside,
they are those of the bound.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

SCALES = (1e-5, 1e5)
MAX_CORRELATION = 0.99999


class Mixture(NamedTuple):
  """A density over moves of a pen, and whether it is lifted after them.

  Attributes:
    log_weights: [..., K], of each Gaussian; their exponentials add up to 1.
    means: [..., K, 2].
    log_scales: [..., K, 2], logarithms of the standard deviations.
    arctanh_correlation: [..., K], the inverse hyperbolic tangent of rho.
    pen_logit: [...], the logit of the end of a stroke.
  """

  log_weights: Array
  means: Array
  log_scales: Array
  arctanh_correlation: Array
  pen_logit: Array


def num_outputs(num_mixtures: int) -> int:
  """How many outputs of a network `mixture` takes: 6 K + 1."""
  return 6 * num_mixtures + 1


def mixture(outputs: Array, bias: float | Array = 0.0) -> Mixture:
  """The mixture of a network's outputs.

  The first K are logits of the weights; then come K each of the means in x and
  y, the log scales in x and y, and rho before its tanh; the last is the logit
  of the end of a stroke.

  Args:
    outputs: [..., 6 K + 1].
    bias: b of Graves's biased sampling (his Eq. 61-62): scales are divided by
      exp(b), logits of the weights multiplied by 1 + b.
  """
  *gaussians, pen = jnp.split(
    outputs.astype(jnp.float32),
    [k * (outputs.shape[-1] // 6) for k in range(1, 7)],
    axis=-1,
  )
  weights, x, y, scale_x, scale_y, correlation = gaussians
  limit = math.atanh(MAX_CORRELATION)
  return Mixture(
    jax.nn.log_softmax(weights * (1 + bias)),
    jnp.stack([x, y], axis=-1),
    jnp.clip(
      jnp.stack([scale_x, scale_y], axis=-1) - bias, *map(math.log, SCALES)
    ),
    jnp.clip(correlation, -limit, limit),
    pen[..., 0],
  )


def log_density(mixture: Mixture, moves: Array) -> Array:
  """The log of the mixture's density at moves [..., 2]; returns [...].

  With z the standardized moves and r = arctanh rho, the quadratic form is

      (z_x^2 + z_y^2 - 2 rho z_x z_y) / (1 - rho^2)
        = ((z_x - z_y)^2 (1 + e^2r) + (z_x + z_y)^2 (1 + e^-2r)) / 4

  which loses no digits as |rho| goes to 1.
  """
  r = mixture.arctanh_correlation
  z = (moves[..., None, :] - mixture.means) * jnp.exp(-mixture.log_scales)
  along, across = z[..., 0] + z[..., 1], z[..., 0] - z[..., 1]
  quadratic = (
    across**2 * (1 + jnp.exp(2 * r)) + along**2 * (1 + jnp.exp(-2 * r))
  ) / 4
  # ln sqrt(1 - rho^2) = -ln cosh r
  log_cosh = jnp.abs(r) + jnp.log1p(jnp.exp(-2 * jnp.abs(r))) - math.log(2)
  log_gaussians = (
    -quadratic / 2
    - math.log(2 * math.pi)
    - mixture.log_scales.sum(-1)
    + log_cosh
  )
  return jax.nn.logsumexp(mixture.log_weights + log_gaussians, axis=-1)


def nats(outputs: Array, targets: Array) -> Array:
  """-ln p of what the pen did: its move and whether it was lifted.

  Args:
    outputs: [..., 6 K + 1], of the network.
    targets: [..., 3]: the move, and 1 at the end of a stroke, else 0.

  Returns:
    Nats per point, [...]; below zero where the density is above 1.
  """
  found = mixture(outputs)
  ends = targets[..., 2]
  pen = ends * found.pen_logit - jax.nn.softplus(found.pen_logit)
  return -log_density(found, targets[..., :2]) - pen


def sample(key: Array, outputs: Array, bias: float | Array = 0.0) -> Array:
  """Draws a move and a pen bit, float32 [..., 3], from outputs [..., 6 K + 1].

  Args:
    key: PRNG key.
    outputs: of the network.
    bias: see `mixture`; the pen bit is drawn without it.
  """
  found = mixture(outputs, bias)
  which_key, move_key, pen_key = jax.random.split(key, 3)
  which = jax.random.categorical(which_key, found.log_weights)[..., None]
  mean, log_scale = (
    jnp.take_along_axis(x, which[..., None], axis=-2)[..., 0, :]
    for x in (found.means, found.log_scales)
  )
  r = jnp.take_along_axis(found.arctanh_correlation, which, axis=-1)[..., 0]
  first, second = jnp.moveaxis(jax.random.normal(move_key, mean.shape), -1, 0)
  # rho and sqrt(1 - rho^2)
  second = jnp.tanh(r) * first + second / jnp.cosh(r)
  move = mean + jnp.exp(log_scale) * jnp.stack([first, second], axis=-1)
  pen = jax.random.bernoulli(pen_key, jax.nn.sigmoid(found.pen_logit))
  return jnp.concatenate([move, pen[..., None].astype(move.dtype)], axis=-1)
