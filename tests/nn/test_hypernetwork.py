import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from hyperjax.errors import UserError
from hyperjax.nn.cells.lstm import LSTM
from hyperjax.nn.hypernetwork import Counts, Hypernetwork
from hyperjax.nn.unroll import unroll
from hyperjax.tasks.functional import Functional
from hyperjax.training import seed_axis
from tests.nn import small

BATCH, CLASSES = 6, 3
KEY = jax.random.key(0)


class CNN(nnx.Module):
  """Two convolutions with all that a module may hold beside kernels."""

  def __init__(self, rngs, rate=0.0):
    self.conv1 = nnx.Conv(2, 4, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
    self.conv2 = nnx.Conv(4, 5, (3, 3), strides=2, rngs=rngs)
    self.dropout = nnx.Dropout(rate, rngs=rngs)
    self.linear = nnx.Linear(45, CLASSES, rngs=rngs)

  def __call__(self, images):
    x = nnx.relu(self.norm(self.conv1(images)))
    x = nnx.relu(self.conv2(x)).reshape(len(images), -1)
    return self.linear(self.dropout(x))


class Tied(nnx.Module):
  """An autoencoder whose two halves hold one kernel."""

  def __init__(self):
    self.decode = nnx.Dict(kernel=nnx.Param(jnp.ones((4, 3))))
    self.encode = nnx.Dict(kernel=self.decode.kernel)
    self.scale = nnx.Param(jnp.ones(4))

  def __call__(self, x):
    h = x @ self.encode.kernel[...] * self.scale[0]
    return h @ self.decode.kernel[...].T


KERNELS = ('conv1/kernel', 'conv2/kernel', 'linear/kernel')
GENERATED = 9 * 2 * 4 + 9 * 4 * 5 + 45 * 3
ORDINARY = 4 + 4 + 4 + 5 + 3


def split(make):
  """What `make` makes, in one program, which compiles faster."""
  graph, _ = nnx.split(nnx.eval_shape(make))
  return graph, jax.jit(lambda: nnx.split(make())[1])()


def made(make):
  return nnx.merge(*split(make))


split_cnn = functools.lru_cache(lambda: split(lambda: CNN(nnx.Rngs(0))))


def cnn():
  return nnx.merge(*split_cnn(), copy=True)


def hyper_of(target, **options):
  """A hypernetwork over `target()`."""
  return made(lambda: Hypernetwork(target(), key=jax.random.key(0), **options))


@functools.lru_cache
def split_hyper_cnn(rate=0.0, **options):
  options = {'z_size': 4, 'chunk_size': 50, 'rows': 5, **options}
  return split(
    lambda: Hypernetwork(
      CNN(nnx.Rngs(0), rate), key=jax.random.key(0), **options
    )
  )


def hyper_cnn(**options):
  return nnx.merge(*split_hyper_cnn(**options), copy=True)


def drawn_hyper_cnn(**options):
  """One whose parameters are any numbers; only the rest is as it is made."""
  options = {'z_size': 4, 'chunk_size': 50, 'rows': 5, **options}
  graph, params, _ = nnx.split(
    nnx.eval_shape(
      lambda: Hypernetwork(CNN(nnx.Rngs(0)), key=jax.random.key(0), **options)
    ),
    nnx.Param,
    ...,
  )
  _, _, rest = nnx.split(hyper_cnn(), nnx.Param, ...)
  return nnx.merge(graph, small.random_like(params, 3, 0.3), rest)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(graph, method, state, args, kwargs):
  module = nnx.merge(graph, state)
  return getattr(module, method)(*args, **kwargs), nnx.state(module)


def run(module, *args, method='__call__', **kwargs):
  """What a call returns and changes, in one program, which compiles faster."""
  graph, state = nnx.split(module)
  out, state = _run(graph, method, state, args, kwargs)
  nnx.update(module, state)
  return out


def generated(hyper, **kwargs):
  return run(hyper, method='generate', **kwargs)


def images(batch=BATCH, seed=1):
  return small.random_like(np.zeros((batch, 6, 6, 2)), seed)


LABELS = jnp.arange(BATCH) % CLASSES


def cross_entropy(logits):
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
  return jnp.mean(losses)


def flat(tree):
  return {
    '/'.join(map(str, path)): value
    for path, value in nnx.to_flat_state(nnx.State(tree))
  }


def train(module, loss, *, steps=30, learning_rate=2e-2):
  """All losses, the trained module, and the first gradients."""
  graph, params, state = nnx.split(module, nnx.Param, ...)
  adam = optax.adam(learning_rate)

  def of_params(params, state):
    # Variables can change only where they were made.
    module = nnx.merge(graph, params, state, copy=True)
    value = loss(module)
    return value, nnx.split(module, nnx.Param, ...)[2]

  def step(carry, _):
    params, state, opt_state = carry
    (value, state), gradients = jax.value_and_grad(of_params, has_aux=True)(
      params, state
    )
    updates, opt_state = adam.update(gradients, opt_state)
    params = optax.apply_updates(params, updates)
    return (params, state, opt_state), (value, gradients)

  @jax.jit
  def run(params, state):
    carry = params, state, adam.init(params)
    return jax.lax.scan(step, carry, length=steps)

  (params, state, _), (losses, gradients) = run(params, state)
  gradients = jax.tree.map(lambda x: x[0], nnx.to_pure_dict(gradients))
  return losses, nnx.merge(graph, params, state), gradients


def assert_all_trained(gradients):
  for path, gradient in flat(gradients).items():
    assert np.any(gradient), path


def test_three_lines_without_jit():
  net = nnx.Sequential(
    nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.BatchNorm(4, rngs=nnx.Rngs(0))
  )
  hyper = Hypernetwork(net, z_size=4, key=jax.random.key(0))
  y = hyper(jnp.ones((2, 3)))

  assert y.shape == (2, 4)
  assert np.abs(hyper.target.layers[1].mean[...]).min() > 0
  assert not np.any(net.layers[1].mean[...])


# Training, through every kind of module.


@pytest.mark.parametrize('options', [{}, {'hidden_sizes': (8,)}], ids=str)
def test_trains_a_batch_norm_cnn(options):
  hyper, xs = hyper_cnn(rate=0.1, **options), images()
  hyper.train()

  losses, trained, gradients = train(hyper, lambda m: cross_entropy(m(xs)))

  assert losses[-1] < 0.2 * losses[0]
  # A bias before batch norm has no gradient but rounding.
  gradients['target']['conv1'].pop('bias')
  assert_all_trained(gradients)
  for name in ('mean', 'var'):
    moved = getattr(trained.target.norm, name)[...]
    assert np.abs(moved - getattr(hyper.target.norm, name)[...]).min() > 1e-3
  assert trained.target.dropout.rngs.count[...] == 30


def rnn():
  return nnx.RNN(
    nnx.OptimizedLSTMCell(small.INPUT, small.HIDDEN, rngs=nnx.Rngs(0))
  )


@functools.lru_cache
def hyper_rnn():
  return hyper_of(rnn, z_size=4, chunk_size=40)


def test_trains_an_lstm_in_nnx_rnn():
  xs = small.sequence(5, BATCH).swapaxes(0, 1)
  hyper = hyper_rnn()

  def loss(module):
    return cross_entropy(module(xs)[:, -1, :CLASSES])

  losses, _, gradients = train(hyper, loss, steps=60)

  assert hyper.counts().generated == small.HIDDEN * 4 * (
    small.INPUT + small.HIDDEN
  )
  assert losses[-1] < 0.4 * losses[0]
  assert_all_trained(gradients)


def hyper_lstm():
  return hyper_of(
    lambda: LSTM(small.INPUT, small.HIDDEN, key=jax.random.key(0)),
    generate='*/kernel',
    z_size=4,
    chunk_size=40,
  )


def unrolled_loss(hyper, xs, **options):
  cell = hyper.materialize()
  _, hs = unroll(cell, cell.initial_carry(BATCH), xs, **options)
  return cross_entropy(hs[-1, :, :CLASSES])


def test_deferred_gradients_reach_the_generator():
  graph, params = nnx.split(hyper_lstm())
  xs = small.sequence(5, BATCH)

  @jax.jit
  def gradients(params):
    return [
      jax.grad(
        lambda p, defer=defer: unrolled_loss(
          nnx.merge(graph, p), xs, defer=defer
        )
      )(params)
      for defer in (True, False)
    ]

  deferred, plain = map(nnx.to_pure_dict, gradients(params))

  assert_all_trained(deferred)
  for path, gradient in flat(plain).items():
    atol = 1e-5 * np.abs(gradient).max()  # as in test_unroll
    np.testing.assert_allclose(
      flat(deferred)[path], gradient, rtol=0, atol=atol, err_msg=path
    )


def test_trains_a_hypernetwork_that_generates_a_hypernetwork():
  inner = hyper_cnn()
  outer = hyper_of(lambda: inner, z_size=3, chunk_size=30)
  xs = images()

  losses, trained, gradients = train(
    outer, lambda m: cross_entropy(m(xs)), steps=40
  )

  # Its kernels: embeddings, and two layers of z to 5 * z and z to 50 / 5.
  chunks = 2 + 4 + 3
  kernels = chunks * 4 + 4 * 20 + 4 * 10
  assert inner.counts() == Counts(kernels + 20 + 10, GENERATED, ORDINARY)
  own = (2 + 3 + 2) * 3 + 3 * 16 * 3 + 16 * 3 + 3 * 2 + 2
  assert outer.counts() == Counts(own, kernels, 20 + 10 + ORDINARY)
  assert losses[-1] < 0.3 * losses[0]
  gradients['target']['target']['conv1'].pop('bias')
  assert_all_trained(gradients)
  norm = trained.target.target.norm
  assert np.abs(norm.mean[...]).min() > 1e-3


def test_each_of_three_nested_hypernetworks_fills_its_own():
  options = {'z_size': 4, 'chunk_size': 50, 'rows': 5}
  innermost = hyper_cnn()
  middle = hyper_of(lambda: innermost, **options)
  outer = hyper_of(lambda: middle, **options)

  without_outer = outer.materialize()

  kernel = without_outer.generator.inner.kernel[...]
  assert kernel.shape == without_outer.target.generator.inner.kernel.shape
  with pytest.raises(UserError, match='is generated'):
    without_outer.target.generator.inner.kernel[...]
  xs = images()
  expected = run(without_outer.materialize().materialize(), xs)
  np.testing.assert_allclose(run(outer, xs), expected, rtol=1e-3, atol=1e-4)


# What is generated, and where it goes.


def test_the_materialized_module_gives_exactly_the_same():
  hyper, xs = hyper_cnn(), images()
  graph, state = nnx.split(hyper)

  @jax.jit
  def outputs(state, xs):
    hyper = nnx.merge(graph, state)
    plain = CNN(nnx.Rngs(5))
    nnx.update(plain, nnx.state(hyper.target), hyper.generate())
    return hyper(xs), hyper.materialize()(xs), plain(xs)

  by_hyper, materialized, plain = outputs(state, xs)

  np.testing.assert_array_equal(by_hyper, materialized)
  np.testing.assert_array_equal(by_hyper, plain)


def test_the_materialized_rnn_gives_exactly_the_same():
  hyper = hyper_rnn()
  graph, state = nnx.split(hyper)

  @jax.jit
  def outputs(state, xs):
    hyper = nnx.merge(graph, state)
    return hyper(xs), hyper.materialize()(xs)

  actual, expected = outputs(state, small.sequence().swapaxes(0, 1))

  np.testing.assert_array_equal(actual, expected)


def test_a_materialized_module_is_a_plain_one_of_its_own():
  hyper, xs = hyper_cnn(), images()
  before = jax.tree.leaves(nnx.state(hyper))

  plain = hyper.materialize()
  run(plain, xs)
  plain.linear.bias[...] += 1

  assert type(plain) is CNN
  assert nnx.graphdef(plain) == nnx.graphdef(cnn())
  assert np.abs(plain.norm.mean[...]).min() > 0
  for a, b in zip(before, jax.tree.leaves(nnx.state(hyper)), strict=True):
    if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      np.testing.assert_array_equal(a, b)


def test_the_given_module_is_left_as_it_is():
  target = cnn()
  before = jax.tree.map(
    np.asarray, nnx.to_pure_dict(nnx.state(target, (nnx.Param, nnx.BatchStat)))
  )
  hyper = Hypernetwork(target, z_size=4, key=jax.random.key(0))

  run(hyper, images())
  hyper.target.linear.bias[...] += 1

  after = nnx.to_pure_dict(nnx.state(target, (nnx.Param, nnx.BatchStat)))
  jax.tree.map(np.testing.assert_array_equal, before, after)
  run(target, images())


def numpy_weights(hyper, params, condition=()):
  """All that is generated, by float64 loops over chunks, in one row."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  generator, result, start = params['generator'], [], 0
  for shape, scale in zip(
    [slot.shape for slot in hyper._slots], hyper._scales, strict=True
  ):
    numbers = []
    while len(numbers) < math.prod(shape):
      x = np.concatenate([params['embeddings'][start], condition])
      start += 1
      if 'layers' in generator:
        layers = [generator['layers'][k] for k in range(2)]
        x = np.maximum(x @ layers[0]['kernel'] + layers[0]['bias'], 0)
        chunk = x @ layers[1]['kernel'] + layers[1]['bias']
        size = len(chunk)
      else:
        inner, outer = generator['inner'], generator['outer']
        rows = hyper.generator.rows
        size = hyper.generator.chunk_size
        kernels = np.split(inner['kernel'], rows, axis=1)
        biases = np.split(inner['bias'], rows)
        chunk = np.concatenate(
          [
            (x @ w + b) @ outer['kernel'] + outer['bias']
            for w, b in zip(kernels, biases, strict=True)
          ]
        )
      numbers.extend(scale * chunk[:size])
    result.append(np.reshape(numbers[: math.prod(shape)], shape))
  assert start == len(params['embeddings'])
  return result


def moved(hyper, seed=3):
  """The parameters off their initial values, such as the biases' zeros."""
  params = nnx.to_pure_dict(nnx.state(hyper, nnx.Param))
  noise = small.random_like(params, seed, 0.1)
  return jax.tree.map(
    lambda x, y: jnp.asarray(np.asarray(x) + np.asarray(y)), params, noise
  )


@pytest.mark.parametrize(
  'options',
  [
    {'chunk_size': 1},
    {'chunk_size': 7},
    {'chunk_size': 7, 'rows': 100},
    {'chunk_size': 72},
    {'chunk_size': 1000},
    {'chunk_size': 7, 'hidden_sizes': (5,)},
    {'chunk_size': 1000, 'hidden_sizes': (5,)},
  ],
  ids=str,
)
def test_chunks_of_any_size_are_laid_out_as_documented(options):
  hyper = drawn_hyper_cnn(**options)

  actual = flat(generated(hyper))

  expected = numpy_weights(hyper, nnx.to_pure_dict(nnx.state(hyper, nnx.Param)))
  assert tuple(actual) == KERNELS
  for kernel, other in zip(actual.values(), expected, strict=True):
    np.testing.assert_allclose(kernel, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('options', [{}, {'hidden_sizes': (4,)}], ids=str)
def test_gradients_are_finite_differences(options):
  hyper = hyper_of(
    lambda: nnx.Linear(3, 2, rngs=nnx.Rngs(0)),
    z_size=3,
    chunk_size=4,
    rows=2,
    **options,
  )
  graph, _, state = nnx.split(hyper, nnx.Param, ...)
  params, x = moved(hyper), small.random_like(np.zeros((5, 3)), 1)

  @jax.jit
  def gradients(params):
    def loss(params):
      return jnp.sum(jnp.sin(nnx.merge(graph, params, state)(x)))

    return jax.grad(loss)(params)

  def numpy_loss(params):
    (kernel,) = numpy_weights(hyper, params)
    bias = np.asarray(params['target']['bias'], np.float64)
    return np.sum(np.sin(np.asarray(x, np.float64) @ kernel + bias))

  params64 = jax.tree.map(lambda x: np.array(x, np.float64), params)
  leaves = flat(params64)
  for path, gradient in flat(gradients(params)).items():
    expected = np.zeros(gradient.shape)
    for index in np.ndindex(gradient.shape):
      kept = leaves[path][index]
      losses = []
      for shift in (1e-5, -1e-5):
        leaves[path][index] = kept + shift
        losses.append(numpy_loss(params64))
      leaves[path][index] = kept
      expected[index] = (losses[0] - losses[1]) / 2e-5
    np.testing.assert_allclose(
      gradient, expected, rtol=1e-3, atol=1e-4, err_msg=path
    )


def test_types_are_those_of_the_target():
  hyper = nnx.eval_shape(
    lambda: Hypernetwork(
      nnx.Linear(3, 2, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
      key=jax.random.key(0),
    )
  )
  plain = nnx.eval_shape(lambda hyper: hyper.materialize(), hyper)

  assert plain.kernel.dtype == jnp.bfloat16
  assert hyper.embeddings.dtype == jnp.float32


def test_the_generator_computes_in_half_precision():
  exact, rounded = (
    jax.tree.leaves(generated(drawn_hyper_cnn(dtype=dtype)))
    for dtype in (jnp.float32, jnp.bfloat16)
  )

  for a, b in zip(exact, rounded, strict=True):
    assert b.dtype == jnp.float32
    error = np.abs(a - b).max() / np.abs(a).max()
    assert 1e-5 < error < 2e-2  # two products of factors with 8 bits


# Which parameters.


@pytest.mark.parametrize(
  ('generate', 'expected'),
  [
    (None, KERNELS),
    ('conv1/kernel', KERNELS[:1]),
    ('*', (
      'conv1/bias', 'conv1/kernel', 'conv2/bias', 'conv2/kernel',
      'linear/bias', 'linear/kernel', 'norm/bias', 'norm/scale',
    )),
    (('conv?/kernel', 'linear/*'), (*KERNELS[:2], 'linear/bias', KERNELS[2])),
    (re.compile(r'conv[2-9]/.*'), ('conv2/bias', 'conv2/kernel')),
  ],
)  # fmt: skip
def test_parameters_are_chosen_by_name(generate, expected):
  hyper = drawn_hyper_cnn(generate=generate)

  assert tuple(flat(nnx.eval_shape(Hypernetwork.generate, hyper))) == expected
  logits = nnx.eval_shape(lambda hyper: hyper(images()), hyper)
  assert logits.shape == (BATCH, CLASSES)
  left = flat(nnx.to_pure_dict(nnx.state(hyper.target, nnx.Param)))
  assert not {*left} & {*expected}
  assert len(left) + len(expected) == 8


def test_what_is_generated_is_no_parameter():
  hyper = hyper_cnn()
  _, params, rest = nnx.split(hyper, nnx.Param, ...)

  names = {*flat(nnx.to_pure_dict(params))}
  assert names == {
    'embeddings',
    *(f'generator/{x}/bias' for x in ('inner', 'outer')),
    *(f'generator/{x}/kernel' for x in ('inner', 'outer')),
    *(f'target/{x}/bias' for x in ('conv1', 'conv2', 'linear', 'norm')),
    'target/norm/scale',
  }
  assert not any(name.endswith('kernel') for name in flat(rest))
  assert hyper.counts() == Counts(
    own=sum(x.size for x in jax.tree.leaves(params)) - ORDINARY,
    generated=GENERATED,
    ordinary=ORDINARY,
  )
  adam = nnx.Optimizer(hyper, optax.adam(1e-3), wrt=nnx.Param)
  assert {*flat(nnx.to_pure_dict(nnx.state(adam)))} >= {
    'opt_state/0/mu/embeddings'
  }


def test_parameters_in_lists_and_dicts():
  class Many(nnx.Module):
    def __init__(self):
      self.a = nnx.List([nnx.Param(jnp.ones((2, 2))) for _ in range(11)])
      self.b = nnx.data([{'c': nnx.Param(jnp.ones((2, 3)))}])

    def __call__(self, x):
      for kernel in self.a:
        x = x @ kernel[...]
      return x @ self.b[0]['c'][...]

  hyper = hyper_of(Many, generate=['a/1*', 'b/*'], z_size=4)

  kernels = jax.tree.map(np.asarray, generated(hyper))
  y = run(hyper, jnp.eye(2))

  assert [*kernels['a']] == [1, 10]
  assert kernels['b'][0]['c'].shape == (2, 3)
  expected = np.eye(2)
  for k in range(11):
    expected = expected @ kernels['a'].get(k, np.ones((2, 2)))
  np.testing.assert_allclose(y, expected @ kernels['b'][0]['c'], rtol=1e-4)


@pytest.mark.parametrize('name', ['encode/kernel', 'decode/kernel'])
def test_tied_parameters_are_generated_once(name):
  hyper = hyper_of(Tied, generate=name, z_size=4, chunk_size=5)
  x = small.random_like(np.zeros((2, 4)), 1)

  kernels = generated(hyper)
  y = run(hyper, x)

  assert [*flat(kernels)] == ['decode/kernel']
  assert hyper.counts()[1:] == (12, 4)
  plain = hyper.materialize()
  assert plain.encode.kernel is plain.decode.kernel
  kernel, x = np.asarray(kernels['decode']['kernel']), np.asarray(x)
  np.testing.assert_allclose(y, x @ kernel @ kernel.T, rtol=1e-4)


# Under the transforms and helpers of the house.


def test_counts_of_an_abstract_module():
  abstract = nnx.eval_shape(
    lambda: Hypernetwork(
      CNN(nnx.Rngs(0)), hidden_sizes=(8,), z_size=4, chunk_size=50, key=KEY
    )
  )

  assert abstract.counts() == hyper_cnn(hidden_sizes=(8,)).counts()
  assert isinstance(abstract.embeddings.get_value(), jax.ShapeDtypeStruct)


def test_round_trip_through_functional():
  def make(key):
    return Hypernetwork(CNN(nnx.Rngs(0)), z_size=4, key=key)

  model = Functional(make)
  variables = model.init(jax.random.key(3))
  xs = images()

  @jax.jit
  def step(params, state):
    module = model.merge(params, state)
    return module(xs), model.state_of(module)

  logits, state = step(*variables)

  hyper = made(lambda: make(jax.random.key(3)))
  np.testing.assert_allclose(logits, run(hyper, xs), rtol=1e-3, atol=1e-4)
  assert jax.tree.structure(state) == jax.tree.structure(variables.state)
  old, new = (x['target']['norm']['mean'] for x in (variables.state, state))
  assert np.abs(new - old).min() > 1e-4
  np.testing.assert_allclose(
    new, hyper.target.norm.mean[...], rtol=1e-4, atol=1e-6
  )


def test_seeds_side_by_side():
  model = Functional(
    lambda key: Hypernetwork(
      CNN(nnx.Rngs(0), 0.5), z_size=4, chunk_size=50, key=key
    )
  )
  seeds, xs = seed_axis.of(7, 3), images()

  def loss_of(params, state):
    def loss(params):
      module = model.merge(params, state)
      return cross_entropy(module(xs)), model.state_of(module)

    return jax.value_and_grad(loss, has_aux=True)(params)

  @jax.jit
  def side_by_side():
    variables = seed_axis.init(seeds, lambda s: model.init(jax.random.key(s)))
    return seed_axis.over(seeds, loss_of, 0, 0)(*variables)

  actual = side_by_side()

  one = jax.jit(lambda s: loss_of(*model.init(jax.random.key(s))))
  for place, seed in enumerate(seeds):
    (loss, _), gradients = one(seed)
    (other_loss, _), others = seed_axis.take(actual, place, seeds)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (others, gradients)), strict=True):
      atol = 1e-4 * max(np.abs(b).max(), 1e-3)
      np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_closed_over_by_jit_and_vmap_in_evaluation():
  hyper, xs = hyper_cnn(rate=0.5), images()
  hyper.eval()

  expected = run(hyper, xs)

  jitted = jax.jit(hyper)(xs)
  np.testing.assert_allclose(jitted, expected, rtol=1e-4, atol=1e-5)
  stacked = jax.jit(jax.vmap(hyper))(xs[:, None])[:, 0]
  np.testing.assert_allclose(stacked, expected, rtol=1e-4, atol=1e-5)


def test_train_and_eval_reach_the_target():
  hyper, xs = hyper_cnn(rate=0.5), images()

  def outputs(hyper):
    before = np.asarray(hyper.target.norm.mean[...])
    first, second = run(hyper, xs), run(hyper, xs)
    return (
      bool(np.any(first != second)),
      bool(np.any(before != hyper.target.norm.mean[...])),
    )

  hyper.eval()
  assert outputs(hyper) == (False, False)
  hyper.train()
  assert outputs(hyper) == (True, True)
  still = nnx.view(hyper, deterministic=True, use_running_average=True)
  assert outputs(still) == (False, False)
  assert outputs(hyper) == (True, True)


def test_generation_makes_nothing_larger_than_what_it_generates():
  class Wide(nnx.Module):
    """About the kernels of a wide residual network, WRN-28-10."""

    def __init__(self):
      shapes = [(3, 3, 640, 640)] * 7 + [(3, 3, 320, 320)] * 7
      shapes += [(3, 3, 160, 160)] * 7
      self.kernels = nnx.List(nnx.Param(jnp.zeros(s)) for s in shapes)

  model = Functional(lambda key: Hypernetwork(Wide(), key=key))
  generated = model.abstract.counts().generated
  assert generated > 30e6
  variables = jax.eval_shape(model.init, jax.random.key(0))

  def loss(params):
    kernels = jax.tree.leaves(model.merge(params, variables.state).generate())
    return sum(jnp.sum(kernel**2) for kernel in kernels)

  jaxpr = jax.make_jaxpr(jax.grad(loss))(variables.params)
  sizes = [
    math.prod(x.aval.shape)
    for jaxpr in [jaxpr.jaxpr]
    for equation in jaxpr.eqns
    for x in equation.outvars
  ]

  assert generated <= max(sizes) <= 1.01 * generated
  # All chunks, and what is cut of them; forward and back.
  assert sum(size >= 0.99 * generated for size in sizes) <= 6


# Weights that depend on a task or a condition.

CONDITIONED = {'condition_size': 3, 'hidden_sizes': (8,)}
TASKS = {'num_tasks': 4, 'hidden_sizes': (8,)}


def conditions(batch=BATCH):
  return small.random_like(np.zeros((batch, 3)), 5)


@pytest.mark.parametrize('chunk_size', [7, 1000])
def test_a_condition_is_read_beside_the_embedding(chunk_size):
  hyper = drawn_hyper_cnn(chunk_size=chunk_size, **CONDITIONED)
  params = nnx.to_pure_dict(nnx.state(hyper, nnx.Param))
  condition = conditions()[0]

  actual = flat(generated(hyper, condition=condition))

  expected = numpy_weights(hyper, params, np.asarray(condition))
  for kernel, other in zip(actual.values(), expected, strict=True):
    np.testing.assert_allclose(kernel, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['condition', 'task'])
def test_weights_for_each_example_equal_a_loop(name):
  hyper = hyper_cnn(**(CONDITIONED if name == 'condition' else TASKS))
  hyper.eval()
  batch = conditions() if name == 'condition' else jnp.arange(BATCH) % 4
  xs = images()

  @jax.jit
  def one_by_one(xs, one):
    return hyper.materialize(**{name: one})(xs)

  actual = run(hyper, xs, **{name: batch})
  stacked = flat(generated(hyper, **{name: batch}))

  assert actual.shape == (BATCH, CLASSES)
  for k, one in enumerate(batch):
    expected = one_by_one(xs[k : k + 1], one)[0]
    np.testing.assert_allclose(actual[k], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
      run(hyper, xs[k : k + 1], **{name: one})[0],
      expected,
      rtol=1e-4,
      atol=1e-5,
    )
    for path, kernel in flat(generated(hyper, **{name: one})).items():
      np.testing.assert_allclose(stacked[path][k], kernel, rtol=1e-4, atol=1e-5)
  assert np.abs(actual[0] - run(hyper, xs[:1], **{name: batch[1]})).max() > 1e-2


def test_tasks_are_learned_apart():
  hyper, xs = hyper_cnn(**TASKS), images()
  hyper.eval()
  tasks = jnp.array([0, 1, 3, 0, 1, 3])

  losses, _, gradients = train(
    hyper, lambda m: cross_entropy(m(xs, task=tasks)), steps=30
  )

  assert losses[-1] < 0.3 * losses[0]
  seen = np.any(gradients['tasks'], axis=1)
  np.testing.assert_array_equal(seen, [True, True, False, True])


def test_one_condition_moves_batch_statistics():
  hyper = hyper_cnn(**CONDITIONED)

  run(hyper, images(), condition=conditions()[0])

  assert np.abs(hyper.target.norm.mean[...]).min() > 1e-4


def test_batch_statistics_cannot_move_with_weights_for_each_example():
  hyper = hyper_cnn(**CONDITIONED)

  with pytest.raises(UserError, match=r"changes 'norm/mean'.*eval\(\)"):
    run(hyper, images(), condition=conditions())

  hyper.eval()
  run(hyper, images(), condition=conditions())
  assert not np.any(hyper.target.norm.mean[...])


class Noisy(nnx.Module):
  def __init__(self, rngs):
    self.kernel = nnx.Param(jnp.eye(50))
    self.dropout = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x, key=None, *, shift=0.0):
    x = self.dropout(x @ self.kernel[...])
    if key is not None:
      x = x * jax.random.bernoulli(key, 0.5, x.shape)
    return x + shift


