import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.nn.nnx_cell import NNXCell
from hyperjax.nn.unroll import unroll
from tests.nn import small

some_cells = pytest.mark.parametrize(
  'name',
  small.some_of(('hyper_lstm', 'hyper_rnn/full/lstm'), 'lstm', 'hyper_rnn'),
)
BATCH, TIME = small.BATCH, small.TIME


def batch_major(seed=1):
  return np.asarray(small.sequence(seed=seed)).swapaxes(0, 1)


def unrolled(cell, xs, **options):
  """Batch-major inputs -> carry, batch-major outputs."""

  @jax.jit
  def run(xs):
    carry = cell.initial_carry(len(xs))
    carry, hs = unroll(cell, carry, xs.swapaxes(0, 1), **options)
    return carry, hs.swapaxes(0, 1)

  return run(xs)


def run_rnn(rnn, xs, **options):
  graph, params = nnx.split(rnn)
  return jax.jit(lambda params, xs: nnx.merge(graph, params)(xs, **options))(
    params, xs
  )


def assert_same(actual, expected):
  # The input products are one matmul there and one a step here.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    actual,
    expected,
  )


@some_cells
def test_nnx_rnn_equals_unroll(name):
  cell, xs = small.cell(name), batch_major()

  actual = run_rnn(nnx.RNN(NNXCell(cell)), xs, return_carry=True)

  assert actual[1].shape == (BATCH, TIME, small.HIDDEN)
  assert_same(actual, unrolled(cell, xs))


def test_time_major_inputs():
  cell, xs = small.cell('hyper_rnn'), batch_major()
  rnn = nnx.RNN(NNXCell(cell), time_major=True, return_carry=True)

  carry, hs = run_rnn(rnn, xs.swapaxes(0, 1))

  assert_same((carry, hs.swapaxes(0, 1)), unrolled(cell, xs))


def test_inputs_without_a_batch_axis():
  cell, xs = small.cell('hyper_rnn'), batch_major()

  actual = run_rnn(nnx.RNN(NNXCell(cell)), xs[0], return_carry=True)

  assert actual[1].shape == (TIME, small.HIDDEN)
  expected = unrolled(cell, xs)
  assert_same(actual, jax.tree.map(lambda x: x[0], expected))


def test_inputs_with_two_batch_axes():
  cell = small.cell('hyper_rnn')
  xs = small.sequence(TIME, 6).swapaxes(0, 1)

  carry, hs = run_rnn(
    nnx.RNN(NNXCell(cell)), xs.reshape(2, 3, TIME, -1), return_carry=True
  )

  assert hs.shape == (2, 3, TIME, small.HIDDEN)
  expected_carry, expected = unrolled(cell, xs)
  assert_same(hs, expected.reshape(hs.shape))
  for a, b in zip(*map(jax.tree.leaves, (carry, expected_carry)), strict=True):
    assert a.shape[:2] == (2, 3)
    assert_same(a, b.reshape(a.shape))


def test_a_carry_of_ones_own():
  name = 'hyper_rnn'
  cell, xs, carry = small.cell(name), small.sequence(), small.carry(name)

  actual = run_rnn(
    nnx.RNN(NNXCell(cell)),
    xs.swapaxes(0, 1),
    initial_carry=carry,
    return_carry=True,
  )

  carry, hs = jax.jit(functools.partial(unroll, cell))(carry, xs)
  assert_same(actual, (carry, hs.swapaxes(0, 1)))


def test_lengths_are_a_mask():
  cell, xs = small.cell('hyper_rnn'), batch_major()
  lengths = jnp.array([3, TIME])
  real = np.arange(TIME) < lengths[:, None]

  carry, hs = run_rnn(
    nnx.RNN(NNXCell(cell)), xs, seq_lengths=lengths, return_carry=True
  )

  # Of outputs beyond the end nnx.RNN promises nothing.
  expected_carry, expected = unrolled(cell, xs, mask=real.T)
  assert_same(carry, expected_carry)
  assert_same(hs[real], expected[real])


