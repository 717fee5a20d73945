import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.errors import UserError
from hyperjax.nn.conv_kernels import (
  GeneratedKernels,
  KernelGenerator,
  Kernels,
  assemble,
)
from tests.nn.small import random_like

F, N_IN, N_OUT, N_Z = 3, 4, 6, 5


def generator(seed=0, **sizes):
  sizes = {'kernel_size': F, 'z_size': N_Z, **sizes}
  made = KernelGenerator(N_IN, N_OUT, **sizes, key=jax.random.key(seed))
  # With biases, too.
  graph, params = nnx.split(made)
  return nnx.merge(graph, random_like(params, seed))


def test_the_kernel_is_that_of_the_equations():
  made = generator()
  z = np.random.default_rng(0).normal(size=N_Z)
  inner, outer = made.layers.inner, made.layers.outer
  w, b, w_out, b_out = (
    np.float64(p[...])
    for p in (inner.kernel, inner.bias, outer.kernel, outer.bias)
  )
  w = w.reshape(N_Z, N_IN, N_Z).transpose(1, 0, 2)
  b = b.reshape(N_IN, N_Z)

  expected = np.zeros((F, F, N_IN, N_OUT))
  for i in range(N_IN):
    a = np.array(
      [sum(w[i, k, d] * z[k] for k in range(N_Z)) + b[i, d] for d in range(N_Z)]
    )
    for row, column, o in itertools.product(range(F), range(F), range(N_OUT)):
      place = (row * F + column) * N_OUT + o
      expected[row, column, i, o] = a @ w_out[:, place] + b_out[place]

  np.testing.assert_allclose(made(jnp.float32(z[None]))[0], expected, atol=1e-5)


def test_only_its_own_slice_depends_on_a_slice_weight():
  made = generator()

  def kernel(bias):
    params = nnx.to_pure_dict(nnx.state(made))
    params['layers']['inner']['bias'] = bias.reshape(-1)
    return nnx.merge(nnx.graphdef(made), params)(jnp.ones((1, N_Z)))[0]

  bias = made.layers.inner.bias[...].reshape(N_IN, N_Z)
  jacobian = jax.jacobian(kernel)(bias)
  by_slice = np.abs(jacobian).sum((0, 1, 3, 5))  # [N_in of K, N_in of W]
  assert (np.diag(by_slice) > 0).all()
  assert by_slice.sum() == pytest.approx(np.trace(by_slice))


def test_generators_count_what_the_paper_counts():
  def count(n, f, z):
    made = KernelGenerator(n, n, kernel_size=f, z_size=z, key=jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(nnx.state(made)))

  assert count(16, 7, 4) == 4_240  # MNIST
  assert count(16, 3, 64) == 75_920  # CIFAR-10


def test_blocks_are_laid_row_by_row():
  # A 32 x 64 kernel of 16 x 16 blocks: K1..K4 above K5..K8 (Sec. 3.1).
  blocks = jnp.arange(8.0)[:, None, None, None, None] + jnp.zeros(
    (8, 1, 1, 16, 16)
  )
  kernel = np.array(assemble(blocks, 2, 4))[0, 0]
  assert kernel.shape == (32, 64)
  np.testing.assert_array_equal(
    kernel[::16, ::16], [[0, 1, 2, 3], [4, 5, 6, 7]]
  )
  assert (kernel[:16, 16:32] == 1).all() and (kernel[16:, :16] == 4).all()


def test_blocks_keep_their_insides():
  blocks = np.random.default_rng(0).normal(size=(6, 3, 3, 2, 4))
  kernel = assemble(jnp.asarray(blocks), 3, 2)
  np.testing.assert_allclose(kernel[:, :, 2:4, 4:8], blocks[3], rtol=1e-6)
  np.testing.assert_allclose(kernel[:, :, 4:6, 0:4], blocks[4], rtol=1e-6)


def generated(shapes, seed=0, **options):
  options = {'block_size': 2, 'kernel_size': 3, 'z_size': 5, **options}
  return GeneratedKernels(shapes, **options, key=jax.random.key(seed))


def test_each_kernel_is_that_of_its_own_embeddings():
  shapes = [(2, 2), (2, 4), (4, 4)]
  bank = generated(shapes)
  kernels = bank()
  assert [k.shape[2:] for k in kernels] == shapes
  assert bank.embeddings.shape == (1 + 2 + 4, 5)

  # Embedding 5 makes the lower left block of the last kernel, and no other.
  bank.embeddings[...] = bank.embeddings[...].at[5].add(1.0)
  changed = [
    np.any(a != b, (0, 1)) for a, b in zip(kernels, bank(), strict=True)
  ]
  assert not changed[0].any() and not changed[1].any()
  np.testing.assert_array_equal(
    changed[2], np.kron([[0, 0], [1, 0]], np.ones((2, 2), bool)).astype(bool)
  )


def test_all_blocks_come_from_one_product():
  bank = generated([(2, 2), (2, 4), (4, 4)])
  graph, params = nnx.split(bank)
  jaxpr = str(jax.make_jaxpr(lambda p: nnx.merge(graph, p)())(params))
  assert jaxpr.count('dot_general') == 2


@pytest.mark.parametrize('shape', [(16, 24), (3, 16)])
def test_channels_that_are_no_multiple_of_the_block_are_refused(shape):
  with pytest.raises(UserError) as error:
    generated([(16, 16), shape], block_size=16)
  assert str(error.value) == (
    f'config.model.block_size is 16, but a layer has {shape[0]} input and '
    f'{shape[1]} output channels; both must be multiples of the block'
  )


@pytest.mark.parametrize('block_size', [4, 16])
def test_initial_kernels_have_the_deviation_of_he(block_size):
  shapes = [(16, 16)] * 4
  plain = Kernels(shapes, kernel_size=3, key=jax.random.key(0))()
  he = math.sqrt(2 / (9 * 16))
  assert np.std(plain) == pytest.approx(he, rel=0.03)

  deviations = [
    np.std(generated(shapes, seed, block_size=block_size, z_size=32)())
    for seed in range(5)
  ]
  # A block counts its own channels: smaller blocks start larger.
  expected = math.sqrt(2 / (9 * block_size))
  assert np.mean(deviations) == pytest.approx(expected, rel=0.08)
