"""All of a recurrent step that belongs to one row, as one kernel a pass.

A step of an LSTM, an RNN, or of either rescaled by a hyper cell, is one product
of the whole batch with the large weights, and what follows of it for each row
apart: norms, gates, generated scales. `forward` and `backward` are the latter
as Pallas kernels (Triton, for NVIDIA GPUs) with a program for each row. They
read and write arrays of all time steps in place, at step t, so that a loop over
time has nothing else to do. `nn.fused_loop` has that loop.

The columns of a product are y_1, ..., y_G of the main cell, each of H, and then
those of the hyper cell, each of S. A state is [h, h'] or [c, c'], of H + S
columns. Rows are read to the next power of two (what lies beyond counts as
zero), so arrays end with enough columns of padding: see `Step`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

EPSILON = 1e-3  # of `ops.norm.layer_norm`
FORGET_BIAS = 1.0  # of `ops.lstm.lstm_update`
# Elements of a matrix that a program holds at a time, and those of a row that
# a thread has; reasoned, not measured.
TILE = 8192
ELEMENTS_PER_THREAD = 4
# Columns of what is multiplied: others would be copied to such at each step.
ALIGNMENT = 128


@dataclasses.dataclass(frozen=True)
class Part:
  """A main or a hyper cell.

  Attributes:
    gates: G, 4 of an LSTM and 1 of an RNN.
    size: units.
    norm: whether it has layer norm.
    bias: whether it adds one to its gates.
    keep_prob: of the dropout of an LSTM's candidate.
    zoneout_c: rate.
    zoneout_h: rate.
  """

  gates: int
  size: int
  norm: bool
  bias: bool
  keep_prob: float = 1.0
  zoneout_c: float = 0.0
  zoneout_h: float = 0.0

  @property
  def is_lstm(self) -> bool:
    """Whether it has a memory c beside h."""
    return self.gates == 4

  @property
  def width(self) -> int:
    """Columns that a kernel reads for `size`."""
    return pl.next_power_of_2(self.size)

  @property
  def num_vectors(self) -> int:
    """Rows of its vectors: bias, gains and biases of the norms."""
    count = self.gates * self.bias
    return count + self.norm * (2 * self.gates + 2 * self.is_lstm)


@dataclasses.dataclass(frozen=True)
class Step:
  """A cell as the kernels know it.

  Attributes:
    main: the cell, or the main cell.
    hyper: that which rescales it, or None.
    z_size: N_z.
    dtype: of the products.
    one_hot: whether inputs are symbols.
    masked: whether some steps of some rows do not count.
    interpret: whether to run without a GPU, slowly.
  """

  main: Part
  hyper: Part | None
  z_size: int
  dtype: Any
  one_hot: bool
  masked: bool
  interpret: bool

  @property
  def parts(self) -> list[Part]:
    """The main cell, and the hyper cell where there is one."""
    return [self.main] if self.hyper is None else [self.main, self.hyper]

  @property
  def state_width(self) -> int:
    """Columns of a state: h and h' with what may be read beyond them."""
    main, hyper = self.main, self.hyper
    width = max(main.width, main.size + hyper.width if hyper else 0)
    return _aligned(width)

  @property
  def product_width(self) -> int:
    """Columns of a product: all gates with what may be read beyond them."""
    width = max(
      start + part.width
      for part, starts in zip(self.parts, self.gate_starts, strict=True)
      for start in starts
    )
    return _aligned(width)

  @property
  def gate_starts(self) -> list[list[int]]:
    """Where the gates of each part begin in a product."""
    found, start = [], 0
    for part in self.parts:
      found.append([start + k * part.size for k in range(part.gates)])
      start += part.gates * part.size
    return found

  @property
  def num_scales(self) -> int:
    """Generated vectors: of W_h, of W_x and b for each gate."""
    return 3 * self.main.gates if self.hyper else 0

  @property
  def z_width(self) -> int:
    """Elements that a kernel reads for `z_size`."""
    return pl.next_power_of_2(self.z_size)

  @property
  def keeps_h(self) -> bool:
    """Whether some of the old h is in the new one as it is."""
    return self.masked or self.main.zoneout_h > 0


