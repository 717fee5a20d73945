"""The layer-norm LSTM update as one Pallas kernel a pass.

The same maths as `ops.lstm.lstm_update` of gates through `ops.norm.layer_norm`
(Ba et al. 2016; paper, Eq. 9 and 10), with each array read and written once:
by Triton on NVIDIA GPUs, by Mosaic on TPUs. Neither has run here yet; what is
tested is that both lower, and the values under the interpreter.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as mosaic
from jax.experimental.pallas import triton

from hyperjax.ops.norm import STATISTIC

# A block holds whole rows. On a GPU its arrays sit in registers, about a dozen
# of them at once, so there are few rows; on a TPU they sit in the larger
# vector memory. Both numbers are reasoned, not measured.
GPU_ELEMENTS = 2048
ELEMENTS_PER_THREAD = 8
TPU_ROWS = 16
# Whose layout the interpreter takes.
INTERPRETED = 'cuda'


@dataclasses.dataclass(frozen=True)
class _Options:
  """What is known when the kernels are made; see `norm_lstm_update`."""

  forget_bias: float
  keep_prob: float
  epsilon: float
  interpret: bool


def norm_lstm_update(
  gates: Sequence[Array],
  c: Array,
  gate_scale: Array,
  gate_bias: Array,
  cell_scale: Array,
  cell_bias: Array,
  *,
  forget_bias: float = 1.0,
  keep: Array | None = None,
  keep_prob: float = 1.0,
  epsilon: float = 1e-3,
  interpret: bool = False,
) -> tuple[Array, Array]:
  """One layer-norm LSTM step from its pre-activations, all float32.

      y = layer_norm(y)                                for y in i, g, f, o
      c_t = sigmoid(f + forget_bias) c_{t-1} + sigmoid(i) dropout(tanh(g))
      h_t = sigmoid(o) tanh(layer_norm(c_t))

  For reverse mode alone. The backward pass keeps what came in and the
  statistics of the norms, which have the name `norm.STATISTIC`.

  Args:
    gates: pre-activations in the order i, g, f, o, each [B, H].
    c: [B, H] cell state.
    gate_scale: [4, H] gains of the gates' norms.
    gate_bias: [4, H] biases of the gates' norms.
    cell_scale: [H] gain of the cell's norm.
    cell_bias: [H] bias of the cell's norm.
    forget_bias: added to f after its norm.
    keep: [B, H] bool, where dropout keeps the candidate; None drops nothing.
    keep_prob: what the kept ones are divided by.
    epsilon: added to the variances.
    interpret: run without a GPU or a TPU, slowly.

  Returns:
    The new cell state and the output, both [B, H].
  """
  if len(gates) != 4 or c.ndim != 2:
    raise ValueError(
      f'norm_lstm_update takes 4 gates and c of [B, H], not {len(gates)} '
      f'and {c.shape}'
    )
  batch, size = c.shape
  expected = [
    *((f'gates[{k}]', y, (batch, size)) for k, y in enumerate(gates)),
    ('c', c, (batch, size)),
    ('gate_scale', gate_scale, (4, size)),
    ('gate_bias', gate_bias, (4, size)),
    ('cell_scale', cell_scale, (size,)),
    ('cell_bias', cell_bias, (size,)),
  ]
  for name, x, shape in expected:
    if x.shape != shape or x.dtype != jnp.float32:
      raise ValueError(
        f'{name} is {x.dtype}{[*x.shape]}; it must be float32{[*shape]}'
      )
  if keep is not None and (keep.shape != c.shape or keep.dtype != jnp.bool_):
    raise ValueError(
      f'keep is {keep.dtype}{[*keep.shape]}; it must be bool{[batch, size]}'
    )
  options = _Options(forget_bias, keep_prob, epsilon, interpret)
  # Kernels like matrices better than vectors.
  parameters = gate_scale, gate_bias, cell_scale[None], cell_bias[None]
  return _update(options, tuple(gates), c, parameters, keep)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _update(options, gates, c, parameters, keep):
  return _forward(options, gates, c, parameters, keep)[0]


def _forward(options, gates, c, parameters, keep):
  new_c, h, statistics = _call(
    options,
    _forward_kernel,
    (gates, c, keep),
    parameters,
    ['rows', 'rows', 'statistics'],
  )
  # Where this name is saved, nothing asks for the kernel once more.
  statistics = checkpoint_name(statistics, STATISTIC)
  return (new_c, h), (gates, c, keep, statistics, parameters)


def _backward(options, residuals, cotangents):
  *by_row, parameters = residuals
  *gates, c, sums = _call(
    options,
    _backward_kernel,
    (*by_row, cotangents),
    parameters,
    ['rows'] * 5 + ['sums'],
  )
  parameters = sums[:4], sums[4:8], sums[8:9], sums[9:]
  return tuple(gates), c, parameters, None


_update.defvjp(_forward, _backward)


# The kernels. What lies beyond the array, where blocks stick out, is masked:
# on a GPU it reads as zero, on a TPU and in the interpreter as anything.


def _forward_kernel(options, block, by_row, parameters, outputs):
  gates, c, keep = by_row
  c_out, h_out, statistics = outputs
  gates = [block.load(y) for y in gates]
  moments = [block.moments(y, options.epsilon) for y in gates]
  i, g, f, o = _activations(options, block, gates, moments, parameters)

  c = f * block.load(c) + i * _dropout(options, block, g, keep)
  moments.append(block.moments(c, options.epsilon))
  normed = block.normalize(c, *moments[4])
  scale, bias = (block.load_row(x, 0) for x in parameters[2:])
  block.store(c_out, c)
  block.store(h_out, o * jnp.tanh(normed * scale + bias))
  for k, (mean, inverse) in enumerate(moments):
    block.store_column(statistics, k, mean)
    block.store_column(statistics, 5 + k, inverse)


def _backward_kernel(options, block, by_row, parameters, outputs):
  gates, c, keep, statistics, cotangents = by_row
  *d_gates, d_c_out, sums = outputs
  moments = [
    [block.load_column(statistics, k) for k in (y, 5 + y)] for y in range(5)
  ]
  gates = [block.load(y) for y in gates]
  i, g, f, o = _activations(options, block, gates, moments, parameters)
  old_c, candidate = block.load(c), _dropout(options, block, g, keep)

  normed = block.normalize(f * old_c + i * candidate, *moments[4])
  scale, bias = (block.load_row(x, 0) for x in parameters[2:])
  squashed = jnp.tanh(normed * scale + bias)
  d_c, d_h = (block.load(x) for x in cotangents)
  d_normed = d_h * o * (1 - squashed * squashed)
  block.store_sum(sums, 8, d_normed * normed)
  block.store_sum(sums, 9, d_normed)
  d_c += block.normalize_back(d_normed * scale, normed, moments[4][1])
  block.store(d_c_out, d_c * f)

  # Of the pre-activations after their norms.
  d_after = (
    d_c * candidate * i * (1 - i),
    _dropout(options, block, d_c * i, keep) * (1 - g * g),
    d_c * old_c * f * (1 - f),
    d_h * squashed * o * (1 - o),
  )
  for k, d_y in enumerate(d_after):
    normed = block.normalize(gates[k], *moments[k])
    block.store_sum(sums, k, d_y * normed)
    block.store_sum(sums, 4 + k, d_y)
    d_y *= block.load_row(parameters[0], k)
    block.store(d_gates[k], block.normalize_back(d_y, normed, moments[k][1]))


def _activations(options, block, gates, moments, parameters):
  """The four gates after norm and nonlinearity."""
  i, g, f, o = (
    block.normalize(y, *moments[k]) * block.load_row(parameters[0], k)
    + block.load_row(parameters[1], k)
    for k, y in enumerate(gates)
  )
  return (
    jax.nn.sigmoid(i),
    jnp.tanh(g),
    jax.nn.sigmoid(f + options.forget_bias),
    jax.nn.sigmoid(o),
  )


def _dropout(options, block, x, keep):
  if keep is None:
    return x
  return jnp.where(block.load(keep), x / options.keep_prob, 0.0)


class _Block:
  """The rows of one kernel instance: how to read, reduce and write them.

  Args:
    platform: 'cuda' or 'tpu'.
    shape: (B, H) of the arrays.
    block_shape: (rows, columns) of the block.
  """

  def __init__(self, platform, shape, block_shape):
    rows = lax.broadcasted_iota(jnp.int32, (block_shape[0], 1), 0)
    columns = lax.broadcasted_iota(jnp.int32, (1, block_shape[1]), 1)
    self.size = shape[1]
    self.masked = platform == 'cuda'
    self.rows = rows + pl.program_id(0) * block_shape[0] < shape[0]
    self.columns = columns < shape[1]
    self.inside = self.rows & self.columns

  def load(self, ref):
    return self._load(ref, self.inside)

  def load_row(self, ref, k):
    return self._load(ref.at[k : k + 1, :], self.columns)

  def load_column(self, ref, k):
    return self._load(ref.at[:, k : k + 1], self.rows)

  def store(self, ref, x):
    self._store(ref, x, self.inside)

  def store_column(self, ref, k, x):
    self._store(ref.at[:, k : k + 1], x, self.rows)

  def store_sum(self, ref, k, x):
    """Puts the sum over the rows into row k."""
    x = jnp.sum(jnp.where(self.inside, x, 0.0), axis=0, keepdims=True)
    self._store(ref.at[k : k + 1, :], x, self.columns)

  def moments(self, x, epsilon):
    """The mean and the inverse deviation of each row, both [rows, 1]."""
    mean = self._mean(x)
    return mean, lax.rsqrt(self._mean(jnp.square(x - mean)) + epsilon)

  def normalize(self, x, mean, inverse):
    return (x - mean) * inverse

  def normalize_back(self, cotangent, normed, inverse):
    """The cotangent of what was normalized, from that of `normed`.

    It is what is left of it across the two directions along which a row may
    move without a change: that of a constant and that of `normed`.
    """
    along = normed * self._mean(cotangent * normed)
    return inverse * (cotangent - self._mean(cotangent) - along)

  def _mean(self, x):
    x = jnp.where(self.inside, x, 0.0)
    return jnp.sum(x, axis=1, keepdims=True) / self.size

  def _load(self, ref, mask):
    if self.masked:
      other = False if ref.dtype == jnp.bool_ else 0.0
      return triton.load(ref, mask=mask, other=other)
    return ref[...]

  def _store(self, ref, x, mask):
    if self.masked:
      triton.store(ref, x, mask=mask)
    else:
      ref[...] = x


# How they are called.


def _call(options, kernel, by_row, parameters, outputs):
  """Calls a kernel, made for the platform that it is compiled for.

  Args:
    options: `_Options`, handed to the kernel.
    kernel: function of the options, a `_Block`, and references to blocks of
      `by_row`, to `parameters`, and to blocks of the outputs.
    by_row: a tree of [B, ...] arrays.
    parameters: a tuple of arrays that every block reads whole.
    outputs: each 'rows' for [B, H], 'statistics' for [B, 10], or 'sums' for
      [10, H], of which each block writes its share.

  Returns:
    A list of the outputs.
  """
  call = functools.partial(_call_on, options, kernel, outputs)
  if options.interpret:
    return call(INTERPRETED, by_row, parameters)
  return lax.platform_dependent(
    by_row,
    parameters,
    cuda=functools.partial(call, 'cuda'),
    tpu=functools.partial(call, 'tpu'),
  )


def _call_on(options, kernel, outputs, platform, by_row, parameters):
  shape = batch, size = by_row[1].shape
  rows, columns = _block_shape(platform, batch, size)
  blocks = pl.cdiv(batch, rows)
  rowwise, tree = jax.tree.flatten(by_row)
  starts = len(rowwise), len(rowwise) + len(parameters)

  def body(*refs):
    by_row = jax.tree.unflatten(tree, refs[: starts[0]])
    parameters, outputs = refs[slice(*starts)], refs[starts[1] :]
    block = _Block(platform, shape, (rows, columns))
    kernel(options, block, by_row, parameters, outputs)

  def of_rows(width):
    return pl.BlockSpec((rows, width), lambda n: (n, 0))

  def whole(x):
    return pl.BlockSpec((len(x), columns), lambda n: (0, 0))

  out = {
    'rows': ((batch, size), of_rows(columns)),
    'statistics': ((batch, 10), of_rows(10)),
    'sums': (
      (blocks, 10, size),
      pl.BlockSpec((None, 10, columns), lambda n: (n, 0, 0)),
    ),
  }
  results = pl.pallas_call(
    body,
    grid=(blocks,),
    in_specs=[
      *(of_rows(columns if x.shape == shape else 10) for x in rowwise),
      *(whole(x) for x in parameters),
    ],
    out_specs=[out[kind][1] for kind in outputs],
    out_shape=[
      jax.ShapeDtypeStruct(out[kind][0], jnp.float32) for kind in outputs
    ],
    compiler_params=_compiler_params(platform, rows * columns),
    interpret=options.interpret,
    name=kernel.__name__.strip('_'),
  )(*rowwise, *parameters)
  # Here, as each platform has its own number of blocks.
  return [
    jnp.sum(x, axis=0) if kind == 'sums' else x
    for x, kind in zip(results, outputs, strict=True)
  ]


def _block_shape(platform, batch, size):
  """Rows and columns of a block.

  Triton wants powers of two, and masks what sticks out. Mosaic wants rows by
  the eight or all of them, and columns by the 128 or all of them.
  """
  if platform == 'tpu':
    return min(TPU_ROWS, batch), size
  columns = pl.next_power_of_2(size)
  rows = max(GPU_ELEMENTS // columns, 1)
  return min(rows, pl.next_power_of_2(batch)), columns


def _compiler_params(platform, elements):
  if platform == 'tpu':
    return mosaic.CompilerParams(dimension_semantics=('parallel',))
  warps = elements // (32 * ELEMENTS_PER_THREAD)
  return triton.CompilerParams(num_warps=min(max(warps, 1), 16))
