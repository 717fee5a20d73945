import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.nn import unroll as unrolling
from hyperjax.nn.linear import Product
from hyperjax.nn.unroll import unroll
from hyperjax.nn.window import POINTS_PER_SYMBOL, WindowCell
from tests.nn import reference, small
from tests.nn.small import slow
from tests.nn.test_unroll import assert_close, scans

SYMBOLS, WINDOWS, TIME = 4, 2, 7
TEXTS = [1, 2, 2, 4, 3], [3, 1], []
KEY = jax.random.key(4)
each_cell = pytest.mark.parametrize(
  'name', ['lstm', 'hyper_rnn', slow('ln_hyper_lstm'), slow('rnn')]
)


def wrap(cell, num_windows=WINDOWS, **options):
  return WindowCell(
    cell,
    small.HIDDEN,
    SYMBOLS,
    num_windows,
    key=jax.random.key(1),
    **options,
  )


@functools.lru_cache
def split(name, **options):
  """The graph, and parameters of a window that moves half a symbol a step."""
  inner = small.build(name, input_size=small.INPUT + SYMBOLS, **options)
  dtype = options.get('dtype', 'float32')
  graph, params = nnx.split(wrap(inner, dtype=dtype))
  moved = jax.tree.map(jnp.add, params, small.random_like(params, 100, 0.3))
  cell = nnx.merge(graph, moved)
  cell.head.bias[...] = cell.head.bias[...].at[2 * WINDOWS :].set(-0.7)
  return graph, nnx.state(cell)


def sequence():
  return np.asarray(small.sequence(TIME, len(TEXTS)))


def table(texts, width=5):
  """Texts as an array, with zeros behind the short ones."""
  rows = [text + [0] * (width - len(text)) for text in texts]
  return np.asarray(rows, np.int32).reshape(len(texts), width)


def run(graph, params, xs, text, key=None, **options):
  """The carry and outputs of a cell that reads a text from its start."""
  cell = nnx.merge(graph, params)
  carry = cell.read(cell.initial_carry(len(text)), text)
  return unroll(cell, carry, xs, key, **options)


quick_run = jax.jit(run, static_argnums=0)


@functools.lru_cache
def gradients(graph, **options):
  """(params, xs, text, weights, ...) -> the loss, its run, its gradients."""

  def loss(params, xs, text, weights, key=None):
    out = run(graph, params, xs, text, key, **options)
    return jnp.sum(out[1] * weights), out

  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def weights():
  shape = TIME, len(TEXTS), small.HIDDEN + SYMBOLS
  return np.asarray(small.random_like(np.zeros(shape), 3))


def by_hand(name, params, xs, texts):
  """Graves 2013, Eq. 46-51, in float64, line by line and step by step.

  Returns:
    outputs [h; w] [T, B, H + V], positions [T, B, K], and [T, B], whether phi
    is largest one place behind the text (his Sec. 5.3).
  """
  p = small.to_reference(params['cell'])
  head = jax.tree.map(lambda x: np.asarray(x, np.float64), params['head'])
  outputs, positions, beyond = [], [], []
  for row, text in enumerate(texts):
    state = (np.zeros(small.HIDDEN),) * (1 + small.main_is_lstm(name))
    hyper_state = (np.zeros(small.HYPER),) * (1 + small.hyper_is_lstm(name))
    kappa, w = np.zeros(WINDOWS), np.zeros(SYMBOLS)
    seen = []
    for x in np.asarray(xs, np.float64)[:, row]:
      x = np.concatenate([x, w])
      if 'hyper' in p:
        state, hyper_state = reference.hyper_step(p, state, hyper_state, x)
      else:
        state = reference.plain_step(p, state, x)
      hats = head['kernel'].T @ state[0] + head['bias']
      alpha, beta = np.exp(hats[:WINDOWS]), np.exp(hats[WINDOWS:-WINDOWS])
      kappa = kappa + np.exp(hats[-WINDOWS:])
      phi = [
        sum(alpha * np.exp(-beta * (kappa - u) ** 2))
        for u in range(1, len(text) + 2)
      ]
      w = np.zeros(SYMBOLS)
      for symbol, value in zip(text, phi[:-1], strict=True):
        w[symbol - 1] += value
      seen.append(
        (np.concatenate([state[0], w]), kappa, phi[-1] > max(phi[:-1] or [0]))
      )
    for found, part in zip(
      (outputs, positions, beyond), zip(*seen, strict=True), strict=True
    ):
      found.append(np.stack(part))
  return tuple(np.stack(x, axis=1) for x in (outputs, positions, beyond))


