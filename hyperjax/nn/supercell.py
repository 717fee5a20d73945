"""Cells of the paper's author, by the variables of his TensorFlow code.

`cell_of` takes the variables of one of the cells of
https://github.com/hardmaru/supercell (LSTMCell, LayerNormLSTMCell,
HyperLSTMCell) and returns our cell of the same function. docs/supercell.md has
the whole mapping, and what changed between the versions of that code:

  theirs                           ours
  W_xh [X, 4 H]                    input.kernel (main.input.kernel)
  W_hh or W_hh_i [H, 4 H]          recurrent.kernel (main.recurrent.kernel)
  bias [4 H]                       bias.bias; shift.bias of a HyperLSTM
  ln*: gain, bias                  norm_gates.{scale, bias}, norm_cell.{...}
  LSTMCell/W_xh [X + H, 4 S]       the first X rows hyper.input.kernel, the
                                   other H feedback.kernel
  hyper_*x/zw, hyper_*x/alpha      weights_x.vectors.{embedding, kernel}
  hyper_*h/zw, hyper_*h/alpha      weights_h.vectors.{embedding, kernel}
  hyper_*{b,h}/zb, hyper_*/beta    shift.{embedding, kernel}

for * in i, j, f, o, which are our i, g, f, o.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hyperjax.errors import UserError
from hyperjax.nn.cells.hyper_lstm import HyperLSTM
from hyperjax.nn.cells.lstm import LSTM
from hyperjax.nn.generators import GateVectors
from hyperjax.nn.linear import GateNorm, LayerNorm, Linear, Product

GATES = 'ijfo'  # j is the candidate, our g
INNER_CELLS = 'LSTMCell', 'LayerNormLSTMCell'
# Names of a layer norm's gain and bias, the newest first.
NORMS = (
  ('ln_gamma', 'ln_beta'),
  ('ln_alpha', 'ln_bias'),
  ('layer_norm_alpha', 'layer_norm_bias'),
)


def cell_of(
  variables: Mapping[str, Any],
  scope: str = '',
  *,
  forget_bias: float = 1.0,
  **options: Any,
) -> LSTM | HyperLSTM:
  """The cell that computes what theirs does with these variables.

  Which one, its sizes, and whether it has layer norm, the names and shapes
  tell. A bias in front of a layer norm, which our cells lack, is kept as that
  of the input's product, `input.bias`, unless it is zero.

  Args:
    variables: arrays by name, as a TensorFlow checkpoint has them. What lies
      beneath the name of a variable that is used (`W_xh/Adam`) is taken for
      its optimizer's, and left.
    scope: of the cell; names outside it are left, too.
    forget_bias: that their cell was made with. Ours adds 1; the rest goes into
      the bias that is added in the same place.
    **options: of `LSTM` or `HyperLSTM`: keep probabilities, zoneout, kernels,
      dtype.

  Raises:
    UserError: names a variable that is missing, is not used, or has another
      shape than it should.
  """
  found = _Variables(variables, scope)
  layer_norm = any('ln_' in name for name in found.names)
  if any(name.startswith('hyper_') for name in found.names):
    cell = _hyper_lstm(found, layer_norm, forget_bias - 1.0, options)
  else:
    cell = _lstm(found, layer_norm, forget_bias - 1.0, options)
  found.check_all_used()
  return cell


def _lstm(found, layer_norm, forget, options):
  w_x, w_h = _matrices(found)
  inputs, size = len(w_x), len(w_h)
  # For its structure; every array of it is put in below.
  cell = nnx.eval_shape(
    lambda: LSTM(
      inputs,
      size,
      layer_norm=layer_norm,
      key=jax.random.key(0),
      **options,
    )
  )
  bias = _bias(found, size, needed=not layer_norm)
  before_norm = None
  if layer_norm:
    before_norm = bias.reshape(-1) if bias is not None and bias.any() else None
    _put_norms(cell, found, size, forget)
  else:
    cell.bias.bias = _param(_with_forget(bias, forget))
  cell.input = _linear(w_x, before_norm, cell.input.dtype)
  cell.recurrent = Product(jnp.array(w_h), dtype=cell.recurrent.dtype)
  return cell


def _hyper_lstm(found, layer_norm, forget, options):
  w_x, w_h = _matrices(found)
  inputs, size = len(w_x), len(w_h)
  inner = found.beneath(INNER_CELLS)
  # Their HyperLSTMCell makes the inner cell with a forget bias of 1.
  hyper = _lstm(inner, layer_norm, 0.0, {})
  kernel, before_norm = hyper.input.kernel[...], hyper.input.bias
  inner.check_shape('W_xh', kernel, (inputs + size, 4 * hyper.hidden_size))
  hyper_size = hyper.hidden_size
  first_z = found.take(['hyper_ix/zw/super_linear_w'], (hyper_size, None))
  z_size = first_z.shape[1]
  cell = nnx.eval_shape(
    lambda: HyperLSTM(
      inputs,
      size,
      hyper_size=hyper_size,
      z_size=z_size,
      layer_norm=layer_norm,
      key=jax.random.key(0),
      **options,
    )
  )
  dtype = cell.main.input.dtype
  cell.main.input = _linear(w_x, None, dtype)
  cell.main.recurrent = Product(jnp.array(w_h), dtype=dtype)
  b_0 = _bias(found, size, needed=True)
  if layer_norm:
    _put_norms(cell.main, found, size, forget)
  else:
    b_0 = _with_forget(b_0, forget)

  # Theirs reads [x; h].
  cell.hyper.input = _linear(
    kernel[:inputs], None if before_norm is None else before_norm[...], dtype
  )
  cell.feedback = Product(kernel[inputs:], dtype=dtype)
  cell.hyper.recurrent = Product(hyper.recurrent.kernel[...], dtype=dtype)
  for name in ('norm_gates', 'norm_cell', 'bias'):
    setattr(cell.hyper, name, getattr(hyper, name))

  def arrays(letters, name, *shape):
    """One for each gate; of these letters' scopes the one that is there."""
    return [
      found.take([f'hyper_{gate}{letter}/{name}' for letter in letters], shape)
      for gate in GATES
    ]

  for letter, weights in (('x', cell.weights_x), ('h', cell.weights_h)):
    z = arrays(letter, 'zw/super_linear_w', hyper_size, z_size)
    z_bias = arrays(letter, 'zw/super_linear_b', z_size)
    alpha = arrays(letter, 'alpha/super_linear_w', z_size, size)
    embedding = _linear(np.hstack(z), np.hstack(z_bias), dtype)
    weights.vectors = GateVectors(embedding, jnp.stack(alpha), dtype=dtype)
  z = arrays('bh', 'zb/super_linear_w', hyper_size, z_size)
  beta = arrays('bh', 'beta/super_linear_w', z_size, size)
  cell.shift = GateVectors(
    _linear(np.hstack(z), None, dtype),
    jnp.stack(beta),
    jnp.array(b_0, jnp.float32),
    dtype=dtype,
  )
  return cell