def test_examples_have_dropout_of_their_own():
  hyper = hyper_of(lambda: Noisy(nnx.Rngs(0)), **CONDITIONED)
  same = jnp.tile(conditions()[:1], (BATCH, 1))
  xs = jnp.ones((BATCH, 50))

  first, second = (run(hyper, xs, condition=same) != 0 for _ in range(2))

  assert abs(first.mean() - 0.5) < 0.12  # 300 draws: standard error 0.029
  for one, other in [(first[0], first[1]), (first, second)]:
    assert 0.2 < np.mean(one == other) < 0.8
  again = nnx.clone(hyper)
  np.testing.assert_array_equal(
    run(again, xs, condition=same), run(hyper, xs, condition=same)
  )
  hyper.eval()
  count = int(hyper.target.dropout.rngs.count[...])
  still = jax.jit(lambda xs: hyper(xs, condition=same))(xs)
  np.testing.assert_allclose(still, jnp.tile(still[:1], (BATCH, 1)), rtol=1e-5)
  assert hyper.target.dropout.rngs.count[...] == count


def test_keys_are_split_and_scalars_shared_among_examples():
  hyper = hyper_of(lambda: Noisy(nnx.Rngs(0)), **CONDITIONED)
  hyper.eval()
  same = jnp.tile(conditions()[:1], (BATCH, 1))
  xs, key = jnp.ones((BATCH, 50)), jax.random.key(1)

  drawn = run(hyper, xs, key, condition=same, shift=2.0) != 2.0
  keys = jax.random.split(key, BATCH)
  given = run(hyper, xs, keys, condition=same, shift=2.0)

  assert 0.2 < np.mean(drawn[0] == drawn[1]) < 0.8
  np.testing.assert_array_equal(given != 2.0, drawn)


