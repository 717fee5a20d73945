"""A network that generates the parameters of any other (paper, Sec. 3.1)."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from hyperjax.errors import UserError, did_you_mean
from hyperjax.nn import per_example, slots
from hyperjax.nn.chunk_generators import MLP, TwoLayer
from hyperjax.nn.initializers import fans
from hyperjax.types import PyTree

INITS = ('paper', 'hyperfan_in', 'hyperfan_out')


class Counts(NamedTuple):
  """Numbers in the parameters of a hypernetwork.

  Attributes:
    own: in its generator and embeddings.
    generated: in what it generates, which is not trained itself.
    ordinary: in the target's other parameters; `own + ordinary` are trained.
  """

  own: int
  generated: int
  ordinary: int


class Hypernetwork(nnx.Module):
  """Generates parameters of an `nnx.Module`, and is called in its place.

      cnn = CNN(rngs=nnx.Rngs(0))
      hyper = Hypernetwork(cnn, z_size=16, key=jax.random.key(0))
      logits = hyper(images)

  The target is copied. In the copy the generated parameters are gone: they are
  made anew in every call, so `nnx.split(hyper, nnx.Param, ...)` has those of
  the generator, the embeddings, and the target's other parameters, which are
  trained as usual. All other variables stay the target's: batch norm moves
  `hyper.target`'s statistics, and `hyper.train()` and `hyper.eval()` reach it.
  Other attributes that a call sets are lost, and what it sows outside
  `nnx.capture`.

  Each generated parameter, flat, is cut into chunks of `chunk_size` numbers;
  the last may stick out, and what does is thrown away. Each chunk k has a
  learned embedding z_k, and one generator makes all chunks of all parameters
  in one batched call:

      parameter_t = s_t * reshape(concat(G(z_k) for its chunks k)[:size_t])

  G is the paper's two linear layers (Ha et al. 2016, Eq. 2), or a perceptron.
  Weights may depend on a task or an input c too; then G reads [z_k; c] (von
  Oswald et al. 2020, "Continual learning with hypernetworks"), and it
  needs a hidden layer: in a linear G, c would move all chunks alike.

  The scale s_t is fixed. With `init='paper'` it is 1: weights of G from a
  truncated normal of deviation 0.01, biases zero, embeddings N(0, 1); what is
  generated starts close to zero, for batch norm to make up for. The others are
  Chang, Flaschel, Oppliger 2020, "Principled weight initialization for
  hypernetworks": generated weights start with variance gain / fan_in, or
  gain / fan_out, of the layer they are for, whatever the sizes of G. Biases
  are zero there, z_k and c have mean square 1 (an input c should have), and
  each layer of G passes that on, so its output has variance 1:

      Var G = n E[h^2] Var W = n * 1 * 1/n = 1,  so s_t = sqrt(gain / fan_t).

  (There the last layer's weights hold the fan; here all parameters share
  them.) Kernels are [..., in, out]; leading axes are a window, as of
  convolutions, if the module has a `kernel_size` or there are two or more, and
  otherwise a stack of kernels. `nnx.LinearGeneral` knows its own fans, and a
  parameter made as `nnx.Param(value, fans=(fan_in, fan_out))` has these. A
  vector counts as [size, size].

  Args:
    target: any module; it is left as it is.
    generate: globs ('*' matches '/' too) or compiled regular expressions (to
      match in full) on names such as 'blocks/0/conv/kernel'. By default, all
      floating-point parameters of two or more dimensions, which may be biases
      too, as in `nnx.MultiHeadAttention`. A parameter that is used in several
      places is generated once, and goes by several names.
    z_size: size of each embedding, N_z.
    chunk_size: numbers in a chunk; the default is the paper's 16 x 16 kernels
      of 3 x 3.
    hidden_sizes: units of hidden layers with ReLU; None for the two layers of
      the paper.
    rows: of the paper's layers, into how many parts a chunk is cut that share
      the second one.
    num_tasks: learns an embedding c [N_z] of each of so many tasks; then calls
      take `task`.
    condition_size: size of an input c; then calls take `condition`.
    init: 'paper', 'hyperfan_in' or 'hyperfan_out'.
    gain: of the latter two: 2 before a ReLU.
    dtype: precision of the generator's products, see `ops.product`. Generated
      parameters have the types of the target's.
    key: PRNG key of the initial weights.

  Raises:
    UserError: an argument, here or in a call, does not fit.
  """

  def __init__(
    self,
    target: nnx.Module,
    *,
    generate: slots.Pattern | Iterable[slots.Pattern] | None = None,
    z_size: int = 64,
    chunk_size: int = 2304,
    hidden_sizes: Sequence[int] | None = None,
    rows: int = 16,
    num_tasks: int | None = None,
    condition_size: int | None = None,
    init: str = 'hyperfan_in',
    gain: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    key: Array,
  ):
    if init not in INITS:
      raise UserError(f"init: no '{init}'{did_you_mean(init, INITS)}")
    if not isinstance(target, nnx.Module):
      raise UserError(
        f'target is of type {type(target).__name__}; it must be an nnx.Module'
      )
    _check_sizes(
      z_size=z_size,
      chunk_size=chunk_size,
      rows=rows,
      num_tasks=num_tasks,
      condition_size=condition_size,
      **{f'hidden_sizes[{k}]': n for k, n in enumerate(hidden_sizes or ())},
    )
    if num_tasks and condition_size:
      raise UserError(
        'num_tasks and condition_size are both given; leave one of them out'
      )
    if (num_tasks or condition_size) and not hidden_sizes:
      raise UserError(
        'hidden_sizes: weights that depend on a task or a condition need a '
        'hidden layer; give, say, hidden_sizes=(64,)'
      )
    embedding_key, task_key, generator_key = jax.random.split(key, 3)
    chosen = slots.choose(slots.find(target), generate)
    self.target, self._slots = slots.cut(target, chosen)
    self._scales = tuple(_scale(found, init, gain) for found in chosen)
    self._num_chunks = tuple(
      -(-math.prod(slot.shape) // chunk_size) for slot in self._slots
    )
    self.num_tasks = num_tasks
    self.condition_size = z_size if num_tasks else condition_size

    # An embedding is looked up, which is a product with fans of one.
    self.embeddings = nnx.Param(
      jax.random.normal(embedding_key, (sum(self._num_chunks), z_size)),
      fans=(1, 1),
    )
    self.tasks = nnx.data(None)
    if num_tasks:
      self.tasks = nnx.Param(
        jax.random.normal(task_key, (num_tasks, z_size)), fans=(1, 1)
      )
    options = {'init': init, 'dtype': dtype, 'key': generator_key}
    if hidden_sizes is None:
      self.generator = TwoLayer(z_size, chunk_size, rows=rows, **options)
    else:
      self.generator = MLP(
        z_size + (self.condition_size or 0),
        chunk_size,
        hidden_sizes=tuple(hidden_sizes),
        **options,
      )

  def __call__(
    self,
    *args: Any,
    condition: ArrayLike | None = None,
    task: ArrayLike | None = None,
    **kwargs: Any,
  ) -> PyTree:
    """Calls the target with generated parameters.

    One condition makes one set of weights. A batch of them makes weights for
    each example: each then goes through the target alone, as a batch of one,
    in a `vmap` over the leading axis of all arrays among the arguments. There,
    scalars and what is no array are the same for all, but a typed PRNG key is
    split, as are the target's own random streams. What comes out must have a
    batch axis. The target's variables may not change, for each example would
    change them in its own way: batch norm must be in evaluation mode.

    Args:
      *args: of the target.
      condition: [C] or [B, C], for `condition_size`.
      task: an integer or [B] of them, for `num_tasks`.
      **kwargs: of the target.

    Returns:
      What the target returns.
    """
    condition = self._condition(condition, task)
    if condition is not None and condition.ndim == 2:
      return per_example.call(
        self._filled, self.target, condition, args, kwargs
      )
    return self._filled(condition)(*args, **kwargs)

  def generate(
    self,
    condition: ArrayLike | None = None,
    *,
    task: ArrayLike | None = None,
  ) -> dict:
    """The generated parameters, nested as `nnx.to_pure_dict` of the target's.

    Args:
      condition: [C] or [B, C]; [B, C] puts an axis [B] before all others.
      task: an integer, or [B] of them, to the same effect.
    """
    condition = self._condition(condition, task)
    make = self._weights
    if condition is not None and condition.ndim == 2:
      make = jax.vmap(make)
    nested = {}
    for slot, weight in zip(self._slots, make(condition), strict=True):
      *parents, name = slot.path
      inner = nested
      for parent in parents:
        inner = inner.setdefault(parent, {})
      inner[name] = weight
    return nested

  def materialize(
    self,
    condition: ArrayLike | None = None,
    *,
    task: ArrayLike | None = None,
  ) -> nnx.Module:
    """The target as a plain module, with what is generated as parameters.

    It shares no variable with the hypernetwork, but gradients flow back
    through it: `unroll(hyper.materialize(), ...)` trains the generator.

    Args:
      condition: [C].
      task: an integer.
    """
    condition = self._condition(condition, task)
    if condition is not None and condition.ndim == 2:
      raise UserError(
        'materialize: one module has one set of weights; give one condition or '
        'task, without a batch axis'
      )
    return nnx.clone(self._filled(condition))

  def counts(self) -> Counts:
    """How many numbers are trained and generated; of abstract modules too."""
    ordinary = _count(self.target)
    return Counts(
      own=_count(self) - ordinary,
      generated=sum(math.prod(slot.shape) for slot in self._slots),
      ordinary=ordinary,
    )

  def _weights(self, condition: Array | None) -> list[Array]:
    """What goes into each slot, for a condition [C]."""
    zs = self.embeddings[...]
    if condition is not None:
      tiled = jnp.broadcast_to(condition, (len(zs), len(condition)))
      zs = jnp.concatenate([zs, tiled], axis=1)
    # A split, not slices: its transpose is one concatenation, where that of
    # slices would be a sum of as many arrays of full size.
    parts = lax.split(self.generator(zs), self._num_chunks)
    weights = []
    for slot, scale, part in zip(self._slots, self._scales, parts, strict=True):
      flat = part.reshape(-1)[: math.prod(slot.shape)]
      weights.append((scale * flat).astype(slot.dtype).reshape(slot.shape))
    return weights

  def _filled(self, condition: Array | None) -> nnx.Module:
    """The target with its parameters; other variables are the target's own."""
    weights = self._weights(condition)
    params = {
      slot: slot.param(weight)
      for slot, weight in zip(self._slots, weights, strict=True)
    }
    return slots.fill(self.target, params)

  def _condition(self, condition, task) -> Array | None:
    """What the weights depend on, [C] or [B, C], or None."""
    given = {'condition': condition, 'task': task}
    wanted = 'task' if self.num_tasks else 'condition'
    if self.condition_size is None:
      wanted = None
    for name, value in given.items():
      if value is None and name == wanted:
        raise UserError(f'{name}: the weights depend on it; give one')
      if value is not None and name != wanted:
        option = 'num_tasks' if name == 'task' else 'condition_size'
        raise UserError(
          f'{name}: the weights do not depend on it; leave it out, or make the '
          f'hypernetwork with {option}'
        )
    if wanted == 'task':
      return self._embed(task)
    if wanted is None:
      return None
    condition = jnp.asarray(condition)
    if condition.ndim not in (1, 2) or condition.shape[-1] != (
      self.condition_size
    ):
      raise UserError(
        f'condition has shape {condition.shape}; it must be '
        f'[{self.condition_size}], or [batch, {self.condition_size}]'
      )
    return condition

  def _embed(self, task):
    if isinstance(task, int) and not 0 <= task < self.num_tasks:
      raise UserError(
        f'task is {task}; it must be one of 0 ... {self.num_tasks - 1}'
      )
    task = jnp.asarray(task)
    if task.ndim > 1 or not jnp.issubdtype(task.dtype, jnp.integer):
      raise UserError(
        f'task has shape {task.shape} and type {task.dtype}; it must be an '
        f'integer, or [batch] of them'
      )
    # Under jit nobody can look at the number: a wrong one gives no numbers.
    return self.tasks[...].at[task].get(mode='fill', fill_value=jnp.nan)


def _count(module):
  leaves = jax.tree.leaves(nnx.state(module, nnx.Param))
  return sum(math.prod(x.shape) for x in leaves)


def _check_sizes(**sizes):
  for name, size in sizes.items():
    if size is not None and size < 1:
      raise UserError(f'{name} is {size}; it must be 1 or more')


def _scale(found, init, gain):
  """The s_t of a parameter."""
  if init == 'paper':
    return 1.0
  fan_in, fan_out = fans(found.param, found.owner)
  return math.sqrt(gain / (fan_in if init == 'hyperfan_in' else fan_out))