def test_both_directions():
  cells = [small.cell('hyper_rnn', seed=seed) for seed in (0, 1)]
  xs = batch_major()

  hs = run_rnn(nnx.Bidirectional(*(nnx.RNN(NNXCell(c)) for c in cells)), xs)

  _, forward = unrolled(cells[0], xs)
  _, backward = unrolled(cells[1], xs[:, ::-1])
  assert_same(hs, jnp.concatenate([forward, backward[:, ::-1]], axis=-1))


@pytest.mark.parametrize('name', ['hyper_rnn', small.slow('ln_hyper_lstm')])
def test_gradients_reach_every_parameter(name):
  xs, weights = batch_major(), small.random_like(np.zeros(small.HIDDEN), 3)
  rnn = nnx.RNN(NNXCell(small.cell(name)))
  graph, params = small.split(name)

  @jax.jit
  def of_rnn(params):
    return nnx.grad(lambda rnn: jnp.sum(rnn(xs) @ weights))(
      nnx.merge(nnx.graphdef(rnn), params)
    )

  @jax.jit
  def of_unroll(params):
    def loss(params):
      cell = nnx.merge(graph, params)
      _, hs = unroll(cell, cell.initial_carry(BATCH), xs.swapaxes(0, 1))
      return jnp.sum(hs @ weights)

    return jax.grad(loss)(params)

  actual = jax.tree.leaves(of_rnn(nnx.state(rnn)))
  expected = jax.tree.leaves_with_path(of_unroll(params))

  assert len(actual) == len(expected)
  for a, (path, b) in zip(actual, expected, strict=True):
    assert np.any(b), path
    atol = 1e-5 * np.abs(b).max()  # see test_unroll
    np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=str(path))


# What is random.


@pytest.mark.parametrize('name', ['rnn', 'hyper_lstm'])
def test_nothing_is_random_without_rngs_or_in_evaluation(name):
  cell, xs = small.cell(name, **small.noise(name)), batch_major()
  expected = unrolled(cell, xs)[1]  # without a key: zoneout takes means

  def outputs(rnn):
    return run_rnn(rnn, xs)

  without = nnx.RNN(NNXCell(cell))
  without.train()
  assert_same(outputs(without), expected)
  rnn = nnx.RNN(NNXCell(cell, nnx.Rngs(0)))
  assert np.abs(outputs(rnn) - expected).max() > 1e-2
  rnn.eval()
  assert_same(outputs(rnn), expected)
  rnn.train()
  assert np.abs(outputs(rnn) - expected).max() > 1e-2


def test_calls_differ_and_seeds_repeat():
  cell, xs = small.cell('lstm', keep_prob=0.5), batch_major()
  # Not `run_rnn`: what is drawn from lives on in the object.
  one, same, other = (
    nnx.RNN(NNXCell(cell, nnx.Rngs(params=0, dropout=seed)))
    for seed in (1, 1, 2)
  )

  first, second = one(xs), one(xs)

  np.testing.assert_array_equal(same(xs), first)
  assert np.abs(first - second).max() > 1e-2
  assert np.abs(first - other(xs)).max() > 1e-2


def test_masks_are_drawn_anew_at_every_step():
  cell = small.memoryless_lstm(keep_prob=0.7)
  rnn = nnx.RNN(NNXCell(cell, nnx.Rngs(0)))

  hs = run_rnn(rnn, np.ones((20, 20, small.INPUT), np.float32))

  kept = np.asarray(hs != 0)
  assert abs(kept.mean() - 0.7) < 0.04  # 2,400 draws: standard error 0.009
  agreement = np.mean(kept[:, 1:] == kept[:, :-1])
  assert abs(agreement - 0.58) < 0.06  # 0.7^2 + 0.3^2


def test_cells_have_streams_of_their_own():
  rngs = nnx.Rngs(0)
  xs = np.ones((20, 20, small.INPUT), np.float32)
  cells = [
    NNXCell(small.memoryless_lstm(keep_prob=0.5), rngs) for _ in range(2)
  ]

  first, second = (run_rnn(nnx.RNN(cell), xs) != 0 for cell in cells)

  assert abs(np.mean(first == second) - 0.5) < 0.06


def test_an_initializer_of_the_carry_is_refused():
  cell = NNXCell(small.cell('lstm'))

  with pytest.raises(ValueError, match='initial carry of its own'):
    cell.initialize_carry((2, small.INPUT), None, nnx.initializers.ones)