def _matrices(found):
  """W_xh [X, 4 H] and W_hh [H, 4 H]."""
  w_h = found.take(['W_hh', 'W_hh_i'], (None, None))
  size = len(w_h)
  name = 'W_hh' if found.has('W_hh') else 'W_hh_i'
  found.check_shape(name, w_h, (size, 4 * size))
  return found.take(['W_xh'], (None, 4 * size)), w_h


def _bias(found, size, *, needed):
  """[4, H]; None where there is none and none is needed."""
  if not needed and not found.has('bias'):
    return None
  return found.take(['bias'], (4 * size,)).reshape(4, size)


def _put_norms(cell, found, size, forget):
  together = [scope for scope in ('ln', 'ln_all') if found.has_beneath(scope)]
  if together:
    gain, bias = found.norm(together[0], 4 * size)
  else:
    each = [found.norm(f'ln_{gate}', size) for gate in GATES]
    gain, bias = (np.concatenate(part) for part in zip(*each, strict=True))
  cell.norm_gates = GateNorm(4, size)
  cell.norm_gates.scale = _param(gain.reshape(4, size))
  cell.norm_gates.bias = _param(_with_forget(bias.reshape(4, size), forget))
  cell.norm_cell = LayerNorm(size)
  gain, bias = found.norm('ln_c', size)
  cell.norm_cell.scale, cell.norm_cell.bias = _param(gain), _param(bias)


