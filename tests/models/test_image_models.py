"""Networks that see images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.errors import UserError
from hyperjax.models import mlp, mnist_conv, wide_resnet
from tests.ops.test_conv import convolved

KEY = jax.random.key(0)
SIZES = {'image_shape': (8, 8, 3), 'num_classes': 10, 'key': KEY}


def small(hyper=False, **options):
  options = {'depth': 10, 'width': 1, 'z_size': 4, **SIZES, **options}
  return wide_resnet.build(hyper=hyper, **options)


@functools.lru_cache
def split(hyper=False):
  """A network off its initial values: graph, parameters, and the rest."""
  graph, params, rest = nnx.split(small(hyper), nnx.Param, ...)
  rng = np.random.default_rng(1)
  moved = jax.tree.map(
    lambda p: np.float32(p + 0.1 * rng.normal(size=p.shape)), params
  )
  # Pure arrays, for variables may change in the trace they are made in.
  return graph, moved, nnx.to_pure_dict(rest)


@functools.partial(jax.jit, static_argnames=('graph', 'train'))
def run(graph, params, rest, x, kernels=None, *, train):
  """Logits, and the running averages after them."""
  model = nnx.merge(graph, params, rest)
  logits = model(x, train=train, kernels=kernels)
  return logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


@functools.partial(jax.jit, static_argnums=0)
def forward(graph, params, x):
  """Of the other networks."""
  return nnx.merge(graph, params)(x)


def images(batch=4, shape=(8, 8, 3), seed=0):
  rng = np.random.default_rng(seed)
  return np.float32(rng.normal(size=(batch, *shape)))


def conv(x, kernel, stride=1):
  return convolved(x, np.asarray(kernel), stride)


def relu(x):
  return np.maximum(x, 0)


def normalized(x, norm):
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  return (x - mean) / np.sqrt(var + 1e-5) * norm.scale[...] + norm.bias[...]


@pytest.mark.parametrize('hyper', [False, True])
def test_the_residual_network_is_what_it_says(hyper):
  model = nnx.merge(*split(hyper))
  wider = nnx.eval_shape(lambda: small(hyper, width=2).kernels())
  assert [k.shape[2:] for k in wider] == [
    (3, 16),
    *[(16, 32), (32, 32)],
    *[(32, 64), (64, 64)],
    *[(64, 128), (128, 128)],
  ]

  kernels = model.kernels()
  x = conv(images(), kernels[0]) + model.stem_bias[...]
  x = relu(normalized(x, model.stem_norm))
  for stage, block in enumerate(model.blocks):
    stride = 2 if stage else 1
    y = relu(normalized(x, block.norms[0]))
    y = conv(y, kernels[2 * stage + 1], stride) + block.biases[0][...]
    y = relu(normalized(y, block.norms[1]))
    y = conv(y, kernels[2 * stage + 2]) + block.biases[1][...]
    more = y.shape[-1] - x.shape[-1]
    shortcut = x[:, ::stride, ::stride]
    x = y + np.pad(shortcut, [(0, 0)] * 3 + [(0, more)])
  x = relu(normalized(x, model.norm)).mean((1, 2))
  expected = x @ model.head.kernel[...] + model.head.bias[...]

  actual, _ = run(*split(hyper), images(), train=True)

  np.testing.assert_allclose(actual, expected, atol=2e-4)


def test_given_kernels_are_used_and_not_made_again():
  kernels = [np.zeros_like(k) for k in nnx.merge(*split(True)).kernels()]
  logits, _ = run(*split(True), images(), kernels, train=True)
  # Nothing of the images is left.
  np.testing.assert_allclose(logits, logits[:1].repeat(4, 0), atol=1e-6)


def test_running_averages_move_in_training_alone():
  before = split()[2]['norm']['mean']
  for train in (False, True):
    _, after = run(*split(), images(), train=train)
    assert np.any(after['norm']['mean'] != before) == train


def test_evaluation_sees_each_image_alone():
  together, _ = run(*split(), images(), train=False)
  alone, _ = run(*split(), images()[:1], train=False)
  np.testing.assert_allclose(together[:1], alone, atol=1e-5)


@functools.lru_cache
def gradients(hyper, remat=False):
  """Gradients and state of a training loss, and how much was kept for them."""
  _, params, rest = split(hyper)
  graph = nnx.graphdef(nnx.eval_shape(lambda: small(hyper, remat=remat)))

  def loss(params):
    logits, after = run(graph, params, rest, images(), train=True)
    return jnp.sum(jax.nn.log_softmax(logits)[:, 0]), after

  # What a backward pass finds kept. (XLA's CPU backend keeps more again.)
  kept = jax.eval_shape(lambda p: jax.vjp(loss, p, has_aux=True)[1], params)
  size = sum(leaf.size for leaf in jax.tree.leaves(kept))
  return *jax.jit(jax.grad(loss, has_aux=True))(params), size


@pytest.mark.parametrize(
  'hyper', [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_blocks_computed_anew_change_nothing_but_what_is_kept(hyper):
  *plain, large = gradients(hyper)
  *anew, small_size = gradients(hyper, remat=True)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    plain,
    anew,
  )
  assert small_size < 0.7 * large


@pytest.mark.parametrize('depth', [4, 11, 41, 0])
def test_a_depth_that_makes_no_blocks_is_refused(depth):
  with pytest.raises(UserError) as error:
    small(depth=depth)
  assert str(error.value) == (
    f'config.model.depth is {depth}; it must be 6 n + 4: 10, 16, 22, ...'
  )


def test_a_block_size_that_does_not_fit_is_refused():
  with pytest.raises(UserError, match=r'config.model.block_size is 12'):
    small(hyper=True, block_size=12)


@pytest.mark.parametrize('hyper', [False, True])
def test_every_parameter_of_the_residual_network_has_a_gradient(hyper):
  grads, _, _ = gradients(hyper)
  for path, grad in jax.tree.leaves_with_path(grads):
    # Constants before a norm cancel, and most biases of convolutions are so.
    name = jax.tree_util.keystr(path)
    if 'biases' not in name and 'stem_bias' not in name:
      assert np.abs(grad).max() > 1e-6, name


@pytest.mark.parametrize('hyper', [False, True])
def test_the_mnist_network_is_what_it_says(hyper):
  model = mnist_conv.build(
    hyper=hyper, image_shape=(12, 12, 1), num_classes=10, key=KEY
  )
  x = images(shape=(12, 12, 1))
  y = x
  for kernel, bias in zip(model.kernels(), model.biases, strict=True):
    assert kernel.shape[:2] == (7, 7)
    y = relu(conv(y, kernel) + bias[...])
    batch, height, width, channels = y.shape
    y = y.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
  expected = y.reshape(4, -1) @ model.head.kernel[...]

  np.testing.assert_allclose(forward(*nnx.split(model), x), expected, atol=1e-4)


@pytest.mark.parametrize('coordinates', [False, True])
def test_the_mlp_is_what_it_says(coordinates):
  model = mlp.build(
    coordinates=coordinates, image_shape=(5, 6, 1), num_classes=10, key=KEY
  )
  x = images(shape=(5, 6, 1))
  (kernel,) = model.kernels()
  assert kernel.shape == (30, 256)
  hidden = np.maximum(np.float64(x).reshape(4, -1) @ np.float64(kernel), 0)
  expected = hidden @ np.float64(model.head.kernel[...])

  np.testing.assert_allclose(forward(*nnx.split(model), x), expected, atol=1e-4)


def test_coordinates_of_coloured_images_are_refused():
  with pytest.raises(UserError, match='the images have 3 channels'):
    mlp.build(coordinates=True, **SIZES)
