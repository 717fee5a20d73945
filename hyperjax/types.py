"""The protocols that hold the house together, and a few aliases.

Recurrent code is time-major `[time, batch, ...]`; batches at the border of a
task are batch-major.
"""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from jax import Array

PyTree = Any
Batch = dict[str, Array]
Carry = PyTree
Metrics = dict[str, Any]  # of training.metrics.Mean


class Cell(Protocol):
  """A recurrent cell: what depends on the past is apart from what does not."""

  def project(self, xs: PyTree) -> PyTree:
    """All input products of all time steps, outside the scan."""

  def initial_carry(self, batch_size: int) -> Carry:
    """The state of streams that have seen nothing; leaves are [B, ...]."""

  def step(
    self, carry: Carry, x: PyTree, key: Array | None
  ) -> tuple[Carry, Array]:
    """One time step from one slice of `project`: new carry, output [B, H].

    A key turns recurrent dropout on; None is evaluation. A cell may have
    `noise(key, batch_size)`: the masks of a step, which `step` takes in place
    of the key. `unroll` then draws those of all steps at once.
    """


class Source(Protocol):
  """Data addressed by index: batch k is a pure function of (seed, k)."""

  meta: dict[str, Any]  # plain JSON: name, sha256, sizes, vocabulary, ...

  def arrays(self) -> PyTree:
    """What goes to the device once, for `batch`.

    A source of a corpus that need not fit there has `window` in its place:
    (seeds, step) -> (arrays, count), NumPy arrays that are good for the steps
    step, ..., step + count - 1 of these seeds, as few as one. Their shapes may
    change from window to window; the step is compiled anew for each shape.
    """

  def batch(self, arrays: PyTree, seed: Array, step: Array) -> Batch:
    """Training batch `step`; jittable, so it runs inside the train step.

    An array is [B, ...], with a row for each stream or example, and is cut or
    dealt out along B; or it has another length than the rows, and stays whole.
    The first by name that is no number must have rows. A recurrent source adds
    `fresh` [B]: which streams start anew here.
    """

  def eval(self, split: str, batch_size: int) -> Iterator[Batch]:
    """One pass over a split, padded, with a `mask` of what counts."""

  def eval_protocol(self, batch_size: int) -> str:
    """How `eval` goes through a split, in words, for the result."""


class Variables(NamedTuple):
  """What `Task.init` makes: dictionaries of arrays."""

  params: PyTree
  state: PyTree


class Aux(NamedTuple):
  """What a loss returns beside its scalar."""

  state: PyTree
  carry: Carry
  metrics: Metrics
  # What the scalar is a mean over: the weight of this batch where gradients of
  # several are accumulated.
  weight: Array | float = 1.0


class Task(Protocol):
  """One problem: how a model is trained on it and measured."""

  objective: str  # the metric, lower is better, that selects the best step

  def init(self, key: Array) -> Variables:
    """Fresh parameters and model state."""

  def carry(self, batch_size: int) -> Carry:
    """The recurrent state of a stream's start; () for feed-forward tasks."""

  def loss(
    self,
    params: PyTree,
    state: PyTree,
    carry: Carry,
    batch: Batch,
    key: Array,
  ) -> tuple[Array, Aux]:
    """The scalar to minimise on a training batch."""

  def metrics(
    self, params: PyTree, state: PyTree, carry: Carry, batch: Batch
  ) -> tuple[Carry, Metrics]:
    """What an evaluation batch adds to each metric."""


class Drawing(Protocol):
  """A sample that is no text."""

  name: str  # a word for its files

  def draw(self, folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    """Writes files whose names begin with `name`; returns their paths."""


class GenerativeTask(Task, Protocol):
  """What a task may have besides; runs use what is there."""

  def merge(self, variables: Variables) -> Any:
    """The model as a Flax module, for `run.load`."""

  def measure_generated(
    self,
    variables: Variables,
    source: Source,
    split: str,
    request: dict[str, Any],
  ) -> dict[str, float]:
    """Metrics of what the model generates for a split, on `config.sample`."""

  def generation_protocol(self, request: dict[str, Any]) -> str:
    """How `measure_generated` does it, in words, for the result."""

  def references(self, source: Source, split: str) -> dict[str, float]:
    """What simple models reach on a split, in the objective's unit, by name."""

  def sample(
    self, variables: Variables, request: dict[str, Any], meta: dict[str, Any]
  ) -> 'str | Drawing':
    """What the model generates on `config.sample`, for data of that `meta`."""

  def check_sample(self, request: dict[str, Any], meta: dict[str, Any]) -> None:
    """Raises `UserError` where `sample` would; asked before training."""


class TrainState(NamedTuple):
  """All that changes during training; a checkpoint is one of these.

  With several seeds, all but `step` have a leading axis of seeds.
  """

  step: Array
  params: PyTree
  state: PyTree
  carry: Carry
  opt_state: PyTree
  broken: Array  # the first step with a metric that was not finite, or -1