# Initial weights.


class Layers(nnx.Module):
  """Kernels whose fans differ by their shapes and owners."""

  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 8, (3, 5), rngs=rngs)
    self.conv_1d = nnx.Conv(4, 6, 3, rngs=rngs)
    self.dense = nnx.Linear(12, 20, rngs=rngs)
    self.heads = nnx.LinearGeneral(6, (4, 5), use_bias=False, rngs=rngs)
    self.lstm = nnx.OptimizedLSTMCell(5, 7, rngs=rngs)
    self.mine = nnx.Param(jnp.ones((9, 11)), fans=(2, 3))
    self.raw = nnx.Param(jnp.ones((3, 3, 4, 8)))
    self.stack = nnx.Param(jnp.ones((6, 4, 8)))
    self.vector = nnx.Param(jnp.ones(40))


FANS = {
  'conv/kernel': (45, 120),
  'conv_1d/kernel': (12, 18),
  'dense/kernel': (12, 20),
  'heads/kernel': (6, 20),
  'lstm/dense_h/kernel': (7, 28),
  'lstm/dense_i/kernel': (5, 28),
  'mine': (2, 3),
  'raw': (36, 72),
  'stack': (4, 8),
  'vector': (40, 40),
}


def second_moments(target, num_seeds=400, **options):
  """The mean square of each parameter, and that of each seed's own mean."""
  model = Functional(lambda key: Hypernetwork(target(), key=key, **options))

  def squares(key):
    weights = model.merge(*model.init(key)).generate()
    return jax.tree.map(lambda x: jnp.mean(x**2), weights)

  keys = jax.random.split(jax.random.key(0), num_seeds)
  values = jax.jit(jax.vmap(squares))(keys)
  return {path: value.mean() for path, value in flat(values).items()}


