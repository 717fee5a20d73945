"""Our cells in other people's code: the interface of `flax.nnx.RNN`."""

import math

import jax
from flax import nnx
from jax import Array

from hyperjax.types import Carry, Cell


class NNXCell(nnx.RNNCellBase):
  """Any cell of this library as a `flax.nnx` recurrent cell.

      rnn = nnx.RNN(NNXCell(HyperLSTM(...)))

  Written for convenience, not for speed: `nnx.RNN` calls it step by step, so
  input products are not taken out of the loop. `nn.unroll` does that.

  Args:
    cell: a cell whose inputs are written-out vectors.
    rngs: recurrent dropout and zoneout draw from this stream, or from its
      `dropout` stream; None leaves them off. `eval()` turns them off too,
      `train()` on again.
  """

  def __init__(self, cell: Cell, rngs: nnx.Rngs | nnx.RngStream | None = None):
    self.cell = cell
    stream = rngs.dropout if isinstance(rngs, nnx.Rngs) else rngs
    self.rngs = nnx.data(None if stream is None else stream.fork())
    self.deterministic = rngs is None

  def initialize_carry(
    self,
    input_shape: tuple[int, ...],
    rngs: nnx.Rngs | nnx.RngStream | None = None,
    carry_init: None = None,
  ) -> Carry:
    """The cell's own initial carry, with the batch axes of the input.

    Args:
      input_shape: [..., input_size].
      rngs: not needed.
      carry_init: not supported, as the cells define their start.
    """
    del rngs
    if carry_init is not None:
      raise ValueError('carry_init: the cell has an initial carry of its own')
    batch = input_shape[:-1]
    carry = self.cell.initial_carry(math.prod(batch))
    return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), carry)

  def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
    """One step: carry, inputs [..., input_size] -> carry, h [..., H]."""
    batch = inputs.shape[:-1]

    def flat(x):
      return x.reshape(math.prod(batch), *x.shape[len(batch) :])

    def unflat(x):
      return x.reshape(*batch, *x.shape[1:])

    xs = self.cell.project(flat(inputs)[None])
    off = self.rngs is None or self.deterministic
    carry, h = self.cell.step(
      jax.tree.map(flat, carry),
      jax.tree.map(lambda x: x[0], xs),
      None if off else self.rngs(),
    )
    return jax.tree.map(unflat, carry), unflat(h)

  @property
  def num_feature_axes(self) -> int:
    """One: the inputs are vectors."""
    return 1