# The equations.


@each_cell
def test_the_window_is_that_of_graves(name):
  graph, params = split(name)

  (_, window), hs = quick_run(graph, params, sequence(), table(TEXTS))

  outputs, positions, beyond = by_hand(
    name, nnx.to_pure_dict(params), sequence(), TEXTS
  )
  np.testing.assert_allclose(hs, outputs, rtol=2e-5, atol=2e-6)
  np.testing.assert_allclose(window.position, positions[-1], rtol=1e-5)
  np.testing.assert_array_equal(
    window.reading, np.asarray(hs)[-1, :, small.HIDDEN :]
  )
  np.testing.assert_array_equal(window.beyond, beyond[-1])
  np.testing.assert_array_equal(window.text, table(TEXTS))
  # The test reads something, moves within the text, and meets both answers.
  assert np.abs(outputs[:, :2, small.HIDDEN :]).max(axis=(0, 2)).min() > 0.1
  assert 1 < positions[-1, 0].max() < len(TEXTS[0])
  assert set(beyond.ravel()) == {False, True}


@each_cell
def test_gradients_are_those_of_the_equations(name):
  graph, params = split(name)
  at = nnx.to_pure_dict(params)
  direction = small.random_like(at, 7)
  step = 1e-5

  def loss(sign):
    moved = jax.tree.map(
      lambda x, d: np.asarray(x, np.float64) + sign * step * np.asarray(d),
      at,
      direction,
    )
    hs, _, _ = by_hand(name, moved, sequence(), TEXTS)
    return np.sum(hs * np.asarray(weights()))

  _, (grads, _) = gradients(graph)(params, sequence(), table(TEXTS), weights())

  slope = sum(
    np.vdot(np.asarray(a, np.float64), np.asarray(b, np.float64))
    for a, b in zip(
      jax.tree.leaves(nnx.to_pure_dict(grads)),
      jax.tree.leaves(direction),
      strict=True,
    )
  )
  assert slope == pytest.approx((loss(1) - loss(-1)) / (2 * step), rel=1e-4)


def test_a_window_starts_at_the_pace_of_a_pen():
  cell = wrap(small.build('lstm', input_size=small.INPUT + SYMBOLS))
  cell.head.kernel[...] = jnp.zeros_like(cell.head.kernel[...])
  carry = cell.read(cell.initial_carry(1), table([[1]]))

  (_, window), _ = cell.step(carry, jnp.zeros((1, small.INPUT)))

  np.testing.assert_allclose(window.position, 1 / POINTS_PER_SYMBOL, rtol=1e-6)


# Texts of different lengths.


def test_a_text_reads_the_same_alone_and_beside_longer_ones():
  graph, params = split('lstm')
  xs = sequence()
  (loss, ((_, window), together)), (grads, dxs) = gradients(graph)(
    params, xs, table(TEXTS), weights()
  )

  alone = []
  for k, one in enumerate(TEXTS):
    row = slice(k, k + 1)
    (part, ((_, window_alone), hs)), grads_alone = gradients(graph)(
      params, xs[:, row], table([one], len(one)), weights()[:, row]
    )
    assert_close(hs, together[:, row])
    assert_close(window_alone.position, window.position[row])
    assert bool(window_alone.beyond[0]) == bool(window.beyond[k])
    alone.append((float(part), grads_alone))

  assert sum(x[0] for x in alone) == pytest.approx(float(loss), rel=1e-5)
  assert_close(
    jax.tree.map(lambda *x: sum(x), *(x[1][0] for x in alone)), grads
  )
  assert_close(np.concatenate([x[1][1] for x in alone], axis=1), dxs)


def test_an_empty_text_is_read_as_nothing():
  graph, params = split('lstm')

  (_, window), hs = quick_run(graph, params, sequence(), table([[]] * 3, 0))

  assert not np.any(hs[..., small.HIDDEN :])
  assert window.beyond.all()
  cell = nnx.merge(graph, params)
  _, unread = unroll(cell, cell.initial_carry(3), sequence())
  assert_close(unread, hs)


# Where it stands.


def steady(beta=1.0, pace=0.25, **options):
  """A cell whose one window moves on at a pace, whatever it sees."""
  inner = small.build('lstm', input_size=small.INPUT + SYMBOLS, **options)
  cell = wrap(inner, num_windows=1, **options)
  cell.head.kernel[...] = jnp.zeros_like(cell.head.kernel[...])
  cell.head.bias[...] = jnp.log(jnp.asarray([1.0, beta, pace]))
  return cell


