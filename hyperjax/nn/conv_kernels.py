"""Convolution kernels: owned by a network, or generated (paper, Sec. 3.1)."""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from hyperjax.errors import UserError
from hyperjax.nn.chunk_generators import TwoLayer


class Kernels(nnx.Module):
  """Ordinary kernels, one a layer; He et al. (2015) initial weights.

  Args:
    shapes: (N_in, N_out) of each layer.
    kernel_size: f.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self, shapes: Sequence[tuple[int, int]], *, kernel_size: int, key: Array
  ):
    init = jax.nn.initializers.he_normal()
    keys = jax.random.split(key, len(shapes))
    self.kernels = nnx.List(
      nnx.Param(init(key, (kernel_size, kernel_size, *shape)))
      for key, shape in zip(keys, shapes, strict=True)
    )

  def __call__(self) -> list[Array]:
    """The kernel of each layer, [f, f, N_in, N_out]."""
    return [kernel[...] for kernel in self.kernels]


class KernelGenerator(nnx.Module):
  """The paper's two-layer linear hypernetwork (Eq. 2): an embedding's kernel.

      a_i = W_i z + B_i                     for each input channel i
      K_i = <W_out, a_i> + B_out            in R^{f x N_out f}

  W_out and B_out are shared by all i. Slices are those of the input channel,
  as in the paper (the authors' notebook slices the output channel).

  At first the elements of a kernel have the deviation that He et al. (2015)
  give a layer with N_in channels, if those of z have deviation 1: the paper is
  silent on this.

  Args:
    in_size: N_in of the block.
    out_size: N_out of the block.
    kernel_size: f.
    z_size: N_z.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self,
    in_size: int,
    out_size: int,
    *,
    kernel_size: int,
    z_size: int,
    key: Array,
  ):
    self.shape = in_size, kernel_size, kernel_size, out_size
    self.layers = TwoLayer(
      z_size,
      math.prod(self.shape),
      rows=in_size,
      init='hyperfan_in',  # of deviation 1
      dtype=jnp.float32,
      key=key,
    )
    he = math.sqrt(2 / (kernel_size * kernel_size * in_size))
    self.layers.outer.kernel[...] = he * self.layers.outer.kernel[...]

  def __call__(self, zs: Array) -> Array:
    """[N, N_z] -> [N, f, f, N_in, N_out]."""
    slices = self.layers(zs).reshape(len(zs), *self.shape)
    return slices.transpose(0, 2, 3, 1, 4)


class GeneratedKernels(nnx.Module):
  """The kernels of many layers from one generator, in one batched call.

  A kernel larger than the generator's block is a grid of blocks, each of an
  embedding of its own, in row-major order: rows are blocks of the input
  channels, columns those of the output channels.

  Args:
    shapes: (N_in, N_out) of each layer, multiples of the block.
    block_size: channels in and out of the block.
    kernel_size: f.
    z_size: N_z.
    key: PRNG key of the initial weights.

  Raises:
    UserError: the channels of a layer are no multiple of the block.
  """

  def __init__(
    self,
    shapes: Sequence[tuple[int, int]],
    *,
    block_size: int = 16,
    kernel_size: int,
    z_size: int,
    key: Array,
  ):
    for shape in shapes:
      if any(size % block_size for size in shape):
        raise UserError(
          f'config.model.block_size is {block_size}, but a layer has '
          f'{shape[0]} input and {shape[1]} output channels; both must be '
          f'multiples of the block'
        )
    self.grids = tuple((n // block_size, m // block_size) for n, m in shapes)
    generator_key, z_key = jax.random.split(key)
    self.generator = KernelGenerator(
      block_size,
      block_size,
      kernel_size=kernel_size,
      z_size=z_size,
      key=generator_key,
    )
    num_blocks = sum(map(math.prod, self.grids))
    self.embeddings = nnx.Param(jax.random.normal(z_key, (num_blocks, z_size)))

  def __call__(self) -> list[Array]:
    """The kernel of each layer, [f, f, N_in, N_out]."""
    blocks = self.generator(self.embeddings[...])
    ends = list(itertools.accumulate(map(math.prod, self.grids)))
    return [
      assemble(part, *grid)
      for part, grid in zip(
        jnp.split(blocks, ends[:-1]), self.grids, strict=True
      )
    ]


def assemble(blocks: Array, rows: int, columns: int) -> Array:
  """A kernel of its blocks, which come row by row.

  Args:
    blocks: [rows * columns, f, f, n, m].
    rows: blocks of input channels.
    columns: blocks of output channels.

  Returns:
    [f, f, rows * n, columns * m].
  """
  _, f, g, n, m = blocks.shape
  grid = blocks.reshape(rows, columns, f, g, n, m)
  return grid.transpose(2, 3, 0, 4, 1, 5).reshape(f, g, rows * n, columns * m)
