"""The loop of kernels against the scan, run by Pallas' interpreter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh

from hyperjax.nn import fused_loop
from hyperjax.nn import unroll as unrolling
from hyperjax.nn.unroll import kernels_of, unroll
from hyperjax.ops import target
from hyperjax.ops.onehot import OneHot
from tests.nn import reference, small
from tests.nn.small import slow

COVERED = ('lstm', 'rnn', 'hyper_lstm/row_scaling/rnn', *small.HYPER_NAMES)


def make(name, *, one_hot=False, masked=False, batch=3, steps=4, **options):
  """A cell of random parameters in parts, and what it is run over."""
  graph, params = nnx.split(small.build(name, **options))
  params = small.random_like(params, 1, 0.5)
  rng = np.random.default_rng(2)
  width = options.get('input_size', small.INPUT)
  shape = steps, batch
  if one_hot:
    xs = OneHot(
      jnp.asarray(rng.integers(width, size=shape), jnp.int32),
      jnp.asarray(rng.uniform(0.5, 2, shape), jnp.float32),
    )
  else:
    xs = jnp.asarray(rng.normal(size=(*shape, width)), jnp.float32)
  cell = nnx.merge(graph, params)
  carry = small.random_like(cell.initial_carry(batch), 3, 0.5)
  mask = jnp.asarray(rng.random(shape) < 0.7) if masked else None
  return graph, (params, carry, xs), mask


def results(graph, args, *, key=None, mask=None, **options):
  """The outputs, and the gradients of a weighted sum of them."""

  def run(params, carry, xs):
    cell = nnx.merge(graph, params)
    return unroll(cell, carry, xs, key, mask=mask, **options)

  weights = small.random_like(jax.eval_shape(run, *args), 4)

  def loss(*args):
    out = run(*args)
    terms = jax.tree.map(lambda x, w: jnp.sum(x * w), out, weights)
    return sum(jax.tree.leaves(terms)), out

  grad = jax.value_and_grad(loss, (0, 1, 2), has_aux=True, allow_int=True)
  (_, out), grads = jax.jit(grad)(*args)
  return out, grads


def assert_close(actual, expected, rtol=1e-5):
  """Leaf by leaf, to within `rtol` of the leaf's largest element."""
  actual, expected = map(jax.tree.leaves_with_path, (actual, expected))
  for (path, a), (_, b) in zip(actual, expected, strict=True):
    assert a.shape == b.shape and a.dtype == b.dtype, path
    if jax.dtypes.issubdtype(a.dtype, np.inexact):
      atol = rtol * np.abs(b).max()
      np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=str(path))


def check(
  name, kernels='interpret', *, noisy=False, rtol=1e-5, length=None, **options
):
  noise = small.noise(name) if noisy else {}
  graph, args, mask = make(name, **noise, **options)
  key = jax.random.key(5) if noisy else None
  run = functools.partial(
    results, graph, args, key=key, mask=mask, length=length
  )
  assert_close(run(kernels=kernels), run(kernels='xla'), rtol)


ODD = {'hidden_size': 130, 'hyper_size': 20}


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('lstm', {}),
    ('ln_hyper_lstm', {'one_hot': True, 'masked': True, 'noisy': True}),
    ('hyper_rnn/row_scaling/lstm', {'masked': True, 'noisy': True}),
    ('ln_rnn', {'one_hot': True, 'batch': 1}),
    slow('ln_lstm', {'one_hot': True, 'noisy': True}),
    slow('ln_hyper_lstm', {'z_size': 1, 'batch': 1, 'input_size': 50, **ODD}),
    # As large as makes the kernels go through N_z in chunks.
    slow(
      'ln_hyper_lstm',
      {'z_size': 64, 'one_hot': True, 'input_size': 205, 'hidden_size': 600},
    ),
    slow('hyper_lstm', {'hidden_size': 9, 'hyper_size': 40, 'z_size': 3}),
    *[
      slow(name, {'masked': masked, 'noisy': noisy, 'one_hot': one_hot})
      for name in COVERED
      for masked, noisy, one_hot in [
        (False, False, False),
        (True, False, True),
        (True, True, False),
      ]
    ],
  ],
)
def test_the_same_numbers_as_the_scan(name, options):
  check(name, **options)


