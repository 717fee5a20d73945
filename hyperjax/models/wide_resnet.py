"""Wide residual networks, plain and hyper (paper, Sec. 4.2 and Table 1)."""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from hyperjax.errors import UserError
from hyperjax.nn.conv_kernels import GeneratedKernels, Kernels
from hyperjax.nn.linear import Linear
from hyperjax.ops.conv import conv2d

STEM_SIZE = 16


class WideResNet(nnx.Module):
  """A pre-activation WRN-depth-width (Zagoruyko and Komodakis 2016).

  Three stages of (depth - 4) / 6 blocks, two 3 x 3 convolutions each, with
  16, 32 and 64 times `width` channels. Shortcuts are padded with zeros;
  convolutions have biases; the first is followed by a BatchNorm and ReLU (see
  docs/deviations.md: with these the paper's parameter counts come out). A
  hyper network generates the kernels of all blocks; the first convolution and
  the classifier are ordinary.

  Args:
    depth: 6 n + 4.
    width: k.
    hyper: whether the blocks' kernels are generated.
    block_size: channels of the generator's block; of hyper networks.
    z_size: N_z; of hyper networks.
    remat: compute each block anew in the backward pass, which keeps but its
      input: less memory, more time.
    num_channels: of the images.
    num_classes: of the classifier.
    key: PRNG key of the initial weights.
  """

  def __init__(
    self,
    *,
    depth: int,
    width: int,
    hyper: bool,
    block_size: int,
    z_size: int,
    remat: bool = False,
    num_channels: int,
    num_classes: int,
    key: Array,
  ):
    if depth < 10 or (depth - 4) % 6:
      raise UserError(
        f'config.model.depth is {depth}; it must be 6 n + 4: 10, 16, 22, ...'
      )
    self.remat = remat
    blocks_per_stage = (depth - 4) // 6
    sizes = [STEM_SIZE]
    for stage in range(3):
      sizes += [STEM_SIZE * width * 2**stage] * blocks_per_stage
    pairs = list(itertools.pairwise(sizes))
    shapes = [s for n, m in pairs for s in ((n, m), (m, m))]

    stem_key, kernels_key, head_key = jax.random.split(key, 3)
    self.stem = Kernels(
      [(num_channels, STEM_SIZE)], kernel_size=3, key=stem_key
    )
    self.stem_bias = nnx.Param(jnp.zeros(STEM_SIZE))
    self.stem_norm = _norm(STEM_SIZE)
    self.blocks = nnx.List(
      Block(n, m, stride=2 if place and place % blocks_per_stage == 0 else 1)
      for place, (n, m) in enumerate(pairs)
    )
    self.block_kernels = (
      GeneratedKernels(
        shapes,
        block_size=block_size,
        kernel_size=3,
        z_size=z_size,
        key=kernels_key,
      )
      if hyper
      else Kernels(shapes, kernel_size=3, key=kernels_key)
    )
    self.norm = _norm(sizes[-1])
    head = jax.nn.initializers.lecun_normal()
    self.head = Linear(
      head(head_key, (sizes[-1], num_classes)), jnp.zeros(num_classes)
    )

  def kernels(self) -> list[Array]:
    """Every convolution's kernel, generated or not: [3, 3, N_in, N_out]."""
    return self.stem() + self.block_kernels()

  def __call__(
    self, x: Array, *, train: bool, kernels: list[Array] | None = None
  ) -> Array:
    """Images [B, H, W, C] -> logits [B, num_classes].

    Args:
      x: images.
      train: normalize by the batch, and move the running averages.
      kernels: what `kernels` has made, if it was called already.
    """
    stem, *kernels = kernels or self.kernels()
    x = conv2d(x, stem) + self.stem_bias[...]
    x = jax.nn.relu(self.stem_norm(x, use_running_average=not train))
    for k, block in enumerate(self.blocks):
      run = _run_anew if self.remat and train else Block.__call__
      x = run(block, x, *kernels[2 * k : 2 * k + 2], train=train)
    x = jax.nn.relu(self.norm(x, use_running_average=not train))
    return self.head(x.mean(axis=(1, 2)))


class Block(nnx.Module):
  """x + conv(relu(norm(conv(relu(norm(x)))))).

  Args:
    in_size: channels.
    out_size: channels; where more, the shortcut is padded with zeros.
    stride: of the first convolution and of the shortcut.
  """

  def __init__(self, in_size: int, out_size: int, *, stride: int):
    self.out_size, self.stride = out_size, stride
    self.norms = nnx.List([_norm(in_size), _norm(out_size)])
    self.biases = nnx.List(nnx.Param(jnp.zeros(out_size)) for _ in range(2))

  def __call__(
    self, x: Array, first: Array, second: Array, *, train: bool
  ) -> Array:
    """[B, H, W, N_in] and two kernels -> [B, H, W, N_out], or half of H, W."""
    y = x
    for norm, bias, kernel, stride in zip(
      self.norms, self.biases, (first, second), (self.stride, 1), strict=True
    ):
      y = jax.nn.relu(norm(y, use_running_average=not train))
      y = conv2d(y, kernel, stride) + bias[...]
    shortcut = x[:, :: self.stride, :: self.stride]
    more = self.out_size - x.shape[-1]
    return y + jnp.pad(shortcut, [(0, 0)] * 3 + [(0, more)])


def _run_anew(block, x, first, second, *, train):
  """`block(...)`, of which the backward pass keeps the arguments alone."""
  # As plain dictionaries, for a variable may not cross into the checkpoint.
  graph, *arrays = nnx.split(block, nnx.Param, ...)
  params, state = map(nnx.to_pure_dict, arrays)

  @jax.checkpoint
  def run(params, state, x, first, second):
    block = nnx.merge(graph, params, state)
    y = block(x, first, second, train=train)
    return y, nnx.to_pure_dict(nnx.split(block, nnx.Param, ...)[2])

  y, state = run(params, state, x, first, second)
  nnx.update(block, state)
  return y


def _norm(size):
  # Its rngs are not used: the initial scale is one, the bias zero.
  return nnx.BatchNorm(size, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(0))


def build(
  *,
  depth: int,
  width: int,
  hyper: bool = False,
  block_size: int = 16,
  z_size: int = 64,
  remat: bool = False,
  image_shape: tuple[int, int, int],
  num_classes: int,
  key: Array,
) -> WideResNet:
  """The network of `config.model`; see `WideResNet`."""
  return WideResNet(
    depth=depth,
    width=width,
    hyper=hyper,
    block_size=block_size,
    z_size=z_size,
    remat=remat,
    num_channels=image_shape[-1],
    num_classes=num_classes,
    key=key,
  )
