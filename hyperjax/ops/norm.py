"""Layer normalization (Ba et al. 2016)."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name

# What a policy of `jax.checkpoint` calls the mean and the inverse deviation.
STATISTIC = 'layer_norm_statistic'


def layer_norm(
  x: Array, scale: Array, bias: Array, epsilon: float = 1e-3
) -> Array:
  """Normalizes the last axis to mean 0 and variance 1, then scales and shifts.

  Statistics are float32 for a narrower `x`, too. The default epsilon, added
  to the variance inside the root, is that of the paper's official cells.

  Args:
    x: [..., features].
    scale: broadcasts against `x`.
    bias: broadcasts against `x`.
    epsilon: added to the variance.
  """
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  mean = checkpoint_name(jnp.mean(x, axis=-1, keepdims=True), STATISTIC)
  centred = x - mean
  variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
  inverse = checkpoint_name(jax.lax.rsqrt(variance + epsilon), STATISTIC)
  return centred * inverse * scale + bias
