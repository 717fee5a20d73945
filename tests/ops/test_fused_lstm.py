import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from hyperjax.ops import fused_lstm
from hyperjax.ops.fused_lstm import norm_lstm_update
from hyperjax.ops.lstm import lstm_update
from hyperjax.ops.norm import layer_norm
from tests.nn import reference, small

# JAX 0.11 announced that Pallas' Triton backend will go.
pytestmark = pytest.mark.filterwarnings(
  'ignore:The Pallas Triton backend:DeprecationWarning'
)

# Sizes off the powers of two, batches off the blocks, neither, several blocks;
# and a matrix as large as that of the statistics.
SHAPES = [(3, 5), (5, 130), (8, 16), (19, 500), (4, 10)]
KEEP_PROB = 0.7


def random(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return np.float32(rng.normal(size=shape))


def arguments(batch, size):
  return (
    [random(batch, size, seed=k) for k in range(4)],
    random(batch, size, seed=4),
    1 + 0.3 * random(4, size, seed=5),
    0.3 * random(4, size, seed=6),
    1 + 0.3 * random(size, seed=7),
    0.3 * random(size, seed=8),
  )


def mask(batch, size):
  return random(batch, size, seed=9) > -0.5


def fused(*args, keep=None, interpret=True):
  return norm_lstm_update(
    *args,
    forget_bias=0.5,
    keep=keep,
    keep_prob=1.0 if keep is None else KEEP_PROB,
    interpret=interpret,
  )


def by_xla(gates, c, gate_scale, gate_bias, cell_scale, cell_bias, keep=None):
  i, g, f, o = (
    layer_norm(y, scale, bias)
    for y, scale, bias in zip(gates, gate_scale, gate_bias, strict=True)
  )
  if keep is None:
    return lstm_update(
      [i, g, f, o],
      c,
      norm_cell=lambda c: layer_norm(c, cell_scale, cell_bias),
      forget_bias=0.5,
    )
  # `lstm_update` draws its mask itself.
  candidate = jnp.where(keep, jnp.tanh(g) / KEEP_PROB, 0.0)
  c = jax.nn.sigmoid(f + 0.5) * c + jax.nn.sigmoid(i) * candidate
  normed = layer_norm(c, cell_scale, cell_bias)
  return c, jax.nn.sigmoid(o) * jnp.tanh(normed)


@functools.lru_cache
def expected_of(shape, dropout):
  args = arguments(*shape)
  cotangents = random(*shape, seed=10), random(*shape, seed=11)
  keep = mask(*shape) if dropout else None
  rest = args, cotangents, keep
  return rest, with_gradients(by_xla, *rest)


def with_gradients(update, args, cotangents, keep):
  def run(*args):
    out, pull_back = jax.vjp(lambda *args: update(*args, keep=keep), *args)
    return out, pull_back(cotangents)

  return jax.jit(run)(*args)


CASES = [
  *itertools.product(['cuda', 'tpu'], SHAPES, [True]),
  *itertools.product(['cuda', 'tpu'], SHAPES[-2:], [False]),
]


@pytest.mark.parametrize(
  ('layout', 'shape', 'dropout'),
  small.some_of(
    CASES,
    ('cuda', (5, 130), True),
    ('cuda', (8, 16), True),
    ('cuda', (19, 500), True),
    ('cuda', (4, 10), False),
    ('tpu', (3, 5), True),
    ('tpu', (19, 500), True),
    ('tpu', (4, 10), False),
  ),
)
def test_equals_the_xla_path(shape, dropout, layout, monkeypatch):
  monkeypatch.setattr(fused_lstm, 'INTERPRETED', layout)
  args, expected = expected_of(shape, dropout)

  actual = with_gradients(fused, *args)

  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert a.shape == b.shape
    largest = np.abs(b).max()
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize('dropout', [False, True])
def test_equals_the_reference(dropout):
  args = arguments(3, 5)
  keep = mask(3, 5) if dropout else None

  actual = norm_lstm_update(
    *args, keep=keep, keep_prob=KEEP_PROB, interpret=True
  )

  gates, c, *parameters = jax.tree.map(lambda x: np.asarray(x, float), args)
  gain, bias = (
    dict(zip('igfoc', (*of_gates, of_cell), strict=True))
    for of_gates, of_cell in zip(parameters[:2], parameters[2:], strict=True)
  )
  factor = np.ones((3, 5)) if keep is None else np.asarray(keep) / KEEP_PROB
  for row in range(3):
    h, new_c = reference.gates_to_state(
      {'gain': gain, 'bias': bias},
      {name: y[row] for name, y in zip('igfo', gates, strict=True)},
      c[row],
      keep=factor[row],
    )
    np.testing.assert_allclose(actual[0][row], new_c, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(actual[1][row], h, rtol=1e-5, atol=1e-6)


def test_epsilon_and_the_seed_axis():
  args = arguments(3, 5)
  both = jax.tree.map(lambda x: np.stack([x, 2 * x]), args)

  def total(*args):
    return jnp.sum(norm_lstm_update(*args, epsilon=0.5, interpret=True)[1])

  values, gradients = jax.jit(jax.vmap(jax.value_and_grad(total)))(*both)

  alone = jax.jit(jax.value_and_grad(total))
  for k in range(2):
    one = jax.tree.map(lambda x: x[k], both)  # noqa: B023
    value, gradient = alone(*one)
    np.testing.assert_allclose(values[k], value, rtol=1e-5)
    for a, b in zip(gradients, gradient, strict=True):
      np.testing.assert_allclose(a[k], b, rtol=1e-4, atol=1e-6)
  usual = jnp.sum(norm_lstm_update(*args, interpret=True)[1])
  assert abs(values[0] - usual) > 1e-3


# Lowering is all that a machine without an accelerator can try.

TARGETS = {'cuda': '@__gpu$xla.gpu.triton', 'tpu': '@tpu_custom_call'}
lowers = pytest.mark.parametrize('platform', TARGETS)


def kernels_in(function, args, platform):
  """How many kernels the program has, made for a platform."""
  exported = export.export(
    jax.jit(function),
    platforms=[platform],
    # No promise that a saved program can be read by later versions.
    disabled_checks=[
      export.DisabledSafetyCheck.custom_call(TARGETS['cuda'][1:])
    ],
  )(*jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args))
  return exported.mlir_module().count(TARGETS[platform])


@lowers
@pytest.mark.parametrize(
  ('shape', 'dropout'),
  [
    ((128, 1000), False),
    ((5, 130), True),
    pytest.param((128, 1000), True, marks=pytest.mark.slow),
  ],
)
def test_lowers(shape, dropout, platform):
  small.skip_without_gpu(platform)
  args = (*arguments(*shape), mask(*shape))

  def loss(*args):
    keep = args[-1] if dropout else None
    c, h = fused(*args[:-1], keep=keep, interpret=False)
    return jnp.sum(c * c) + jnp.sum(h)

  if dropout:
    assert kernels_in(loss, args, platform) == 1
  gradient = jax.value_and_grad(loss, argnums=range(6))
  assert kernels_in(gradient, args, platform) == 2


@pytest.mark.parametrize(
  ('place', 'value', 'message'),
  [
    (0, [random(3, 5)] * 3, 'takes 4 gates and c of .* not 3'),
    (0, [random(3, 5)] * 3 + [random(3, 6)], r'gates\[3\] is float32\[3, 6\]'),
    (1, random(3, 6), r'gates\[0\] .* must be float32\[3, 6\]'),
    (1, random(5), 'takes 4 gates and c of'),
    (1, random(3, 5).astype(jnp.bfloat16), 'c is bfloat16'),
    (2, random(5), r'gate_scale .* must be float32\[4, 5\]'),
    (3, random(4, 1), r'gate_bias .* must be float32\[4, 5\]'),
    (4, random(1, 5), r'cell_scale .* must be float32\[5\]'),
    (5, random(6), r'cell_bias .* must be float32\[5\]'),
  ],
)
def test_wrong_shapes_are_named(place, value, message):
  args = list(arguments(3, 5))
  args[place] = value
  with pytest.raises(ValueError, match=message):
    norm_lstm_update(*args, interpret=True)


@pytest.mark.parametrize('keep', [mask(3, 6), random(3, 5)])
def test_a_wrong_mask_is_named(keep):
  with pytest.raises(ValueError, match=r'keep is .* must be bool\[3, 5\]'):
    norm_lstm_update(*arguments(3, 5), keep=keep, interpret=True)
