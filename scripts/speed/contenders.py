"""What is timed: our models, and those of others, as functions to call."""

import dataclasses
import functools
import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax import parts
from hyperjax.config import language_model_config
from hyperjax.training import optimizer as optimizers
from hyperjax.training import seed_axis
from hyperjax.training.loop import DISPATCH_SECONDS
from hyperjax.training.progress import say
from hyperjax.training.step import init_state, make_advance


@dataclasses.dataclass(frozen=True)
class Shape:
  """A model's sizes and a batch's."""

  hidden: int
  hyper: int
  z: int
  vocab: int
  batch: int
  steps: int

  def flops(self, hyper: bool) -> float:
    """Of a train step: twice the multiply-adds, three times the forward."""
    h, s, n = self.hidden, self.hyper, self.z
    adds = 4 * h * h + h * self.vocab  # input products are gathered
    if hyper:
      adds += 4 * s * (h + s) + 12 * s * n + 12 * n * h
    return 6.0 * adds * self.batch * self.steps


# The paper's sizes. CPUs take small batches; of handwriting the sizes alone.
SHAPES = {
  'ptb-32x50': Shape(1000, 128, 16, 50, 32, 50),
  'ptb-128x20': Shape(1000, 128, 16, 50, 128, 20),
  'ptb-z4-128x20': Shape(1000, 128, 4, 50, 128, 20),
  'enwik8-1800-32x10': Shape(1800, 256, 64, 205, 32, 10),
  'enwik8-2048-32x10': Shape(2048, 512, 64, 205, 32, 10),
  'handwriting-32x50': Shape(900, 128, 4, 50, 32, 50),
}
ACCELERATOR_SHAPES = {
  'ptb-128x100': Shape(1000, 128, 16, 50, 128, 100),
  'ptb-z4-128x100': Shape(1000, 128, 4, 50, 128, 100),
  'enwik8-1800-128x250': Shape(1800, 256, 64, 205, 128, 250),
  'enwik8-2048-128x300': Shape(2048, 512, 64, 205, 128, 300),
  'handwriting-32x300': Shape(900, 128, 4, 50, 32, 300),
}
RESNETS = 'wrn_40_2', 'hyper_wrn_40_2'  # of configs/cifar10.py
PENS = 'lstm_900', 'hyper_lstm_900'  # of configs/handwriting.py
TRANSLATORS = 'lstm', 'ln_hyper_lstm'  # of configs/multi30k.py
SENTENCES = 256  # to translate
RESNET_BATCHES = {'cpu': 32, 'accelerator': 128}
QUICK = {'ptb-32x10': Shape(1000, 128, 16, 50, 32, 10)}
FULL = Shape(1000, 128, 16, 50, 128, 100)  # of `memory`

OURS = {  # name: config overrides
  'LN HyperLSTM': {'model.cell': 'ln_hyper_lstm'},
  'LN HyperLSTM, plain scan': {
    'model.cell': 'ln_hyper_lstm',
    'unroll.remat': 'nothing',
    'unroll.defer': False,
  },
  'LN LSTM': {'model.cell': 'ln_lstm'},
  'LSTM': {'model.cell': 'lstm'},
}
ON_ACCELERATORS = {
  'LN HyperLSTM, bfloat16': {
    'model.cell': 'ln_hyper_lstm',
    'dtype': 'bfloat16',
  },
  'LN HyperLSTM, scan': {
    'model.cell': 'ln_hyper_lstm',
    'unroll.kernels': 'xla',
  },
  'LN HyperLSTM, scan with the Pallas update': {
    'model.cell': 'ln_hyper_lstm',
    'unroll.kernels': 'pallas',
  },
  'LSTM, bfloat16': {'model.cell': 'lstm', 'dtype': 'bfloat16'},
}
PEER = 'PyTorch HyperLSTM, per step'
FUSED = 'torch.nn.LSTM'
CUDNN = 'jax.experimental.rnn LSTM'


@dataclasses.dataclass
class Contender:
  """Something to time: per kind, a function and how many steps a call does."""

  name: str
  workload: dict[str, tuple[Callable[[], Any], int]]
  compile_seconds: float | None = None
  temporaries: int | None = None  # bytes, of a train step


def on_accelerator() -> bool:
  """Whether JAX computes on anything but the CPU."""
  return jax.default_backend() != 'cpu'


class FixedBatch:
  """A source with one batch, which is on the device already."""

  def __init__(self, shape: Shape):
    rng = np.random.default_rng(0)
    symbols = rng.integers(shape.vocab, size=(2, shape.batch, shape.steps))
    self.meta = {}
    self.inputs, self.targets = jnp.asarray(symbols, jnp.int32)

  def arrays(self):
    """The batch."""
    return self.inputs, self.targets

  def batch(self, arrays, seed, step):
    """The same at every step."""
    del seed, step
    return {'inputs': arrays[0], 'targets': arrays[1]}


class FixedImages(FixedBatch):
  """The same of random images."""

  def __init__(self, batch: int, image_shape: tuple[int, int, int]):
    rng = np.random.default_rng(0)
    self.meta = {}
    self.inputs = jnp.asarray(rng.normal(size=(batch, *image_shape)), 'float32')
    self.targets = jnp.asarray(rng.integers(10, size=batch), jnp.int32)


