"""The loop over time as one product and one kernel a step, for NVIDIA GPUs.

What `nn.unroll` does by a scan of `Cell.step`, from the same parameters: the
same numbers to within rounding. A launch of a kernel takes as long there as
thousands of multiplications, and a scan of the step has dozens of them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from hyperjax.nn.cells.hyper_cell import HyperCell
from hyperjax.nn.cells.lstm import LSTM
from hyperjax.nn.cells.rnn import RNN
from hyperjax.nn.generators import RowScaling
from hyperjax.ops import onehot, row_step
from hyperjax.ops.onehot import OneHot
from hyperjax.ops.product import kernel_gradient, matmul, round_to
from hyperjax.ops.row_step import Part, Step, Weights
from hyperjax.types import Carry, PyTree


def covers(cell: nnx.Module) -> bool:
  """Whether there is such a loop for the cell."""
  if type(cell) in (LSTM, RNN):
    return True
  return (
    isinstance(cell, HyperCell)
    and type(cell.main) in (LSTM, RNN)
    and type(cell.hyper) in (LSTM, RNN)
    and type(cell.weights_h) is RowScaling
  )


def run(
  cell: nnx.Module,
  carry: Carry,
  xs: PyTree,
  keys: Array | None,
  mask: Array | None,
  *,
  interpret: bool = False,
) -> tuple[Carry, Array]:
  """Runs a cell over a sequence.

  Args:
    cell: one that `covers` is true of.
    carry: see `unroll`.
    xs: see `unroll`.
    keys: a PRNG key for each step, or None.
    mask: see `unroll`.
    interpret: run without a GPU, slowly.

  Returns:
    The carry after the sequence and the outputs [T, B, H].
  """
  step = _step(cell, isinstance(xs, OneHot), mask is not None, interpret)
  batch_size = jax.tree.leaves(carry)[0].shape[0]
  noise = {}
  if keys is not None:
    drawn = jax.vmap(lambda key: cell.noise(key, batch_size))(keys)
    noise = _noise(step, drawn)
  state, hs = _loop(
    step,
    keys is not None,
    _product(step, cell),
    _inputs(step, cell, xs),
    _weights(step, cell),
    _pack_carry(step, carry),
    (noise, mask),
  )
  return _unpack_carry(step, state), hs


# The cell's parameters as the kernels want them. The gradients of these are
# those of the parameters, by way of what is done here.


def _parts(cell):
  return [cell.main, cell.hyper] if isinstance(cell, HyperCell) else [cell]


def _step(cell, one_hot, masked, interpret):
  def part(cell, bias):
    return Part(
      cell.num_gates,
      cell.hidden_size,
      norm=cell.norm_gates is not None,
      bias=bias,
      keep_prob=getattr(cell, 'keep_prob', 1.0),
      zoneout_c=getattr(cell, 'zoneout_c', 0.0),
      zoneout_h=cell.zoneout_h,
    )

  main, *hyper = _parts(cell)
  z_size = cell.shift.kernel.shape[1] if hyper else 1
  return Step(
    part(main, bool(hyper) or main.bias is not None),
    part(hyper[0], hyper[0].bias is not None) if hyper else None,
    z_size,
    jnp.dtype(main.recurrent.dtype),
    one_hot,
    masked,
    interpret,
  )


def _pad(x, *shape):
  """Zeros behind the end of the last axes."""
  shape = (*x.shape[: x.ndim - len(shape)], *shape)
  return jnp.pad(x, [(0, n - m) for n, m in zip(shape, x.shape, strict=True)])


def _product(step, cell):
  """[h, h'] -> what multiplies them, in one matrix."""
  main, *hyper = _parts(cell)
  kernel = main.recurrent.kernel[...]
  if hyper:
    kernel = jnp.block(
      [
        [kernel, cell.feedback.kernel[...]],
        [
          jnp.zeros((step.hyper.size, kernel.shape[1])),
          hyper[0].recurrent.kernel[...],
        ],
      ]
    )
  return _pad(kernel, step.state_width, step.product_width)


def _inputs(step, cell, xs):
  """(symbols, table) or the input products of all steps."""
  parts = _parts(cell)
  if step.one_hot:
    table = jnp.concatenate([part.input.kernel[...] for part in parts], axis=1)
    return xs, _pad(table, step.product_width)
  xs = [part.project(xs) for part in parts]
  return _pad(jnp.concatenate(xs, axis=-1), step.product_width)


def _weights(step, cell):
  main, *hyper = _parts(cell)
  if not hyper:
    return Weights(_vectors(step.main, main, main.bias), None, None, None, None)
  (hyper,) = hyper
  generators = [cell.weights_h.vectors, cell.weights_x.vectors, cell.shift]
  shape = step.hyper.size, step.main.gates, step.z_size

  def embedding(generator):
    kernel = generator.embedding.kernel[...].reshape(shape).swapaxes(0, 1)
    return _pad(kernel, step.hyper.width, step.z_width)

  def bias(generator):
    bias = generator.embedding.bias
    if bias is None:
      return jnp.zeros((step.main.gates, step.z_width))
    return _pad(bias[...].reshape(shape[1:]), step.z_width)

  def scales(generator):
    return _pad(generator.kernel[...], step.z_width, step.main.width)

  return Weights(
    _vectors(step.main, main, cell.shift),
    _vectors(step.hyper, hyper, hyper.bias),
    *(
      jnp.concatenate([make(generator) for generator in generators])
      for make in (embedding, bias, scales)
    ),
  )


def _vectors(part, cell, bias):
  rows = [bias.bias[...]] if part.bias else []
  if part.norm:
    rows += [cell.norm_gates.scale[...], cell.norm_gates.bias[...]]
    if part.is_lstm:
      rows += [cell.norm_cell.scale[...][None], cell.norm_cell.bias[...][None]]
  rows = jnp.concatenate(rows) if rows else jnp.zeros((1, part.size))
  return _pad(rows, part.width)


def _noise(step, drawn):
  """Masks by the kernels' names, [T, B, width]."""
  drawn = drawn if step.hyper else (drawn,)
  found = {}
  for k, (part, masks) in enumerate(zip(step.parts, drawn, strict=True)):
    if not part.is_lstm:
      masks = None, None, masks
    for name, mask in zip(row_step.Noise._fields, masks, strict=True):
      if mask is not None:
        found[f'{name}_{k}'] = _pad(mask, part.width)
  return found


class _State(NamedTuple):
  """Both parts' h and c, side by side: [B, state_width]."""

  h: Array
  c: Array


def _pack_carry(step, carry):
  carries = carry if step.hyper else (carry,)
  cs, hs = [], []
  for part, x in zip(step.parts, carries, strict=True):
    c, h = x if part.is_lstm else (jnp.zeros_like(x), x)
    cs.append(c)
    hs.append(h)
  return _State(
    *(
      _pad(jnp.concatenate(x, axis=-1).astype(jnp.float32), step.state_width)
      for x in (hs, cs)
    )
  )


def _unpack_carry(step, state):
  carries, start = [], 0
  for part in step.parts:
    c, h = (x[:, start : start + part.size] for x in (state.c, state.h))
    carries.append((c, h) if part.is_lstm else h)
    start += part.size
  return tuple(carries) if step.hyper else carries[0]


# The loop and its gradient.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _loop(step, has_noise, kernel, inputs, weights, state, fixed):
  state, hs, _ = _forward(
    step, has_noise, kernel, inputs, weights, state, fixed, keep=False
  )
  return state, hs


def _forward(step, has_noise, kernel, inputs, weights, state, fixed, *, keep):
  num_steps, batch_size = _first(inputs).shape[:2]
  given = _given(step, inputs, weights, fixed)
  kernel = round_to(kernel, step.dtype)

  def stack(first):
    rest = jnp.zeros((num_steps, *first.shape), first.dtype)
    return jnp.concatenate([first[None], rest])

  arrays = {
    'factor': round_to(state.h, step.dtype),
    'h': stack(state.h),
  }
  if any(part.is_lstm for part in step.parts):
    arrays['c'] = stack(state.c)
  if keep:
    shape = num_steps, batch_size, step.product_width
    arrays['products'] = jnp.zeros(shape, jnp.float32)

  def body(loop):
    t, arrays = loop
    product = jnp.matmul(
      arrays['factor'], kernel, preferred_element_type=jnp.float32
    )
    here = {**given, 't': t[None], 'product': product}
    return t + 1, row_step.forward(step, has_noise, here, arrays)

  # No `fori_loop`: what surrounds it would compute all t beforehand, and the
  # loop would have to look them up.
  _, arrays = lax.while_loop(
    lambda loop: loop[0] < num_steps, body, (jnp.int32(0), arrays)
  )
  h, c = arrays['h'], arrays.get('c')
  hs = h[1:, :, : step.main.size]
  if step.masked:
    hs = jnp.where(fixed[1][..., None], hs, 0.0)
  last = _State(h[-1], state.c if c is None else c[-1])
  return last, hs, (h, c, arrays.get('products'))


def _first(inputs):
  return inputs[0].index if isinstance(inputs, tuple) else inputs


def _given(step, inputs, weights, fixed):
  """What kernels read, by their names; the matrices as factors."""
  noise, mask = fixed
  found = dict(noise)
  if step.masked:
    found['mask'] = mask
  if step.one_hot:
    symbols, table = inputs
    table = round_to(table, step.dtype)
    found |= {'index': symbols.index, 'value': symbols.value, 'x': table}
  else:
    found['x'] = inputs
  found['main'] = weights.main
  if step.hyper:
    found |= {
      'hyper': weights.hyper,
      'embedding': round_to(weights.embedding, step.dtype),
      'embedding_bias': weights.embedding_bias,
      'scales': round_to(weights.scales, step.dtype),
    }
  return found


def _loop_forward(step, has_noise, kernel, inputs, weights, state, fixed):
  last, hs, kept = _forward(
    step, has_noise, kernel, inputs, weights, state, fixed, keep=True
  )
  return (last, hs), (kernel, inputs, weights, fixed, kept)


def _loop_backward(step, has_noise, residuals, cotangents):
  kernel, inputs, weights, fixed, (h, c, products) = residuals
  d_state, d_hs = cotangents
  num_steps, batch_size = products.shape[:2]
  given = _given(step, inputs, weights, fixed)
  given |= {'products': products, 'h': h}
  given['d_outputs'] = _pad(d_hs, step.main.width)
  if c is not None:
    given['c'] = c
  transposed = round_to(kernel, step.dtype).T

  def zeros(*shape):
    return jnp.zeros(shape, jnp.float32)

  width = step.product_width
  # What lies beyond the gates stays zero, as the product needs it.
  arrays = {
    'd_product': jnp.zeros((batch_size, width), step.dtype),
    'd_products': jnp.zeros((num_steps, batch_size, width), step.dtype),
    'd_main': zeros(batch_size, *weights.main.shape),
  }
  if c is not None:
    arrays['d_c'] = d_state.c
  if step.keeps_h:
    arrays['d_h'] = zeros(*d_state.h.shape)
  if step.hyper:
    arrays['d_hyper'] = zeros(batch_size, *weights.hyper.shape)
    arrays['d_gates'] = zeros(num_steps, batch_size, width)
    arrays['d_z'] = zeros(num_steps, batch_size, step.num_scales, step.z_width)

  def body(loop):
    t, d_factor, arrays = loop
    here = {**given, 't': t[None], 'd_factor': d_factor}
    arrays = row_step.backward(step, has_noise, here, arrays)
    d_factor = jnp.matmul(
      arrays['d_product'], transposed, preferred_element_type=jnp.float32
    )
    return t - 1, d_factor, arrays

  _, d_factor, arrays = lax.while_loop(
    lambda loop: loop[0] >= 0,
    body,
    (jnp.int32(num_steps - 1), d_state.h, arrays),
  )
  d_products = arrays['d_products']
  d_h = d_factor + arrays['d_h'] if step.keeps_h else d_factor
  d_c = arrays['d_c'] if c is not None else d_state.c
  d_kernel = kernel_gradient(h[:-1], d_products, step.dtype)
  d_inputs, d_weights = _batched(step, h, products, inputs, weights, arrays)
  return d_kernel, d_inputs, d_weights, _State(d_h, d_c), None


_loop.defvjp(_loop_forward, _loop_backward)


def _batched(step, h, products, inputs, weights, arrays):
  """Gradients of all that is not in the loop's way, from what it left."""
  d_inputs = arrays['d_products'].astype(jnp.float32)
  d_main = jnp.sum(arrays['d_main'], axis=0)
  if not step.hyper:
    return _back_to_inputs(step, inputs, d_inputs), Weights(
      d_main, None, None, None, None
    )
  gates, size = step.main.gates, step.main.size
  columns = gates * size
  h_hyper = h[1:, :, size : size + step.hyper.size]
  embedding = weights.embedding[:, : step.hyper.size]  # [K, S, N_z]
  z = _each(h_hyper[None], embedding, step.dtype)
  z = z + weights.embedding_bias[:, None, None]  # [K, T, B, N_z]

  def by_gate(x):
    return jnp.moveaxis(x[..., :columns].reshape(*x.shape[:2], gates, -1), 2, 0)

  d_y = by_gate(arrays['d_gates'])  # [G, T, B, H]
  x, back_to_inputs = jax.vjp(functools.partial(_projected, step), inputs)
  d_x = _each(
    z[gates : 2 * gates],
    weights.scales[gates : 2 * gates, :, :size],
    step.dtype,
  )
  d_inputs = jnp.concatenate(
    [
      jnp.moveaxis(d_y * d_x, 0, 2).reshape(*x.shape[:2], columns),
      d_inputs[..., columns:],
    ],
    axis=-1,
  )
  d_vectors = jnp.concatenate(
    [d_y * by_gate(products), d_y * by_gate(x), d_y]
  )  # [K, T, B, H]
  gradient = jax.vmap(functools.partial(kernel_gradient, dtype=step.dtype))
  d_z = jnp.moveaxis(arrays['d_z'], 2, 0)
  d_embedding = gradient(
    jnp.broadcast_to(h_hyper, (len(d_z), *h_hyper.shape)), d_z
  )
  d_weights = Weights(
    d_main,
    jnp.sum(arrays['d_hyper'], axis=0),
    _pad(d_embedding, step.hyper.width, step.z_width),
    jnp.sum(d_z, axis=(1, 2)),
    _pad(gradient(z, d_vectors), step.z_width, step.main.width),
  )
  return back_to_inputs(d_inputs)[0], d_weights


def _each(x, kernels, dtype):
  """A product with each kernel: [K, T, B, N], [K, N, M] -> [K, T, B, M]."""
  return matmul(x, kernels[:, None], dtype)


def _projected(step, inputs):
  if step.one_hot:
    return onehot.matmul(*inputs, step.dtype)
  return inputs


def _back_to_inputs(step, inputs, d_inputs):
  return jax.vjp(functools.partial(_projected, step), inputs)[1](d_inputs)[0]