@functools.partial(jax.jit, static_argnums=0)
def windows_of(graph, params, text, xs):
  cell = nnx.merge(graph, params)
  carry = cell.read(cell.initial_carry(len(text)), text)
  return jax.lax.scan(lambda c, x: (cell.step(c, x)[0],) * 2, carry, xs)[1][1]


def windows(cell, texts, num_steps):
  """The windows after each step."""
  xs = np.zeros((num_steps, len(texts), small.INPUT), np.float32)
  return windows_of(*nnx.split(cell), table(texts), xs)


def test_the_end_is_behind_as_soon_as_it_is_nearest():
  # Beside 1, 2, ... the end of a text of U symbols is at U + 1.
  found = windows(steady(), TEXTS, 30)

  places = 0.25 * np.arange(1, 31)
  np.testing.assert_allclose(found.position[:, 0, 0], places, rtol=1e-5)
  far_from_ties = np.abs(places % 1 - 0.5) > 0.1
  for row, text in enumerate(TEXTS):
    expected = (places > len(text) + 0.5) | (not text)
    np.testing.assert_array_equal(
      found.beyond[far_from_ties, row], expected[far_from_ties]
    )
  assert not found.beyond[:, 0].all() and found.beyond[:, 0].any()


def test_the_reading_is_of_the_symbol_at_the_position():
  found = windows(steady(beta=30.0), TEXTS, 30)

  for row, text in enumerate(TEXTS):
    for u, symbol in enumerate(text, 1):
      expected = np.zeros(SYMBOLS)
      expected[symbol - 1] = 1
      reading = found.reading[4 * u - 1, row]
      np.testing.assert_allclose(reading, expected, atol=1e-3)


def test_positions_only_grow():
  graph, params = split('lstm')
  wild = jax.tree.map(lambda x: 3 * x, params)

  found = windows_of(graph, wild, table(TEXTS), sequence()).position

  assert (np.diff(found, axis=0, prepend=0) > 0).all()


def test_positions_are_exact_in_bfloat16():
  # In bfloat16 sums of 0.04 come to a halt at 8.
  cell = steady(pace=0.04, dtype='bfloat16')
  assert {
    module.dtype
    for _, module in nnx.iter_modules(cell)
    if hasattr(module, 'dtype')
  } == {'bfloat16'}

  found = windows(cell, TEXTS[:1], 1000)

  assert found.position.dtype == found.reading.dtype == jnp.float32
  assert float(found.position[-1, 0, 0]) == pytest.approx(40, rel=1e-3)


def test_bfloat16_is_near_float32():
  args = sequence(), table(TEXTS)
  graph, params = split('lstm', dtype='bfloat16')

  (_, window), hs = quick_run(graph, params, *args)

  _, expected = quick_run(*split('lstm'), *args)
  assert window.position.dtype == jnp.float32
  difference = np.abs(hs - expected).max()
  assert 0 < difference < 0.05


# Unrolled.


@pytest.mark.parametrize(
  ('name', 'defer', 'remat'),
  [
    ('lstm', True, 'elementwise'),
    ('lstm', True, 'step'),
    ('lstm', False, 'elementwise'),
    ('hyper_rnn', True, 'elementwise'),
    slow('ln_hyper_lstm', True, 'nothing'),
    slow('ln_hyper_lstm', True, 'elementwise'),
    slow('ln_hyper_lstm', True, 'step'),
    slow('ln_hyper_lstm', False, 'elementwise'),
    slow('ln_hyper_lstm', False, 'step'),
  ],
)
def test_gradients_equal_those_of_the_plain_scan(name, defer, remat):
  graph, params = split(name, **small.noise(name))
  args = params, sequence(), table(TEXTS), weights(), KEY

  (actual, _), grads = gradients(graph, defer=defer, remat=remat)(*args)

  plain = gradients(graph, defer=False, remat='nothing')
  (expected, _), expected_grads = plain(*args)
  assert all(np.any(x) for x in jax.tree.leaves(expected_grads))
  assert_close((actual, grads), (expected, expected_grads))