@pytest.mark.parametrize(
  'name', ['hyper_lstm', slow('lstm'), slow('ln_hyper_rnn')]
)
def test_the_same_in_half_precision(name):
  # Some cotangents are rounded once more.
  check(name, dtype='bfloat16', one_hot=True, rtol=1e-2)


def test_chunks_and_ends_are_those_of_the_scan(monkeypatch):
  monkeypatch.setattr(unrolling, 'RAGGED_CHUNK_ROWS', 6)
  check('ln_lstm', steps=5, length=3)


def test_outputs_are_those_of_the_reference():
  graph, (params, carry, xs), _ = make('ln_hyper_lstm')
  cell = nnx.merge(graph, params)
  _, hs = unroll(cell, carry, xs, kernels='interpret')
  _, expected = reference.unroll(
    small.to_reference(nnx.to_pure_dict(params)),
    small.to_reference_carry('ln_hyper_lstm', carry),
    xs,
  )
  np.testing.assert_allclose(hs, expected, rtol=1e-5, atol=1e-6)


def test_seeds_side_by_side_are_those_one_by_one():
  graph, (params, carry, xs), _ = make('hyper_rnn')
  other = small.random_like(params, 7, 0.5)
  both = jax.tree.map(lambda *x: jnp.stack(x), params, other)

  def grads(params):
    def loss(params):
      cell = nnx.merge(graph, params)
      return jnp.sum(unroll(cell, carry, xs, kernels='interpret')[1] ** 2)

    return jax.grad(loss)(params)

  found = jax.jit(jax.vmap(grads))(both)
  for k, one in enumerate((params, other)):
    expected = jax.jit(grads)(one)
    assert_close(jax.tree.map(lambda x: x[k], found), expected)  # noqa: B023


@pytest.mark.parametrize('name', [*COVERED, *small.FULL])
def test_which_cells_are_covered(name):
  cell = nnx.eval_shape(lambda: small.build(name))
  assert fused_loop.covers(cell) == (name in COVERED)


def test_it_is_taken_where_the_target_is_one_gpu():
  cell = nnx.eval_shape(lambda: small.build('lstm'))
  full = nnx.eval_shape(lambda: small.build('hyper_rnn/full/lstm'))

  class Device:
    def __init__(self, platform):
      self.platform = platform

  def chosen(platform, count, cell=cell, **options):
    mesh = Mesh(np.array([Device(platform)] * count), ('data',))
    with target.compiling_for(mesh):
      return kernels_of(cell, **options)

  assert kernels_of(cell) == 'xla'  # tests run on CPUs
  assert chosen('gpu', 1) == 'fused'
  assert chosen('gpu', 2) == chosen('tpu', 1) == chosen('cpu', 1) == 'xla'
  assert chosen('gpu', 1, full) == chosen('gpu', 1, defer=False) == 'xla'
  assert chosen('gpu', 1, kernels='xla') == 'xla'
  assert chosen('cpu', 1, kernels='fused') == 'fused'
  with pytest.raises(ValueError, match="'fused', but there are none"):
    chosen('gpu', 1, full, kernels='fused')
  with pytest.raises(ValueError, match="kernels is 'fast'; it must be one of"):
    chosen('gpu', 1, kernels='fast')


def test_loops_are_told_in_words():
  model = nnx.List(
    nnx.eval_shape(lambda name=name: small.build(name))
    for name in ('hyper_lstm', 'hyper_rnn/full/lstm')
  )

  def told(**options):
    return unrolling.loops_on(target.ONE_GPU, model, options)

  kernels = 'a product and a kernel a time step'
  assert told() == [('0', kernels), ('1', 'a scan')]
  for options in ({'kernels': 'xla'}, {'kernels': 'pallas'}, {'defer': False}):
    assert told(**options) == [('0', 'a scan'), ('1', 'a scan')]