def config_of(shape: Shape, overrides: dict[str, Any]):
  """The config of a language model of this shape, as a run would have it."""
  config = language_model_config()
  config.data.batch_size = shape.batch
  config.data.sequence_length = shape.steps
  config.data.vocab_size = shape.vocab
  config.model.hidden_size = shape.hidden
  config.model.hyper_size = shape.hyper
  config.model.z_size = shape.z
  config.update_from_flattened_dict(overrides)
  return config


def trainer(shape: Shape, overrides: dict[str, Any]):
  """(task, source, `advance`, a function that makes its first state)."""
  return trainer_of(config_of(shape, overrides), FixedBatch(shape))


def trainer_of(config, source):
  """The same of a config and what gives its batches."""
  task = parts.build_task(config)
  options = config.optimizer.to_dict()
  optimizer, _ = optimizers.build(num_steps=1_000_000, **options)
  seeds = seed_axis.of(0, 1)
  advance = make_advance(task, source, optimizer, seeds)
  size = config.data.batch_size
  start = jax.jit(lambda: init_state(task, optimizer, size, seeds))
  return task, source, advance, start


def ours(name: str, shape: Shape, overrides: dict[str, Any]) -> Contender:
  """A model of hyperjax under the trainer that runs use."""
  config = config_of(shape, overrides)
  task, source, advance, start = trainer_of(config, FixedBatch(shape))
  arrays, state = source.arrays(), start()
  batch, key = source.batch(arrays, None, None), jax.random.key(0)
  params, variables = jax.tree.map(jnp.copy, (state.params, state.state))
  carry = task.carry(shape.batch)

  def loss(params):
    return task.loss(params, variables, carry, batch, key)[0]

  began = time.perf_counter()
  step = advance.lower(state, arrays, 1).compile()
  compile_seconds = time.perf_counter() - began
  box = [state]

  def train(steps):
    box[0], _ = step(box[0], arrays, steps)
    jax.block_until_ready(box[0])

  steps = steps_of_runs(train, config.train.steps_per_dispatch)
  return Contender(
    name,
    {
      'forward': (waited(jax.jit(loss), params), 1),
      'gradient': (waited(jax.jit(jax.grad(loss)), params), 1),
      'train step': (functools.partial(train, steps), steps),
    },
    compile_seconds,
    step.memory_analysis().temp_size_in_bytes,
  )


def steps_of_runs(train: Callable[[int], None], most: int) -> int:
  """About how many steps a run puts into a dispatch, by the time of one."""
  train(1)
  began = time.perf_counter()
  train(1)
  took = time.perf_counter() - began
  return min(math.ceil(DISPATCH_SECONDS / took), most)


def waited(function, *args):
  """The function without arguments that waits for its result."""
  return lambda: jax.block_until_ready(function(*args))


def cudnn(shape: Shape) -> Contender:
  """The LSTM of `jax.experimental.rnn`, with the same head and optimizer."""
  from jax.experimental import rnn

  source = FixedBatch(shape)
  inputs, targets = source.arrays()
  sizes = shape.vocab, shape.hidden
  weights = rnn.init_lstm_weight(jax.random.key(0), *sizes, 1, False)
  head = 0.03 * jax.random.normal(jax.random.key(1), sizes[::-1])
  zeros = jnp.zeros((1, shape.batch, shape.hidden))
  lengths = jnp.full(shape.batch, shape.steps, jnp.int32)
  optimizer, _ = optimizers.build(
    name='adam', learning_rate=1e-3, num_steps=1_000_000, clip_norm=1.0
  )

  def loss(params):
    weights, head = params
    xs = jax.nn.one_hot(inputs, shape.vocab)
    hs, _, _ = rnn.lstm(
      xs, zeros, zeros, weights, lengths, *sizes, 1, 0.0, False
    )
    log_p = jax.nn.log_softmax(hs @ head)
    return -jnp.mean(jnp.take_along_axis(log_p, targets[..., None], -1))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, opt_state):
    updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state)
    return jax.tree.map(jnp.add, params, updates), opt_state

  params = weights, head
  box = [jax.tree.map(jnp.copy, params), optimizer.init(params)]

  def train():
    box[:] = step(*box)
    jax.block_until_ready(box)

  return Contender(
    CUDNN,
    {
      'forward': (waited(jax.jit(loss), params), 1),
      'gradient': (waited(jax.jit(jax.grad(loss)), params), 1),
      'train step': (train, 1),
    },
  )


def peers(shape: Shape) -> list[Contender]:
  """The PyTorch models, if PyTorch is there."""
  if not importlib.util.find_spec('torch'):
    say("no PyTorch: pip install -e '.[bench]' adds its rows")
    return []
  from speed import torch_peers

  sizes = shape.vocab, shape.hidden
  batch = shape.hidden, shape.vocab, shape.batch, shape.steps
  models = {
    PEER: torch_peers.HyperLSTM(*sizes, shape.hyper, shape.z),
    FUSED: torch_peers.LSTM(*sizes),
  }
  return [
    Contender(
      name,
      {
        kind: (function, 1)
        for kind, function in torch_peers.workload(model, *batch).items()
      },
    )
    for name, model in models.items()
  ]
