"""Dynamic evaluation: the model goes on learning from the text it is tested on.

A result of it is no test result in the paper's sense, which leaves such
methods out on purpose; so it has a name of its own, `test_dynamic/...`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax.evaluation.evaluate import add_up
from hyperjax.training.metrics import read
from hyperjax.training.progress import track
from hyperjax.types import PyTree, Source, Task


class DynamicEvaluator:
  """Measures parameters that follow the text (Krause et al. 2018, by SGD).

  Each window is first predicted, which is what counts, and then learned: one
  step of gradient descent on its own mean loss, back to its first symbol and
  no further. So no symbol is ever predicted from itself or a later one.

  Args:
    task: gives the metrics of a batch; the gradient is that of its objective.
    source: gives the batches, in one contiguous pass.
    learning_rate: of the steps.
  """

  def __init__(self, task: Task, source: Source, learning_rate: float):
    self._source = source
    self._task = task

    def predict(params, state, carry, batch):
      carry, metrics = task.metrics(params, state, carry, batch)
      mean = metrics[task.objective]
      return mean.total / jnp.maximum(mean.weight, 1), (carry, metrics)

    @jax.jit
    def step(params, state, carry, batch):
      gradient, (carry, metrics) = jax.grad(predict, has_aux=True)(
        params, state, carry, batch
      )
      params = jax.tree.map(
        lambda x, g: x - learning_rate * g, params, gradient
      )
      return params, carry, metrics

    self._step = step

  def __call__(
    self, params: PyTree, state: PyTree, split: str
  ) -> dict[str, np.ndarray]:
    """Metrics of a split, read once from its start with one stream.

    Args:
      params: to start from; they are not changed.
      state: model state.
      split: of the source.

    Returns:
      {'split_dynamic/metric_unit': mean over all predictions}.
    """
    name = f'{split}_dynamic'
    carry, parts = self._task.carry(1), []
    for batch in track(self._source.eval(split, 1), unit=f'{name} window'):
      params, carry, metrics = self._step(params, state, carry, batch)
      parts.append(metrics)
    return read(add_up(parts), name)