def _with_forget(bias, forget):
  """[4, H] with what their forget bias has above ours."""
  return bias + forget * (np.array(list(GATES)) == 'f')[:, None]


def _param(array):
  return nnx.Param(jnp.array(array, jnp.float32))


def _linear(kernel, bias, dtype):
  bias = None if bias is None else jnp.array(bias)
  return Linear(jnp.array(kernel), bias, dtype=dtype)


class _Variables:
  """Arrays by name under a scope, each taken once, with its shape checked."""

  def __init__(self, variables: Mapping[str, Any], scope: str):
    self._all = {
      name.removesuffix(':0'): value for name, value in variables.items()
    }
    self._scope = scope.strip('/')
    self._prefix = f'{self._scope}/' if self._scope else ''
    self._used = set()
    self.names = [
      name.removeprefix(self._prefix)
      for name in self._all
      if name.startswith(self._prefix)
    ]
    if not self.has('W_xh'):
      scopes = [
        name.removesuffix('/W_xh')
        for name in self._all
        if name.endswith('/W_xh')
      ]
      raise UserError(
        f"no variable '{self._prefix}W_xh'; scopes with a W_xh: "
        f'{", ".join(scopes) or "none"}'
      )

  def has(self, name: str) -> bool:
    return self._prefix + name in self._all

  def has_beneath(self, scope: str) -> bool:
    return any(name.startswith(f'{scope}/') for name in self.names)

  def beneath(self, scopes: Iterable[str]) -> '_Variables':
    """Those of the first scope that is there; what they use counts here."""
    there = [scope for scope in scopes if self.has_beneath(scope)]
    if not there:
      raise UserError(
        f"no variables of the hyper cell: '{self._prefix}"
        f"{' or '.join(scopes)}/...'"
      )
    inner = _Variables(self._all, self._prefix + there[0])
    inner._used = self._used
    return inner

  def take(
    self, names: Iterable[str], shape: tuple[int | None, ...]
  ) -> np.ndarray:
    """The one of these names that is there, float32."""
    there = [name for name in names if self.has(name)]
    if not there:
      words = ' or '.join(f"'{self._prefix}{name}'" for name in names)
      raise UserError(f'no variable {words}')
    name = there[0]
    self._used.add(self._prefix + name)
    array = np.asarray(self._all[self._prefix + name], np.float32)
    self.check_shape(name, array, shape)
    return array

  def check_shape(
    self, name: str, array: Any, shape: tuple[int | None, ...]
  ) -> None:
    """None in a shape is any length."""
    if len(array.shape) == len(shape) and all(
      known in (None, n) for n, known in zip(array.shape, shape, strict=True)
    ):
      return
    words = ', '.join('any' if n is None else str(n) for n in shape)
    raise UserError(
      f"variable '{self._prefix}{name}' is {list(array.shape)}; it should be "
      f'[{words}]'
    )

  def norm(self, scope: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Gain and bias, each [size]."""
    ends = {name.rpartition('/')[2] for name in self._all}
    names = next((n for n in NORMS if ends & set(n)), NORMS[0])
    gain = self.take([f'{scope}/{names[0]}'], (size,))
    # Versions of that winter had no bias anywhere.
    if names == NORMS[0] and names[1] not in ends:
      return gain, np.zeros_like(gain)
    return gain, self.take([f'{scope}/{names[1]}'], (size,))

  def check_all_used(self) -> None:
    left = [
      self._prefix + name
      for name in self.names
      if self._prefix + name not in self._used
      and not any(
        f'{self._prefix}{name}'.startswith(f'{used}/') for used in self._used
      )
    ]
    if left:
      more = f' and {len(left) - 1} more' if len(left) > 1 else ''
      raise UserError(
        f"variable '{left[0]}'{more} has no place in the cell; leave out what "
        f'does not belong to it'
      )