@pytest.mark.parametrize(
  'options',
  [
    {'init': 'hyperfan_in'},
    {'init': 'hyperfan_out', 'gain': 2.0, 'z_size': 8, 'chunk_size': 40},
    {'init': 'hyperfan_in', 'gain': 2.0, 'hidden_sizes': (64, 96)},
    {'init': 'hyperfan_out', 'hidden_sizes': (), 'z_size': 24},
  ],
  ids=str,
)
def test_hyperfan_variance_is_that_of_the_targets_layer(options):
  options = {'chunk_size': 17, 'z_size': 32, 'rows': 4, **options}
  moments = second_moments(
    lambda: Layers(nnx.Rngs(0)), generate=[*FANS], **options
  )

  assert {*moments} == {*FANS}
  for path, fans in FANS.items():
    fan = fans[options['init'] == 'hyperfan_out']
    ratio = moments[path] * fan / options.get('gain', 1.0)
    # The chunks of a tensor share a generator, so a seed's mean square has a
    # deviation of up to a half; of 400, 0.025.
    assert abs(math.sqrt(ratio) - 1) < 0.05, path


def test_a_condition_keeps_the_variance():
  model = Functional(
    lambda key: Hypernetwork(
      nnx.Linear(12, 20, rngs=nnx.Rngs(0)),
      z_size=8,
      chunk_size=40,
      condition_size=24,
      hidden_sizes=(64,),
      key=key,
    )
  )

  def square(key):
    condition_key, key = jax.random.split(key)
    condition = jax.random.normal(condition_key, (24,))
    hyper = model.merge(*model.init(key))
    return jnp.mean(hyper.generate(condition)['kernel'] ** 2)

  keys = jax.random.split(jax.random.key(0), 400)
  ratio = 12 * jax.jit(jax.vmap(square))(keys).mean()
  assert abs(math.sqrt(ratio) - 1) < 0.05


