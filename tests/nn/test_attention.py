import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.nn.attention import AttentionCell
from hyperjax.nn.linear import Linear, Product
from hyperjax.nn.unroll import unroll
from tests.nn import small

MEMORY, ATTENTION, PLACES, TIME = 5, 3, 6, 4
LENGTHS = np.array([6, 2, 0])  # of the memories; the last one is empty
BATCH = len(LENGTHS)
KEY = jax.random.key(4)
each_cell = pytest.mark.parametrize(
  'name', ['lstm', 'hyper_rnn', small.slow('rnn'), small.slow('ln_hyper_lstm')]
)


@functools.lru_cache
def split(name, **options):
  """The graph, and parameters off their special initial values."""
  inner = small.build(name, input_size=small.INPUT + MEMORY, **options)
  cell = AttentionCell(inner, small.HIDDEN, MEMORY, ATTENTION, key=KEY)
  graph, params = nnx.split(cell)
  return graph, small.moved(params, 100)


def memory_of(seed=0):
  values = np.random.default_rng(seed).normal(size=(BATCH, PLACES, MEMORY))
  return np.float32(values)


def mask():
  return np.arange(PLACES) < LENGTHS[:, None]


def run(graph, params, xs, values, mask, key=None, **options):
  cell = nnx.merge(graph, params)
  cell = cell.reading(cell.remember(values, mask))
  carry = cell.initial_carry(len(mask))
  return cell.parts(unroll(cell, carry, xs, key, **options)[1])


quick_run = jax.jit(run, static_argnums=0)


def reference(graph, params, xs, values):
  """The equations in float64, a batch row and a step at a time.

  The inner cell is stepped as it is, which its own tests have proved.
  """
  cell = nnx.merge(graph, params)
  step = jax.jit(lambda carry, x: cell.cell.step(carry, cell.cell.project(x)))
  query = np.float64(cell.query.kernel[...])
  to_keys = np.float64(cell.memory_keys.kernel[...])
  bias = np.float64(cell.memory_keys.bias[...])
  score = np.float64(cell.score[...])
  found = []
  for b, length in enumerate(LENGTHS[:2]):  # an empty one means nothing
    carry, h = cell.cell.initial_carry(1), np.zeros(small.HIDDEN)
    for t in range(TIME):
      places = np.float64(values[b, :length])
      keys = places @ to_keys + bias
      e = np.tanh(h @ query + keys) @ score
      a = np.exp(e - e.max()) / np.exp(e - e.max()).sum()
      read = a @ places
      x = np.concatenate([xs[t, b], read]).astype(np.float32)[None]
      carry, out = step(carry, x)
      h = np.float64(out[0])
      a = np.pad(a, (0, PLACES - len(a)))
      found.append((t, b, h, read, a))
  return found


@each_cell
def test_it_is_the_equations(name):
  graph, params = split(name)
  xs, values = small.sequence(TIME, BATCH), memory_of()
  hs, reads, attention = quick_run(graph, params, xs, values, mask())
  for t, b, h, read, a in reference(graph, params, xs, values):
    np.testing.assert_allclose(attention[t, b], a, atol=2e-6)
    np.testing.assert_allclose(reads[t, b], read, atol=5e-6)
    np.testing.assert_allclose(hs[t, b], h, atol=5e-6)


@each_cell
def test_deferred_gradients_are_those_of_the_plain_scan(name):
  graph, params = split(name)
  xs, values = small.sequence(TIME, BATCH), memory_of()
  shape = TIME, BATCH, small.HIDDEN + MEMORY + PLACES
  weights = small.random_like(np.zeros(shape), 3)

  def loss(params, xs, values, **options):
    parts = run(graph, params, xs, values, mask(), **options)
    return jnp.sum(jnp.concatenate(parts, axis=-1) * weights)

  def gradients(**options):
    grad = jax.grad(functools.partial(loss, **options), argnums=(0, 1, 2))
    return jax.jit(grad)(params, xs, values)

  expected = gradients(defer=False, remat='nothing')
  for remat in ('elementwise', 'step'):
    found = gradients(defer=True, remat=remat)
    for x, y in zip(
      jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
      scale = np.abs(y).max() + 1e-6
      np.testing.assert_allclose(x / scale, y / scale, atol=2e-5)
  # Nothing is cut off: all that it computes with has a gradient.
  for path, x in jax.tree_util.tree_leaves_with_path(expected[0]):
    assert np.abs(x).max() > 0, jax.tree_util.keystr(path)


def test_padding_of_the_memory_changes_nothing():
  graph, params = split('lstm')
  xs, values = small.sequence(TIME, BATCH), memory_of()
  expected = quick_run(graph, params, xs, values, mask())
  other = np.where(mask()[..., None], values, np.float32(100))
  wide = np.pad(other, ((0, 0), (0, 3), (0, 0)), constant_values=-7)
  seen = np.pad(mask(), ((0, 0), (0, 3)))
  for k, x in enumerate(quick_run(graph, params, xs, wide, seen)):
    x = x[..., :PLACES] if k == 2 else x
    # The last row has nothing to read.
    np.testing.assert_allclose(x[:, :2], expected[k][:, :2], atol=1e-6)


def test_an_empty_memory_gives_numbers():
  graph, params = split('lstm')
  xs, nothing = small.sequence(TIME, BATCH), np.zeros((BATCH, PLACES), bool)
  for x in quick_run(graph, params, xs, memory_of(), nothing):
    assert np.isfinite(x).all()


def test_reading_leaves_the_cell_as_it_was():
  graph, params = split('lstm')
  cell = nnx.merge(graph, params)
  reading = cell.reading(cell.remember(memory_of(), mask()))
  assert cell.memory is None and reading.memory is not None
  assert nnx.split(cell)[0] == graph


def test_input_products_leave_the_loop_too():
  graph, params = split('ln_hyper_lstm')
  cell = nnx.merge(graph, params).cell
  assert isinstance(cell.main.input, Product)
  assert isinstance(cell.hyper.input, Product)


class Outsider(nnx.Module):
  """A cell as users may write it: without an `input`."""

  def __init__(self):
    self.weights = Linear(jnp.ones((small.INPUT + MEMORY, small.HIDDEN)))

  def initial_carry(self, batch_size):
    return jnp.zeros((batch_size, small.HIDDEN))

  def project(self, xs):
    return self.weights(xs)

  def step(self, carry, x, key=None):
    h = jnp.tanh(carry + x)
    return h, h


def test_it_takes_any_cell():
  cell = AttentionCell(Outsider(), small.HIDDEN, MEMORY, ATTENTION, key=KEY)
  graph, params = nnx.split(cell)
  hs, _, _ = quick_run(
    graph, params, small.sequence(TIME, BATCH), memory_of(), mask()
  )
  assert hs.shape == (TIME, BATCH, small.HIDDEN)
  assert np.isfinite(hs).all()


def test_noise_is_that_of_the_cell():
  graph, params = split('lstm', keep_prob=0.5)
  xs, values = small.sequence(TIME, BATCH), memory_of()
  plain = quick_run(graph, params, xs, values, mask())
  noisy = quick_run(graph, params, xs, values, mask(), KEY)
  again = quick_run(graph, params, xs, values, mask(), KEY)
  assert not np.allclose(plain[0], noisy[0])
  np.testing.assert_array_equal(noisy[0], again[0])
