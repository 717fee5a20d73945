"""What happens inside recurrent layers as they read (paper, Fig. 4 and 5)."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from hyperjax.nn import weight_changes
from hyperjax.nn.cells.hyper_cell import HyperCell
from hyperjax.nn.cells.lstm import LSTM
from hyperjax.nn.cells.rnn import RNN
from hyperjax.nn.stack import Stack
from hyperjax.nn.window import WindowCell
from hyperjax.types import Carry, Cell, PyTree


class Trace(NamedTuple):
  """A layer over T steps of B sequences, for G gates and H units.

  What a cell does not have is None.

  Attributes:
    outputs: [T, B, ...], what `unroll` gives.
    gates: [T, B, G, H], the activations: sigmoid(i), tanh(g), sigmoid(f + 1),
      sigmoid(o) of an LSTM, after layer norm; h of a basic RNN.
    memory: [T, B, H] of an LSTM, the tanh(c) that its output gate lets through.
    changes: [T, B, G] of a hyper cell, how much each step changed the generated
      W_h of each gate; see `weight_changes.change`.
  """

  outputs: Array
  gates: Array | None
  memory: Array | None
  changes: Array | None


class Traceable(Protocol):
  """A model that is a stack, such as `models.char_lm.CharLM`."""

  stack: Stack

  def initial_carry(self, batch_size: int) -> Carry:
    """One carry a layer."""

  def inputs(self, batch: Array) -> PyTree:
    """What the lowest layer takes, [T, B, ...], of a batch [B, T, ...]."""


def trace(
  model: Traceable, batch: Array, carry: Carry | None = None
) -> tuple[Carry, list[Trace]]:
  """Lets a model read, without dropout, and looks into its layers.

  Args:
    model: a language model, or one of pen moves.
    batch: symbols, int [B, T]; or moves [B, T, 3].
    carry: of the model; None begins anew.

  Returns:
    The carry behind the last step, and a trace of each layer from the bottom
    up.
  """
  carry = model.initial_carry(len(batch)) if carry is None else carry
  graph, params = nnx.split(model)

  @jax.jit
  def run(params, carry, batch):
    model = nnx.merge(graph, params)
    return trace_stack(model.stack, carry, model.inputs(batch))

  return run(params, carry, batch)


def trace_stack(
  stack: Stack, carry: tuple[Carry, ...], xs: PyTree
) -> tuple[tuple[Carry, ...], list[Trace]]:
  """Carries and inputs [T, B, ...] -> carries and a trace of each layer."""
  carries, traces = [], []
  for cell, cell_carry in zip(stack.cells, carry, strict=True):
    cell_carry, of_cell = trace_cell(cell, cell_carry, xs)
    carries.append(cell_carry)
    traces.append(of_cell)
    xs = of_cell.outputs
  return tuple(carries), traces


def trace_cell(cell: Cell, carry: Carry, xs: PyTree) -> tuple[Carry, Trace]:
  """The carry and inputs [T, B, ...] of any cell -> the carry and a trace."""

  def step(before, x):
    after, h = cell.step(before, x, None)
    return after, Trace(h, *_look(cell, before, x, after))

  return lax.scan(step, carry, cell.project(xs))


def _look(cell, before, x, after):
  """The gates, memory and changes of a step; None for what there is not."""
  if isinstance(cell, WindowCell):
    return _look(cell.cell, *cell.within(before, x), after[0])
  main, changes = cell, None
  if isinstance(cell, HyperCell):
    changes = weight_changes.change(cell, before, after)
    main, (_, gates) = cell.main, cell.gates(before, x)
    after = after[0]
  elif isinstance(cell, LSTM | RNN):
    gates = cell.gates(before, x)
  else:
    return None, None, None
  memory = main.memory(after) if isinstance(main, LSTM) else None
  return jnp.stack(main.activations(gates), axis=1), memory, changes