def test_steps_behind_the_length_are_not_computed(monkeypatch):
  monkeypatch.setattr(unrolling, 'RAGGED_CHUNK_ROWS', 2 * len(TEXTS))
  graph, params = split('lstm')
  xs = sequence()
  assert unrolling.steps_run(2, TIME, len(TEXTS)) < 5
  broken = xs.copy()
  broken[4:] = np.nan

  def first_two(xs, length=None, defer=True):
    def loss(params):
      _, hs = run(graph, params, xs, table(TEXTS), length=length, defer=defer)
      return jnp.sum(jnp.sin(7 * hs[:2])), hs

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

  (whole, expected), whole_grads = first_two(xs[:2])
  for defer in (True, False):
    (value, hs), grads = first_two(broken, np.int32(2), defer)
    assert_close((value, hs[:2], grads), (whole, expected, whole_grads))
    assert not np.any(hs[4:])


def test_networks_side_by_side_are_those_alone():
  graph, params = split('lstm')
  two = jax.tree.map(lambda x: np.stack([x, 0.5 * x]), params)
  args, factors = (sequence(), table(TEXTS)), weights()

  def loss(params):
    _, hs = run(graph, params, *args, length=TIME)
    return jnp.sum(hs * factors)

  found = jax.jit(jax.vmap(jax.value_and_grad(loss)))(two)

  alone = jax.jit(jax.value_and_grad(loss))
  for k in range(2):
    one = jax.tree.map(lambda x, k=k: x[k], two)
    assert_close(jax.tree.map(lambda x, k=k: x[k], found), alone(one))


# What is random.


def test_the_masks_are_those_of_the_cell():
  graph, params = split('lstm', **small.noise('lstm'))
  cell = nnx.merge(graph, params)
  carry = cell.read(cell.initial_carry(3), table(TEXTS))
  x = sequence()[0]

  masks = cell.noise(KEY, 3)

  assert jax.tree.leaves(masks)
  assert_close(masks, cell.cell.noise(KEY, 3), rtol=0)
  step = jax.jit(cell.step)
  assert_close(step(carry, x, masks), step(carry, x, KEY), rtol=0)
  _, noisy = quick_run(graph, params, sequence(), table(TEXTS), KEY)
  _, quiet = quick_run(graph, params, sequence(), table(TEXTS))
  assert np.abs(noisy - quiet).max() > 1e-3


def test_masks_are_drawn_outside_the_loop():
  graph, params = split('lstm', **small.noise('lstm'))
  args = params, sequence(), table(TEXTS), weights(), KEY

  found = list(scans(jax.make_jaxpr(gradients(graph))(*args).jaxpr))

  assert found
  for scan in found:
    assert 'random_bits' not in str(scan.params['jaxpr'])


class Loud(nnx.Module):
  """A cell without `noise`, which draws with the key that it is given."""

  def __init__(self):
    self.recurrent = Product(0.5 * jnp.eye(small.HIDDEN))

  def initial_carry(self, batch_size):
    return jnp.zeros((batch_size, small.HIDDEN))

  def project(self, xs):
    return xs.sum(axis=-1, keepdims=True)

  def step(self, carry, x, key=None):
    h = x + self.recurrent(carry)
    if key is not None:
      h = h + jax.random.normal(key, h.shape)
    return h, h


def test_a_cell_without_masks_gets_the_keys():
  graph, params = nnx.split(wrap(Loud()))
  xs, text = sequence(), table(TEXTS)

  (_, _), hs = quick_run(graph, params, xs, text, KEY)

  cell = nnx.merge(graph, params)
  carry = cell.read(cell.initial_carry(3), text)
  step = jax.jit(cell.step)
  for x, key, h in zip(xs, jax.random.split(KEY, TIME), hs, strict=True):
    carry, expected = step(carry, x, key)
    assert_close(h, expected)
  _, quiet = quick_run(graph, params, xs, text)
  assert np.abs(hs - quiet).max() > 0.1


def test_parameters_are_those_of_the_cell_and_the_head():
  _, params = split('lstm')
  sizes = nnx.to_pure_dict(params)
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(sizes['head']))
  assert count == (small.HIDDEN + 1) * 3 * WINDOWS
  assert set(sizes) == {'cell', 'head'}
  inner = small.build('lstm', input_size=small.INPUT + SYMBOLS)
  assert jax.tree.map(jnp.shape, sizes['cell']) == jax.tree.map(
    jnp.shape, nnx.to_pure_dict(nnx.state(inner))
  )


def test_a_window_out_of_all_bounds_is_still_a_number():
  graph, params = split('lstm')
  cell = nnx.merge(graph, params, copy=True)
  cell.head.bias[...] = np.full_like(cell.head.bias[...], 200.0)

  (value, _), grads = gradients(graph)(
    nnx.state(cell), sequence(), table(TEXTS), weights()
  )

  assert np.isfinite(value)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
