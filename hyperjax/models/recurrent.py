"""Recurrent layers by the fields of `config.model` and `config.unroll`."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from hyperjax import by_name
from hyperjax.errors import UserError, did_you_mean
from hyperjax.nn.unroll import KERNELS, REMAT, kernels_of
from hyperjax.types import Cell


def build_cells(
  *,
  input_sizes: Sequence[int],
  cell: str,
  hidden_size: int,
  hyper_size: int = 0,
  z_size: int = 0,
  hyper_cell: str = '',
  generation: str = 'row_scaling',
  recurrent_keep_prob: float = 1.0,
  hyper_recurrent_keep_prob: float = 1.0,
  zoneout_c: float = 0.0,
  zoneout_h: float = 0.0,
  unroll: Mapping[str, Any] | None = None,
  dtype: DTypeLike = jnp.float32,
  keys: Sequence[Array],
  **cell_options: Any,
) -> tuple[list[Cell], dict[str, Any]]:
  """Makes the layers of a network.

  Args:
    input_sizes: width of the input of each layer, from the bottom up.
    cell: a file of `hyperjax.nn.cells`, or any module with such a `build`.
    hidden_size: units of each layer.
    hyper_size: units of the hyper cell; read by hyper cells alone.
    z_size: N_z; read by hyper cells alone.
    hyper_cell: 'rnn' or 'lstm'; empty means that of the cell's own kind.
    generation: how weights are generated, 'row_scaling' or 'full'.
    recurrent_keep_prob: of the dropout inside the cells.
    hyper_recurrent_keep_prob: of the dropout inside the hyper cells.
    zoneout_c: of the cells' memory.
    zoneout_h: of the cells' output.
    unroll: remat and defer of `nn.unroll`, kernels of the cells; from
      `config.unroll`.
    dtype: precision of all products; from `config.dtype`.
    keys: PRNG key of the initial weights of each layer.
    **cell_options: any other options that the cell takes.

  Returns:
    The cells from the bottom up, and the options of `nn.unroll`.

  Raises:
    UserError: names the field that the cell does not take, or lacks.
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
  cells = []
  for input_size, key in zip(input_sizes, keys, strict=True):
    given = {'input_size': input_size, 'hidden_size': hidden_size, 'key': key}
    if not cells:
      by_name.check(
        build_cell, options, given, field='config.model', what=f"cell '{cell}'"
      )
    cells.append(build_cell(**given, **options))
  try:
    kernels_of(cells[0], unroll['kernels'], unroll.get('defer', True))
  except ValueError as error:
    raise UserError(f'config.unroll.kernels: {error}') from error
  return cells, unroll


def _unroll_options(build_cell, cell, kernels='auto', **options):
  """(options of `nn.unroll`, options of the cell), from `config.unroll`."""
  known = 'remat', 'defer', 'kernels'
  for name in options:
    if name not in known:
      raise UserError(
        f'no field config.unroll.{name}{did_you_mean(name, known)}'
      )
  if (remat := options.get('remat', 'elementwise')) not in [*REMAT]:
    raise UserError(
      f"config.unroll.remat: no '{remat}'{did_you_mean(remat, REMAT)}"
    )
  if kernels not in (known := (*KERNELS, 'pallas')):
    raise UserError(
      f"config.unroll.kernels: no '{kernels}'{did_you_mean(kernels, known)}"
    )
  if kernels != 'pallas':
    return {**options, 'kernels': kernels}, {}
  if 'kernels' not in by_name.options_of(build_cell):
    raise UserError(
      f"config.unroll.kernels is '{kernels}', but cell '{cell}' has no such "
      f"option; set it to 'xla'"
    )
  return {**options, 'kernels': 'xla'}, {'kernels': kernels}
