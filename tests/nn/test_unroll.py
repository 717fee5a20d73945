import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.nn import unroll as unrolling
from hyperjax.nn.linear import Linear, Product
from hyperjax.nn.unroll import unroll
from hyperjax.ops.onehot import one_hot
from tests.nn import small
from tests.nn.small import slow

# A cell of one product, one of three, and those that generate whole matrices.
QUICK = ('lstm', 'hyper_rnn', *small.FULL)


def weights_like(graph, params, carry, xs):
  """Something to multiply all outputs with, so that all have a gradient."""
  return small.random_like(
    jax.eval_shape(lambda: unroll(nnx.merge(graph, params), carry, xs)), 3
  )


def loss_and_grads(graph, **options):
  """(params, carry, xs, ...) -> the scalar, its outputs, and its gradients."""

  def loss(params, carry, xs, weights, key=None, mask=None):
    cell = nnx.merge(graph, params)
    out = unroll(cell, carry, xs, key, mask=mask, **options)
    terms = jax.tree.map(lambda x, w: jnp.sum(x * w), out, weights)
    return sum(jax.tree.leaves(terms)), out

  return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)


@functools.lru_cache
def compiled(graph, defer=True, remat='elementwise'):
  return jax.jit(loss_and_grads(graph, defer=defer, remat=remat))


def at(name, *rest, batch=small.BATCH, seed=0, **options):
  """The graph, and where to take gradients."""
  graph, params = small.split(name, seed=seed, **options)
  carry = small.carry(name, batch, seed)
  xs = small.sequence(batch=batch, seed=seed)
  weights = weights_like(graph, params, carry, xs)
  return graph, (params, carry, xs, weights, *rest)


def assert_close(actual, expected, rtol=1e-5):
  """Leaf by leaf, to within `rtol` of the leaf's largest element."""
  actual, expected = (jax.tree.leaves_with_path(x) for x in (actual, expected))
  assert len(actual) == len(expected)
  for (path, a), (_, b) in zip(actual, expected, strict=True):
    assert a.shape == b.shape and a.dtype == b.dtype, path
    atol = rtol * np.abs(b).max()
    np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=str(path))


# Gradients out of the loop.

KEY = jax.random.key(4)


@pytest.mark.parametrize(
  ('name', 'defer', 'remat'),
  [
    ('lstm', True, 'elementwise'),
    ('lstm', True, 'step'),
    ('lstm', True, 'nothing'),
    ('lstm', False, 'step'),
    ('ln_lstm', True, 'elementwise'),
    ('hyper_rnn', True, 'elementwise'),
    ('hyper_rnn/full/lstm', True, 'elementwise'),
    slow('rnn', True, 'elementwise'),
    slow('ln_lstm', False, 'elementwise'),
    ('ln_hyper_lstm', True, 'elementwise'),
    slow('ln_hyper_lstm/full/rnn', True, 'elementwise'),
    slow('ln_hyper_lstm', True, 'step'),
    slow('ln_hyper_lstm', True, 'nothing'),
    slow('ln_hyper_lstm', False, 'elementwise'),
  ],
)
def test_gradients_equal_those_of_the_plain_scan(name, defer, remat):
  graph, args = at(name, KEY, **small.noise(name))
  expected = compiled(graph, False, 'nothing')(*args)
  assert all(np.any(x) for x in jax.tree.leaves(expected))

  assert_close(compiled(graph, defer, remat)(*args), expected)


def ragged():
  """A row that has a third and a last step, and one of the first two."""
  return np.array([[1, 1], [0, 1], [1, 0], [0, 0], [1, 0]], bool)


@pytest.mark.parametrize('rows', [1, 4 * small.BATCH])
def test_gradients_do_not_depend_on_the_chunks(rows, monkeypatch):
  # One and two steps a chunk, with a rest of one, against one chunk.
  graph, args = at('lstm', KEY, ragged(), **small.noise('lstm'))
  expected = compiled(graph)(*args)

  monkeypatch.setattr(unrolling, 'CHUNK_ROWS', rows)

  assert_close(jax.jit(loss_and_grads(graph))(*args), expected)


# Sequences that end before the array does.


def first_steps(defer):
  """A loss of the first `count` steps, beside all that `unroll` returns."""
  graph, _ = small.split('lstm')

  def loss(params, xs, count, length=None, mask=None):
    cell = nnx.merge(graph, params)
    carry = cell.initial_carry(small.BATCH)
    out = unroll(cell, carry, xs, length=length, mask=mask, defer=defer)
    counted = (jnp.arange(len(xs)) < count)[:, None, None]
    return jnp.sum(jnp.where(counted, jnp.sin(7 * out[1]), 0)), out

  return jax.value_and_grad(loss, has_aux=True)


