"""A recurrent language model over symbols (paper, Sec. 4.3-4.4 and A.3.3)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from hyperjax import by_name
from hyperjax.errors import UserError, did_you_mean
from hyperjax.nn.initializers import orthogonal
from hyperjax.nn.linear import Linear
from hyperjax.nn.stack import Stack
from hyperjax.nn.unroll import REMAT
from hyperjax.ops.dropout import dropout
from hyperjax.ops.onehot import one_hot, one_hot_dropout
from hyperjax.types import Carry, Cell


class CharLM(nnx.Module):
  """One-hot symbols, a stack of cells, and logits of the next symbol.

  Args:
    cells: the layers from the bottom up.
    hidden_size: width of the top layer's output.
    vocab_size: number of symbols, V.
    input_keep_prob: keep probability of input dropout.
    output_keep_prob: of dropout on each layer's output.
    unroll: options of `nn.unroll`.
    dtype: precision of the output layer's product, see `ops.product`.
    key: PRNG key of the output layer's weights.
  """

  def __init__(
    self,
    cells: list[Cell],
    hidden_size: int,
    vocab_size: int,
    *,
    input_keep_prob: float = 1.0,
    output_keep_prob: float = 1.0,
    unroll: Mapping[str, Any] | None = None,
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    self.unroll = dict(unroll or {})
    self.input_keep_prob = input_keep_prob
    self.output_keep_prob = output_keep_prob
    self.stack = Stack(cells, output_keep_prob)
    self.head = Linear(
      orthogonal(key, hidden_size, vocab_size),
      jnp.zeros(vocab_size),
      dtype=dtype,
    )

  def initial_carry(self, batch_size: int) -> Carry:
    """The carry of streams that have read nothing."""
    return self.stack.initial_carry(batch_size)

  def __call__(
    self, carry: Carry, symbols: Array, key: Array | None = None, **options
  ) -> tuple[Carry, Array]:
    """Reads on: the carry, symbols [B, T] -> the carry, logits [B, T, V].

    Args:
      carry: from `initial_carry`, or of the window before.
      symbols: integers below V.
      key: PRNG key of all dropout; None means no dropout.
      **options: of `nn.unroll`, before those that the model has.
    """
    input_key, stack_key, output_key = (
      (None,) * 3 if key is None else jax.random.split(key, 3)
    )
    xs = one_hot_dropout(one_hot(symbols.T), input_key, self.input_keep_prob)
    carry, hs = self.stack(carry, xs, stack_key, **{**self.unroll, **options})
    logits = self.head(dropout(hs, output_key, self.output_keep_prob))
    return carry, logits.swapaxes(0, 1)


def build(
  *,
  vocab_size: int,
  cell: str,
  hidden_size: int,
  num_layers: int = 1,
  hyper_size: int = 0,
  z_size: int = 0,
  hyper_cell: str = '',
  generation: str = 'row_scaling',
  recurrent_keep_prob: float = 1.0,
  hyper_recurrent_keep_prob: float = 1.0,
  zoneout_c: float = 0.0,
  zoneout_h: float = 0.0,
  input_keep_prob: float = 1.0,
  output_keep_prob: float = 1.0,
  unroll: Mapping[str, Any] | None = None,
  dtype: DTypeLike = jnp.float32,
  key: Array,
  **cell_options: Any,
) -> CharLM:
  """The model of `config.model`.

  Args:
    vocab_size: number of symbols; from `config.data`.
    cell: a file of `hyperjax.nn.cells`, or any module with such a `build`.
    hidden_size: units of each layer.
    num_layers: how many layers.
    hyper_size: units of the hyper cell; read by hyper cells alone.
    z_size: N_z; read by hyper cells alone.
    hyper_cell: 'rnn' or 'lstm'; empty means that of the cell's own kind.
    generation: how weights are generated, 'row_scaling' or 'full'.
    recurrent_keep_prob: of the dropout inside the cells.
    hyper_recurrent_keep_prob: of the dropout inside the hyper cells.
    zoneout_c: of the cells' memory.
    zoneout_h: of the cells' output.
    input_keep_prob: of input dropout.
    output_keep_prob: of dropout on each layer's output.
    unroll: remat and defer of `nn.unroll`, kernels of the cells; from
      `config.unroll`.
    dtype: precision of all products; from `config.dtype`.
    key: PRNG key of the initial weights.
    **cell_options: any other options that the cell takes.
  """
  build_cell = by_name.find('nn.cells', cell, 'config.model.cell')
  known = by_name.options_of(build_cell)
  unroll, kernels = _unroll_options(build_cell, cell, **(unroll or {}))
  options = {**cell_options, **kernels}
  for name, size in (('hyper_size', hyper_size), ('z_size', z_size)):
    if name in known and size:
      options[name] = size
  # An option that changes nothing may be foreign to the cell.
  for name, value, neutral in (
    ('hyper_cell', hyper_cell, ''),
    ('generation', generation, 'row_scaling'),
    ('recurrent_keep_prob', recurrent_keep_prob, 1.0),
    ('hyper_recurrent_keep_prob', hyper_recurrent_keep_prob, 1.0),
    ('zoneout_c', zoneout_c, 0.0),
    ('zoneout_h', zoneout_h, 0.0),
  ):
    if value == neutral:
      continue
    if name not in known:
      raise UserError(
        f"config.model.{name} is {value!r}, but cell '{cell}' has no such "
        f'option; set it to {neutral!r}'
      )
    options[name] = value
  if 'dtype' in known:
    options['dtype'] = dtype
  elif jnp.dtype(dtype) != jnp.float32:
    raise UserError(
      f"config.dtype is {jnp.dtype(dtype)}, but cell '{cell}' has no option "
      f'dtype; take float32'
    )
  head_key, *cell_keys = jax.random.split(key, num_layers + 1)
  cells = []
  for depth, cell_key in enumerate(cell_keys):
    given = {
      'input_size': hidden_size if depth else vocab_size,
      'hidden_size': hidden_size,
      'key': cell_key,
    }
    if depth == 0:
      by_name.check(
        build_cell, options, given, field='config.model', what=f"cell '{cell}'"
      )
    cells.append(build_cell(**given, **options))
  return CharLM(
    cells,
    hidden_size,
    vocab_size,
    input_keep_prob=input_keep_prob,
    output_keep_prob=output_keep_prob,
    unroll=unroll,
    dtype=dtype,
    key=head_key,
  )


def _unroll_options(build_cell, cell, kernels='xla', **options):
  """(options of `nn.unroll`, options of the cell), from `config.unroll`."""
  known = 'remat', 'defer', 'kernels'
  for name in options:
    if name not in known:
      raise UserError(
        f'no field config.unroll.{name}{did_you_mean(name, known)}'
      )
  if (remat := options.get('remat', 'elementwise')) not in REMAT:
    raise UserError(
      f"config.unroll.remat: no '{remat}'{did_you_mean(remat, REMAT)}"
    )
  if kernels == 'xla':
    return options, {}
  if 'kernels' not in by_name.options_of(build_cell):
    raise UserError(
      f"config.unroll.kernels is '{kernels}', but cell '{cell}' has no such "
      f"option; set it to 'xla'"
    )
  return options, {'kernels': kernels}