def _aligned(width):
  return -(-width // ALIGNMENT) * ALIGNMENT


class Weights(NamedTuple):
  """What all rows share, but for the large product.

  Attributes:
    main: [num_vectors, width] of the main cell; see `Part`.
    hyper: the same of the hyper cell, or None.
    embedding: [K, S, N_z] for the K generated vectors, padded, or None.
    embedding_bias: [K, N_z].
    scales: [K, N_z, H].
  """

  main: Array
  hyper: Array | None
  embedding: Array | None
  embedding_bias: Array | None
  scales: Array | None


# One row of a cell, by its equations. A vector is as wide as `Part.width`, and
# zero, or without a meaning, where `lanes` is false.


def layer_norm(
  y: Array, scale: Array, bias: Array, lanes: Array, size: int
) -> Array:
  """`ops.norm.layer_norm` of the elements in `lanes`."""
  mean = jnp.sum(jnp.where(lanes, y, 0.0)) / size
  centred = jnp.where(lanes, y - mean, 0.0)
  variance = jnp.sum(centred * centred) / size
  return centred * lax.rsqrt(variance + EPSILON) * scale + bias


class Noise(NamedTuple):
  """Masks of a row, or None for none."""

  keep: Array | None = None
  stay_c: Array | None = None
  stay_h: Array | None = None


def update(
  part: Part,
  live: Array | None,
  noise: Noise,
  has_noise: bool,
  y: Sequence[Array],
  c: Array | None,
  h: Array | None,
  vectors: Array,
) -> tuple[Array | None, Array, Array]:
  """A row's step from its pre-activations.

  Returns:
    The new c and h, and the h that others read: that of before where the row
    does not count, but for a hyper cell, whose main cell stands still too.
  """
  lanes = jnp.arange(part.width) < part.size
  vectors = iter(vectors)
  if part.bias:
    y = [x + next(vectors) for x in y]
  if part.norm:
    scales = [next(vectors) for _ in y]
    y = [
      layer_norm(x, scale, next(vectors), lanes, part.size)
      for x, scale in zip(y, scales, strict=True)
    ]
  old_c = c
  if part.is_lstm:
    i, g, f, o = y
    g = jnp.tanh(g)
    if noise.keep is not None:
      g = jnp.where(noise.keep, g / part.keep_prob, 0.0)
    c = jax.nn.sigmoid(f + FORGET_BIAS) * c + jax.nn.sigmoid(i) * g
    seen = c
    if part.norm:
      seen = layer_norm(c, next(vectors), next(vectors), lanes, part.size)
    new_h = jax.nn.sigmoid(o) * jnp.tanh(seen)
    c = _zoneout(old_c, c, noise.stay_c, part.zoneout_c, has_noise)
  else:
    new_h = jnp.tanh(y[0])
  new_h = _zoneout(h, new_h, noise.stay_h, part.zoneout_h, has_noise)
  out = new_h
  if live is not None:
    new_h = jnp.where(live, new_h, h)
    c = None if c is None else jnp.where(live, c, old_c)
  return c, new_h, out


def _zoneout(old, new, stay, rate, has_noise):
  if rate == 0.0:
    return new
  if not has_noise:
    return rate * old + (1 - rate) * new
  return new if stay is None else jnp.where(stay, old, new)


# The kernels.


class _Row:
  """Reads and writes what belongs to this program's row."""

  def __init__(self, step: Step, refs: dict[str, Any]):
    self.step, self.refs = step, refs
    self.b = pl.program_id(0)
    self.t = refs['t'][0]

  def at(self, name, *place):
    # The interpreter takes no plain integers beside a mask.
    place = [jnp.int32(x) if isinstance(x, int) else x for x in place]
    return self.refs[name].at[tuple(place)]

  def load(self, name, place, part, start=0):
    """A vector of [..., columns] at `place`, as wide as the part."""
    lanes = jnp.arange(part.width) < part.size
    ref = self.at(name, *place, pl.ds(start, part.width))
    other = False if ref.dtype == jnp.bool_ else 0.0
    x = triton.load(ref, mask=lanes, other=other)
    return x if x.dtype == jnp.bool_ else x.astype(jnp.float32)

  def store(self, name, place, part, start, x):
    lanes = jnp.arange(part.width) < part.size
    ref = self.at(name, *place, pl.ds(start, part.width))
    triton.store(ref, x.astype(ref.dtype), mask=lanes)

  def gates(self, name, place, k):
    """The vectors of each gate of part k."""
    part = self.step.parts[k]
    return [
      self.load(name, place, part, start) for start in self.step.gate_starts[k]
    ]

  def store_gates(self, name, place, k, values):
    starts = self.step.gate_starts[k]
    for start, x in zip(starts, values, strict=True):
      self.store(name, place, self.step.parts[k], start, x)

  def inputs(self, k):
    """W_x x of each gate of part k."""
    if not self.step.one_hot:
      return self.gates('x', (self.t, self.b), k)
    symbol = self.refs['index'][self.t, self.b]
    value = self.refs['value'][self.t, self.b]
    return [value * x for x in self.gates('x', (symbol,), k)]

  def state(self, name, t, k):
    """The h or c of part k after t steps."""
    start = 0 if k == 0 else self.step.main.size
    return self.load(name, (t, self.b), self.step.parts[k], start)

  def vectors(self, k):
    part, name = self.step.parts[k], ('main', 'hyper')[k]
    return [self.load(name, (row,), part) for row in range(part.num_vectors)]

  def live(self):
    return self.refs['mask'][self.t, self.b] if self.step.masked else None

  def noise(self, k):
    part = self.step.parts[k]
    masks = [
      self.load(name, (self.t, self.b), part) if name in self.refs else None
      for name in (f'{mask}_{k}' for mask in Noise._fields)
    ]
    return Noise(*masks)

  def tiles(self, k, body, start):
    """Folds `body(chunk, carry)` over the chunks of the k-th N_z."""
    size = self.chunk
    count = self.step.z_width // size
    if count == 1:
      return body(0, start)
    return lax.fori_loop(
      0, count, lambda n, carry: body(n * size, carry), start
    )

  @property
  def chunk(self):
    width = max(part.width for part in self.step.parts)
    return min(self.step.z_width, max(TILE // width, 1))

  def embedding(self, k, n):
    """[S, chunk] of the k-th embedding."""
    return self._tile('embedding', k, 0, n, self.step.hyper, transposed=True)

  def scale(self, k, n):
    """[chunk, H] of the k-th W_z."""
    return self._tile('scales', k, n, 0, self.step.main)

  def _tile(self, name, k, row, column, part, transposed=False):
    lanes = jnp.arange(part.width) < part.size
    if transposed:
      place = k, pl.ds(row, part.width), pl.ds(column, self.chunk)
      mask = lanes[:, None] & jnp.full((1, self.chunk), True)
    else:
      place = k, pl.ds(row, self.chunk), pl.ds(column, part.width)
      mask = lanes[None, :] & jnp.full((self.chunk, 1), True)
    x = triton.load(self.at(name, *place), mask=mask, other=0.0)
    return x.astype(jnp.float32)

  def round(self, x):
    """As a factor of a product."""
    if jnp.dtype(self.step.dtype) == jnp.float32:
      return x
    return x.astype(self.step.dtype).astype(jnp.float32)

  def generate(self, h_hyper):
    """The `num_scales` vectors d of the hyper cell's output."""
    h_hyper = self.round(h_hyper)

    def add(k, n, d):
      z = jnp.sum(h_hyper[:, None] * self.embedding(k, n), axis=0)
      bias = self.at('embedding_bias', k, pl.ds(n, self.chunk))
      z = self.round(z + triton.load(bias))
      return d + jnp.sum(z[:, None] * self.scale(k, n), axis=0)

    zero = jnp.zeros(self.step.main.width, jnp.float32)
    return [
      self.tiles(k, functools.partial(add, k), zero)
      for k in range(self.step.num_scales)
    ]

  def generate_back(self, d_scales):
    """The cotangent of `generate`'s input; writes those of z to 'd_z'."""

    def add(k, d, n, d_h):
      d_z = jnp.sum(d[None, :] * self.scale(k, n), axis=1)
      place = self.t, self.b, k, pl.ds(n, self.chunk)
      triton.store(self.at('d_z', *place), d_z)
      d_z = self.round(d_z)
      return d_h + jnp.sum(self.embedding(k, n) * d_z[None, :], axis=1)

    d_h = jnp.zeros(self.step.hyper.width, jnp.float32)
    for k, d in enumerate(d_scales):
      d_h = self.tiles(k, functools.partial(add, k, self.round(d)), d_h)
    return d_h

  # The step of the two cells.

  def updates(self, has_noise):
    """The functions of the main and of the hyper cell, to be differentiated.

    All that they read and that has no gradient is read here.
    """
    functions = [self._main_update, self._hyper_update]
    return [
      functools.partial(
        function,
        functools.partial(update, part, self.live(), self.noise(k), has_noise),
        self.inputs(k),
      )
      for k, (part, function) in enumerate(
        zip(self.step.parts, functions[: len(self.step.parts)], strict=True)
      )
    ]

  def _hyper_update(self, update, from_x, y, c, h, vectors):
    y = [a + b for a, b in zip(from_x, y, strict=True)]
    return update(y, c, h, vectors)

  def _main_update(self, update, from_x, y, c, h, scales, vectors):
    gates = len(y)
    if scales:
      d_h, d_x, shift = (scales[k * gates : (k + 1) * gates] for k in range(3))
      y = [a * b for a, b in zip(d_h, y, strict=True)]
      from_x = [a * b for a, b in zip(d_x, from_x, strict=True)]
      y = [a + b for a, b in zip(y, shift, strict=True)]
    y = [a + b for a, b in zip(y, from_x, strict=True)]
    return update(y, c, h, vectors)

  def before(self, k):
    """(c, h) of part k before the step, None where nothing asks for it."""
    part = self.step.parts[k]
    needs_h = self.step.masked or part.zoneout_h > 0
    c = self.state('c', self.t, k) if part.is_lstm else None
    return c, self.state('h', self.t, k) if needs_h else None


def _forward_kernel(step, has_noise, refs):
  row = _Row(step, refs)
  scales, new = [], {}
  main_update, *hyper_update = row.updates(has_noise)
  if step.hyper:
    c, h, out = hyper_update[0](
      row.gates('product', (row.b,), 1), *row.before(1), row.vectors(1)
    )
    new[1] = c, h
    scales = row.generate(out)
  y = row.gates('product', (row.b,), 0)
  c, h, _ = main_update(y, *row.before(0), scales, row.vectors(0))
  new[0] = c, h
  for k, (c, h) in new.items():
    part, start = step.parts[k], 0 if k == 0 else step.main.size
    row.store('factor_out', (row.b,), part, start, h)
    row.store('h_out', (row.t + 1, row.b), part, start, h)
    if c is not None:
      row.store('c_out', (row.t + 1, row.b), part, start, c)
    if 'products_out' in refs:
      values = y if k == 0 else row.gates('product', (row.b,), 1)
      row.store_gates('products_out', (row.t, row.b), k, values)


def _backward_kernel(step, has_noise, refs):
  row = _Row(step, refs)
  place = row.t, row.b

  def cotangents(k):
    part, start = step.parts[k], 0 if k == 0 else step.main.size
    d_h = row.load('d_factor', (row.b,), part, start)
    if step.keeps_h:
      d_h += row.load('d_h', (row.b,), part, start)
    d_c = row.load('d_c', (row.b,), part, start) if part.is_lstm else None
    return d_c, d_h

  def finish(k, d_c, d_h, d_vectors):
    part, start = step.parts[k], 0 if k == 0 else step.main.size
    if d_c is not None:
      row.store('d_c_out', (row.b,), part, start, d_c)
    if step.keeps_h:
      d_h = jnp.zeros(part.width, jnp.float32) if d_h is None else d_h
      row.store('d_h_out', (row.b,), part, start, d_h)
    name = ('d_main', 'd_hyper')[k]
    for k_vector, d in enumerate(d_vectors):
      total = row.load(name, (row.b, k_vector), part) + d
      row.store(f'{name}_out', (row.b, k_vector), part, 0, total)

  scales = []
  main_update, *hyper_update = row.updates(has_noise)
  if step.hyper:
    y = row.gates('products', place, 1)
    (_, _, out), pull_hyper = jax.vjp(
      hyper_update[0], y, *row.before(1), row.vectors(1)
    )
    scales = row.generate(out)
  y = row.gates('products', place, 0)
  _, pull_main = jax.vjp(main_update, y, *row.before(0), scales, row.vectors(0))
  d_c, d_h = cotangents(0)
  d_out = row.load('d_outputs', place, step.main)
  if step.masked:
    d_out = jnp.where(row.live(), d_out, 0.0)
  d_y, d_c, d_h, d_scales, d_vectors = pull_main((d_c, d_h, d_out))
  finish(0, d_c, d_h, d_vectors)
  row.store_gates('d_product_out', (row.b,), 0, d_y)
  row.store_gates('d_products_out', place, 0, d_y)
  if not step.hyper:
    return
  # That of the shift is that of the pre-activation itself.
  row.store_gates('d_gates_out', place, 0, d_scales[-step.main.gates :])
  d_out = row.generate_back(d_scales)
  d_c, d_h = cotangents(1)
  d_y, d_c, d_h, d_vectors = pull_hyper((d_c, d_h, d_out))
  finish(1, d_c, d_h, d_vectors)
  row.store_gates('d_product_out', (row.b,), 1, d_y)
  row.store_gates('d_products_out', place, 1, d_y)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))  # traced but once
def call(
  kernel: Callable[..., None],
  step: Step,
  has_noise: bool,
  inputs: dict[str, Array],
  in_place: dict[str, Array],
) -> dict[str, Array]:
  """Runs a kernel with a program for each row.

  Args:
    kernel: `forward` or `backward`.
    step: the cell.
    has_noise: whether a key was given.
    inputs: arrays by the names that the kernel has for them.
    in_place: arrays that it reads by their names and writes by their names with
      _out.

  Returns:
    Those written in place.
  """
  # Of the product, or of its cotangent.
  batch_size = inputs.get('product', inputs.get('d_factor')).shape[0]
  names = [*inputs, *in_place]

  def body(*refs):
    outputs = refs[len(names) :]
    refs = dict(zip(names, refs[: len(names)], strict=True))
    # Both are the same memory. In the interpreter the outputs alone change.
    for name, ref in zip(in_place, outputs, strict=True):
      refs[name] = refs[f'{name}_out'] = ref
    kernel(step, has_noise, refs)

  threads = max(part.width for part in step.parts) // ELEMENTS_PER_THREAD
  found = pl.pallas_call(
    body,
    grid=(batch_size,),
    out_shape=[
      jax.ShapeDtypeStruct(x.shape, x.dtype) for x in in_place.values()
    ],
    input_output_aliases={len(inputs) + k: k for k in range(len(in_place))},
    compiler_params=triton.CompilerParams(
      num_warps=min(max(threads // 32, 1), 16)
    ),
    interpret=step.interpret,
    name=kernel.__name__.strip('_'),
  )(*inputs.values(), *in_place.values())
  return dict(zip(in_place, found, strict=True))


forward = functools.partial(call, _forward_kernel)
backward = functools.partial(call, _backward_kernel)