def test_the_papers_initial_weights():
  hyper = hyper_cnn(init='paper', z_size=64, chunk_size=10)
  hidden = hyper_cnn(init='paper', z_size=64, hidden_sizes=(80,))
  kernels = [
    hyper.generator.inner.kernel[...],
    *(layer.kernel[...] for layer in hidden.generator.layers),
  ]

  for kernel in kernels:
    # Of a normal cut at two deviations: 0.8796 of its deviation.
    assert abs(np.std(kernel) / 0.0088 - 1) < 0.05
    assert np.abs(kernel).max() <= 0.02
  assert abs(np.std(hyper.embeddings[...]) - 1) < 0.05
  assert not np.any(hyper.generator.outer.bias[...])
  assert {*hyper._scales, *hidden._scales} == {1.0}


# What a user can mend.


class Listed(nnx.Module):
  def __init__(self):
    self.pair = nnx.data((nnx.Param(jnp.ones((2, 2))),))


class Whole(nnx.Module):
  def __init__(self):
    self.table = nnx.Param(jnp.ones((2, 2), jnp.int32))
    self.kernel = nnx.Param(jnp.ones((2, 2)))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'generate': 'conv1/kernal'}, "matches 'conv1/kernal'; did you mean"),
    ({'generate': ['*', re.compile('x.*')]}, "matches 'x.*'"),
    ({'generate': 'norm/mean'}, "no parameter.*matches 'norm/mean'"),
    ({'generate': []}, 'generate: the list is empty'),
    ({'init': 'hyperfan'}, "init: no 'hyperfan'; did you mean 'hyperfan_in'"),
    ({'chunk_size': 0}, 'chunk_size is 0; it must be 1 or more'),
    ({'hidden_sizes': (4, 0)}, r'hidden_sizes\[1\] is 0'),
    ({'num_tasks': 2}, r'hidden_sizes: .* give, say, hidden_sizes=\(64,\)'),
    ({**TASKS, **CONDITIONED}, 'num_tasks and condition_size are both given'),
    ({'target': CNN}, 'target is of type .*; it must be an nnx.Module'),
    ({'target': nnx.BatchNorm(3, rngs=nnx.Rngs(0))}, 'target: it has no'),
    ({'target': Listed()}, "target: 'pair/0' is in a container"),
    ({'target': Whole(), 'generate': '*'}, "'table' is of type int32"),
  ],
  ids=lambda x: x if isinstance(x, str) else None,
)
def test_arguments_that_do_not_fit(options, message):
  options = {'target': cnn(), 'key': jax.random.key(0), **options}
  with pytest.raises(UserError, match=message):
    Hypernetwork(options.pop('target'), **options)