first_steps_run = functools.lru_cache(lambda defer: jax.jit(first_steps(defer)))


@pytest.fixture
def chunks_of_two(monkeypatch):
  monkeypatch.setattr(unrolling, 'RAGGED_CHUNK_ROWS', 3 * small.BATCH)


@pytest.mark.usefixtures('chunks_of_two')
@pytest.mark.parametrize('defer', [True, False])
@pytest.mark.parametrize('length', [1, 2, 3, 5])
def test_steps_behind_the_length_are_not_computed(length, defer):
  _, params = small.split('lstm')
  xs = np.asarray(small.sequence())
  run = unrolling.steps_run(length, len(xs), small.BATCH)
  broken = xs.copy()
  broken[run:] = np.nan

  found = first_steps_run(defer)(params, broken, length, length)

  # A mask lets the carry stand still, and has zeros behind it.
  mask = np.broadcast_to(np.arange(len(xs))[:, None] < run, xs.shape[:2])
  assert_close(found, first_steps_run(False)(params, xs, length, None, mask))
  assert run == min(length + length % 2, len(xs))  # chunks of two


@pytest.mark.usefixtures('chunks_of_two')
def test_seeds_side_by_side_leave_out_the_same_steps():
  _, params = small.split('lstm')
  xs = np.asarray(small.sequence()).copy()
  xs[2:] = np.nan
  two = jax.tree.map(lambda x: np.stack([x, 2 * x]), params)

  found = jax.jit(jax.vmap(first_steps(True), (0, None, None, None)))(
    two, xs, 2, 2
  )

  assert np.isfinite(found[0][0]).all()
  alone = first_steps_run(True)(params, xs, 2, 2)
  assert_close(jax.tree.map(lambda x: x[0], found), alone)


@pytest.mark.parametrize('name', ['rnn', 'hyper_lstm'])
def test_masks_drawn_ahead_are_those_that_the_key_gives(name):
  cell = small.build(name, **small.noise(name))
  carry, x = small.carry(name, small.BATCH, 0), small.sequence()
  x = jax.tree.map(lambda x: x[0], cell.project(x))

  masks = cell.noise(KEY, small.BATCH)

  drawn = jax.tree.leaves(masks)
  assert drawn and all(mask.dtype == bool for mask in drawn)
  step = jax.jit(cell.step)
  assert_close(step(carry, x, masks), step(carry, x, KEY), rtol=0)


def test_random_bits_are_drawn_outside_the_loop():
  name = 'hyper_lstm'
  graph, args = at(name, KEY, **small.noise(name))

  jaxpr = jax.make_jaxpr(loss_and_grads(graph))(*args).jaxpr

  for scan in scans(jaxpr):
    assert 'random_bits' not in str(scan.params['jaxpr'])
  assert 'random_bits' in str(jaxpr)


def test_weights_first_changes_nothing(monkeypatch):
  graph, args = at('hyper_rnn', KEY, **small.noise('hyper_rnn'))
  (_, expected), expected_grads = compiled(graph)(*args)
  asked = []

  def always(kernel, batch_size, dtype):
    asked.append((kernel.shape, batch_size))
    return True

  monkeypatch.setattr(unrolling, 'is_weight_first', always)

  (_, actual), grads = jax.jit(loss_and_grads(graph))(*args)
  # The terms of each sum come in another order.
  assert_close(actual, expected, rtol=5e-5)
  assert_close(grads, expected_grads, rtol=5e-5)
  assert {batch_size for _, batch_size in asked} == {small.BATCH}


def test_an_empty_sequence_changes_nothing():
  cell, carry = small.build('lstm'), small.carry('lstm', small.BATCH, 0)

  after, hs = unroll(cell, carry, small.sequence()[:0])

  assert_close(after, carry)
  assert hs.shape == (0, small.BATCH, small.HIDDEN)


def test_input_products_of_symbols_are_not_kept_for_the_backward_pass():
  cell = small.build('lstm')
  carry = small.carry('lstm', small.BATCH, 0)
  dense = small.sequence()
  symbols = one_hot(jnp.zeros(dense.shape[:2], jnp.int32))

  def kept(xs):
    """Shapes of what the pull-back of `unroll` closes over."""
    graph, params = nnx.split(cell)
    _, pull_back = jax.vjp(
      lambda params: unroll(nnx.merge(graph, params), carry, xs), params
    )
    return [x.shape for x in jax.tree.leaves(pull_back)]

  projected = cell.project(symbols).shape
  assert projected == cell.project(dense).shape
  # Others have the same shape, such as the recurrent products.
  assert kept(symbols).count(projected) == kept(dense).count(projected) - 1


