import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hyperjax.nn.embedding import Embedding

SYMBOLS = jnp.array([[3, 0, 3], [6, 1, 2]])


def test_rows_are_those_of_the_symbols():
  table = Embedding(7, 4, key=jax.random.key(0))
  kernel = np.asarray(table.kernel[...])
  np.testing.assert_array_equal(table(SYMBOLS), kernel[np.asarray(SYMBOLS)])


def test_the_gradient_counts_how_often_a_symbol_comes():
  graph, params = nnx.split(Embedding(7, 4, key=jax.random.key(0)))
  total = jax.grad(lambda params: nnx.merge(graph, params)(SYMBOLS).sum())
  gradient = total(params)['kernel'][...]
  np.testing.assert_array_equal(gradient[:, 0], [1, 1, 1, 2, 0, 0, 1])


def test_rows_are_rounded_to_the_products_precision():
  key = jax.random.key(0)
  exact = Embedding(7, 4, key=key)(SYMBOLS)
  rounded = Embedding(7, 4, dtype=jnp.bfloat16, key=key)(SYMBOLS)
  assert rounded.dtype == jnp.float32
  np.testing.assert_array_equal(rounded, exact.astype(jnp.bfloat16))


def test_the_initial_deviation_is_a_tenth():
  kernel = Embedding(500, 100, key=jax.random.key(0)).kernel[...]
  assert abs(float(jnp.std(kernel)) - 0.1) < 0.002  # 4 standard errors