def test_whole_numbers_are_not_generated_by_default():
  hyper = hyper_of(Whole)

  assert [*generated(hyper)] == ['kernel']
  assert hyper.target.table.dtype == jnp.int32


@pytest.mark.parametrize(
  ('made_with', 'call', 'message'),
  [
    ({}, {'task': 0}, 'task: the weights do not depend on it.*num_tasks'),
    (TASKS, {}, 'task: the weights depend on it'),
    (TASKS, {'condition': np.ones(3)}, 'condition: the weights do not'),
    (TASKS, {'task': 4}, 'task is 4; it must be one of 0 ... 3'),
    (TASKS, {'task': np.zeros(6)}, 'and type float32; it must be an integer'),
    (CONDITIONED, {}, 'condition: the weights depend on it'),
    (CONDITIONED, {'condition': np.ones(4)}, r'shape \(4,\); it must be \[3\]'),
    (CONDITIONED, {'condition': np.ones((5, 3))}, 'for 5 conditions'),
  ],
)  # fmt: skip
def test_calls_that_do_not_fit(made_with, call, message):
  hyper = hyper_cnn(**made_with)
  hyper.eval()

  with pytest.raises(UserError, match=message):
    hyper(images(), **call)


def test_a_task_out_of_range_gives_no_numbers():
  hyper = hyper_cnn(**TASKS)

  weights = generated(hyper, task=jnp.array(4))

  assert np.all(np.isnan(weights['conv1']['kernel']))


def test_other_misuse():
  hyper = hyper_cnn(**CONDITIONED)

  with pytest.raises(UserError, match='materialize: one module has one set'):
    hyper.materialize(conditions())
  with pytest.raises(UserError, match="'conv1/kernel' is generated"):
    run(hyper.target, images())
  hyper.eval()
  with pytest.raises(UserError, match='a Rngs cannot be shared'):
    hyper(images(), nnx.Rngs(0), condition=conditions())
  summed = hyper_of(
    lambda: nnx.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), jnp.sum),
    **CONDITIONED,
  )
  with pytest.raises(UserError, match='results need a leading batch axis'):
    run(summed, jnp.ones((BATCH, 2)), condition=conditions())