def scans(jaxpr):
  """All scans of a program, at any depth."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'scan':
      yield eqn
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      yield from scans(inner)


def scans_of(graph, args, **options):
  function = loss_and_grads(graph, **options)
  return list(scans(jax.make_jaxpr(function)(*args).jaxpr))


def carried(scan):
  """The outputs of a scan that it does not stack."""
  shapes = [aval.shape for aval in scan.params['jaxpr'].out_avals]
  return [
    v
    for v, shape in zip(scan.outvars, shapes, strict=True)
    if v.aval.shape == shape
  ]


@pytest.mark.parametrize(
  'name', small.some_of(small.NAMES + small.PAIRINGS, *QUICK)
)
def test_deferral_takes_the_product_gradients_out_of_the_loop(name):
  graph, args = at(name)
  cell = nnx.merge(graph, args[0])
  if 'hyper' in name:
    products = [cell.main.recurrent, cell.feedback, cell.hyper.recurrent]
  else:
    products = [cell.recurrent]
  kernels = {product.kernel.shape for product in products}

  def summed_in_the_loop(defer):
    """Shapes that a scan, forward or backward, carries from step to step."""
    return {
      v.aval.shape
      for scan in scans_of(graph, args, defer=defer)
      for v in carried(scan)
    }

  assert kernels <= summed_in_the_loop(defer=False)
  assert not kernels & summed_in_the_loop(defer=True)


@pytest.mark.parametrize('defer', [False, True])
def test_remat_keeps_less_for_the_backward_pass(defer):
  graph, args = at('ln_lstm')

  def kept(remat):
    forward, *_ = scans_of(graph, args, defer=defer, remat=remat)
    sizes = [v.aval.size for v in forward.outvars]
    return sum(sizes) - sum(v.aval.size for v in carried(forward))

  assert kept('step') < 0.6 * kept('elementwise') < 0.4 * kept('nothing')


def test_outputs_without_a_gradient_do_no_harm():
  graph, (params, carry, xs, *_) = at('lstm')

  def gradient(defer):
    def loss(params):
      cell = nnx.merge(graph, params)
      (c, _), _ = unroll(cell, carry, xs, defer=defer)
      return jnp.sum(c**2)

    return jax.jit(jax.grad(loss))(params)

  assert_close(gradient(defer=True), gradient(defer=False))


# Transforms.


def test_vmap_over_seeds_equals_one_seed_at_a_time():
  each = [
    at('lstm', jax.random.key(seed), **small.noise('lstm'), seed=seed)
    for seed in (0, 1)
  ]
  graph, _ = each[0]
  one = compiled(graph)
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *(args for _, args in each))

  actual = jax.jit(jax.vmap(loss_and_grads(graph)))(*stacked)

  for seed, (_, args) in enumerate(each):
    row = jax.tree.map(lambda x, seed=seed: x[seed], actual)
    assert_close(row, one(*args))


# Time.


@pytest.mark.parametrize('name', ['lstm', 'hyper_rnn'])
def test_two_windows_with_the_carry_between_equal_one(name):
  graph, params = small.split(name)
  xs = np.asarray(small.sequence(time=6))
  run = jax.jit(lambda *args: unroll(nnx.merge(graph, params), *args))

  start = small.carry(name)
  middle, first = run(start, xs[:3])
  last, second = run(middle, xs[3:])

  carry, hs = run(start, xs)
  assert_close((last, np.concatenate([first, second])), (carry, hs), rtol=1e-6)


# Padding.

MASK = np.array(
  # Three rows: full, ends early, and with holes from its start on.
  [[1, 1, 0], [1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 1]],
  bool,
)


@pytest.mark.parametrize(
  ('name', 'mask', 'options'),
  [
    ('lstm', MASK, {}),
    # Without a key, zoneout takes means.
    ('hyper_rnn', MASK[:, 1:], small.noise('hyper_rnn')),
  ],
)
def test_padding_changes_neither_outputs_nor_gradients(name, mask, options):
  batch = mask.shape[1]
  graph, args = at(name, batch=batch, **options)
  params, carry, xs, weights = jax.tree.map(np.asarray, args)
  xs = np.where(mask[..., None], xs, 1e3 * xs + 7)  # garbage

  (_, (last, hs)), (params_grad, carry_grad, xs_grad) = jax.tree.map(
    np.asarray, compiled(graph)(params, carry, xs, weights, None, mask)
  )

  total = jax.tree.map(np.zeros_like, params)
  for row in range(batch):
    real = mask[:, row]

    def of_row(carry, hs, row=row, real=real):
      """What a batch of this row alone, without its padding, has there."""
      carry = jax.tree.map(lambda x: x[row : row + 1], carry)
      return carry, hs[real, row : row + 1]

    (_, out), (alone, *grads) = compiled(graph)(
      params, *of_row(carry, xs), of_row(*weights)
    )
    assert_close(of_row(last, hs), out)
    assert_close(of_row(carry_grad, xs_grad), tuple(grads))
    total = jax.tree.map(np.add, total, alone)
  assert_close(params_grad, total)
  assert not np.any(hs[~mask])
  assert not np.any(xs_grad[~mask])


@pytest.mark.parametrize('name', ['lstm', 'ln_hyper_lstm/full/rnn'])
def test_padding_draws_nothing_into_the_rest(name):
  graph, (params, carry, xs, _) = at(name, batch=3, **small.noise(name))
  run = jax.jit(
    lambda *args: unroll(nnx.merge(graph, params), *args, mask=MASK)
  )

  actual, hs = run(carry, xs, KEY)

  garbage = np.where(MASK[..., None], xs, 1e3 * np.asarray(xs) + 7)
  jax.tree.map(
    np.testing.assert_array_equal, run(carry, garbage, KEY), (actual, hs)
  )
  assert not np.any(hs[~MASK])
  # The row without padding has the values that it has without a mask.
  expected, _ = jax.jit(lambda *args: unroll(nnx.merge(graph, params), *args))(
    carry, xs, KEY
  )
  full, ends = (MASK.all(axis=0).argmax(), 1)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[full], b[full], rtol=1e-5),
    *jax.tree.map(np.asarray, (actual, expected)),
  )
  assert not np.allclose(
    *(jax.tree.leaves(x)[0][ends] for x in (actual, expected))
  )


@pytest.mark.parametrize('name', ['rnn', 'lstm', 'hyper_lstm'])
def test_carry_stands_still_where_the_mask_is_false(name):
  graph, (params, carry, xs, _) = at(name, zoneout_h=0.3)

  unmoved, hs = unroll(
    nnx.merge(graph, params), carry, xs, mask=jnp.zeros((5, 2), bool)
  )

  jax.tree.map(np.testing.assert_array_equal, unmoved, carry)
  assert not np.any(hs)


def test_a_mask_of_ones_is_no_mask():
  graph, args = at('lstm', KEY, **small.noise('lstm'))

  actual = compiled(graph)(*args, np.ones((5, 2), bool))

  assert_close(actual, compiled(graph)(*args), rtol=1e-6)


def test_deferral_and_plain_scan_agree_under_a_mask():
  graph, args = at('lstm', KEY, ragged(), **small.noise('lstm'))

  assert_close(compiled(graph)(*args), compiled(graph, False)(*args))


# Cells of one's own.


class Elman(nnx.Module):
  """h_t = tanh(W_x x_t + W_h h_{t-1}), with W_h applied `calls` times."""

  def __init__(self, calls=1):
    self.calls = calls
    self.input = Linear(0.5 * jnp.ones((small.INPUT, 2)))
    self.recurrent = Product(jnp.array([[0.5, -0.2], [0.1, 0.3]]))

  def initial_carry(self, batch_size):
    return jnp.zeros((batch_size, 2))

  def project(self, xs):
    return self.input(xs)

  def step(self, carry, x, key=None):
    h = carry
    for _ in range(self.calls):
      h = self.recurrent(h)
    h = jnp.tanh(x + h)
    return h, h


def elman_gradient(graph, defer, params):
  def loss(params):
    cell = nnx.merge(graph, params)
    _, hs = unroll(cell, cell.initial_carry(2), small.sequence(), defer=defer)
    return jnp.sum(hs**2)

  return jax.grad(loss)(params)


def test_any_module_with_products_can_be_unrolled_jitted_or_not():
  graph, params = nnx.split(Elman())

  actual, expected = (
    elman_gradient(graph, defer, params) for defer in (True, False)
  )
  jitted = jax.jit(elman_gradient, static_argnums=(0, 1))

  assert_close(actual, expected)
  assert_close(jitted(graph, True, params), expected)
  assert np.any(actual['recurrent'].kernel[...])


def test_a_product_that_is_called_twice_a_step_is_an_error():
  with pytest.raises(ValueError, match='this one was twice'):
    elman_gradient(*nnx.split(Elman(calls=2))[:1], True, nnx.state(Elman()))


def test_a_product_that_is_never_called_is_an_error():
  with pytest.raises(ValueError, match='this one never was'):
    elman_gradient(*nnx.split(Elman(calls=0))[:1], True, nnx.state(Elman()))


def test_the_plain_scan_takes_any_number_of_calls():
  graph, params = nnx.split(Elman(calls=2))

  assert np.any(elman_gradient(graph, False, params)['recurrent'].kernel[...])
