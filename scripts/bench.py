"""Measures training speed and memory, side by side with others.

    python scripts/bench.py [--quick] [--parts=speed,memory,start,gap,parity]
      [--shapes=ptb-32x50,...] [--repeats=7] [--out=experiments/speed]

All contenders of a shape take turns, so that a slow moment of the machine
meets them all; a figure is the median of its turns. Writes DEVICE.json and
DEVICE.md under --out, of which parts that were not asked for stay as they
were. `pip install -e '.[bench]'` adds the PyTorch peers; without them their
rows are missing. `--quick` takes a minute on a CPU and writes nothing.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from hyperjax import command_line, run
from hyperjax import workdir as files
from hyperjax.config import language_model_config
from hyperjax.errors import UserError, did_you_mean
from hyperjax.training import loop, seed_axis
from hyperjax.training import optimizer as optimizers
from hyperjax.training.hooks import Every, Hook
from hyperjax.training.progress import say
from hyperjax.training.step import init_state, make_advance

PARTS = ('speed', 'memory', 'start', 'gap', 'parity')
KINDS = ('forward', 'gradient', 'train step')

_QUICK = flags.DEFINE_bool('quick', False, 'One small shape, train steps only.')
_PARTS = flags.DEFINE_list('parts', [*PARTS], 'What to measure.')
_SHAPES = flags.DEFINE_list('shapes', [], 'Shapes; none means all.')
_REPEATS = flags.DEFINE_integer('repeats', 7, 'Turns of each contender.')
_OUT = flags.DEFINE_string('out', 'experiments/speed', 'Where results go.')


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
  'LN HyperLSTM, Pallas kernel': {
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
  config = config_of(shape, overrides)
  task, source = run.build_task(config), FixedBatch(shape)
  options = config.optimizer.to_dict()
  optimizer, _ = optimizers.build(num_steps=1_000_000, **options)
  seeds = seed_axis.of(0, 1)
  advance = make_advance(task, source, optimizer, seeds)
  start = jax.jit(lambda: init_state(task, optimizer, shape.batch, seeds))
  return task, source, advance, start


def ours(name: str, shape: Shape, overrides: dict[str, Any]) -> Contender:
  """A model of hyperjax under the trainer that runs use."""
  task, source, advance, start = trainer(shape, overrides)
  arrays, state = source.arrays(), start()
  batch, key = source.batch(arrays, None, None), jax.random.key(0)
  params, variables = jax.tree.map(jnp.copy, (state.params, state.state))
  carry = task.carry(shape.batch)

  def loss(params):
    return task.loss(params, variables, carry, batch, key)[0]

  work = 1e13 if on_accelerator() else 1e11  # a dispatch of a second or less
  steps = max(1, round(work / shape.flops('Hyper' in name)))
  began = time.perf_counter()
  step = advance.lower(state, arrays, steps).compile()
  compile_seconds = time.perf_counter() - began
  box = [state]

  def train():
    box[0], _ = step(box[0], arrays, steps)
    jax.block_until_ready(box[0])

  return Contender(
    name,
    {
      'forward': (waited(jax.jit(loss), params), 1),
      'gradient': (waited(jax.jit(jax.grad(loss)), params), 1),
      'train step': (train, steps),
    },
    compile_seconds,
    step.memory_analysis().temp_size_in_bytes,
  )


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
  import torch_peers  # beside this file

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


def on_accelerator() -> bool:
  """Whether JAX computes on anything but the CPU."""
  return jax.default_backend() != 'cpu'


def kinds_of(name: str) -> Sequence[str]:
  """What is timed of a shape: train steps alone but for the main ones."""
  if name.startswith('ptb-') and 'z4' not in name and not _QUICK.value:
    return KINDS
  return KINDS[-1:]


def time_shape(
  name: str, shape: Shape, kinds: Sequence[str], repeats: int
) -> list[dict[str, Any]]:
  """A row for each contender and kind."""
  variants = OURS | (ON_ACCELERATORS if on_accelerator() else {})
  contenders = []
  for contender, overrides in variants.items():
    if not (_QUICK.value and contender == 'LN LSTM'):
      say(f'{name}: compiling {contender}')
      contenders.append(ours(contender, shape, overrides))
  if jax.default_backend() == 'gpu':
    contenders.append(cudnn(shape))
  contenders += peers(shape)
  rows = []
  for kind in kinds:
    say(f'{name}: {kind}, {repeats} turns of {len(contenders)}')
    seconds = {contender.name: [] for contender in contenders}
    for turn in range(repeats + 1):
      for contender in contenders:
        function, steps = contender.workload[kind]
        began = time.perf_counter()
        function()
        if turn:  # the first turn warms up
          took = (time.perf_counter() - began) / steps
          seconds[contender.name].append(took)
    for contender in contenders:
      turns = seconds[contender.name]
      rows.append(
        {
          'shape': name,
          'contender': contender.name,
          'kind': kind,
          'milliseconds': statistics.median(turns) * 1e3,
          'least': min(turns) * 1e3,
          'most': max(turns) * 1e3,
          **against(seconds, contender.name, PEER, 'speed_over_peer', True),
          **against(seconds, contender.name, FUSED, 'time_over_fused', False),
          **against(seconds, contender.name, CUDNN, 'time_over_cudnn', False),
          'compile_seconds': contender.compile_seconds,
          'temporaries_mib': contender.temporaries
          and contender.temporaries / 2**20,
          'flops': shape.flops('Hyper' in contender.name)
          if kind == 'train step'
          else None,
        }
      )
  return rows


def against(seconds, name, other, label, speed):
  """The median over turns of a ratio within a turn."""
  if other not in seconds:
    return {}
  pairs = zip(seconds[name], seconds[other], strict=True)
  ratios = [theirs / mine if speed else mine / theirs for mine, theirs in pairs]
  return {label: statistics.median(ratios)}


def matmul_rate() -> float:
  """FLOP/s of a large float32 matmul: what this machine can do at best."""
  x = jnp.ones((4096 if on_accelerator() else 2048,) * 2)
  function = jax.jit(jnp.matmul)
  seconds = []
  for _ in range(6):
    began = time.perf_counter()
    jax.block_until_ready(function(x, x))
    seconds.append(time.perf_counter() - began)
  return 2 * len(x) ** 3 / min(seconds[1:])


def measure_memory() -> list[dict[str, Any]]:
  """Peak temporaries of a full PTB train step, compiled but not run."""
  rows = []
  for remat, defer in (
    ('elementwise', True),
    ('step', True),
    ('nothing', True),
    ('nothing', False),
  ):
    overrides = {
      'model.cell': 'ln_hyper_lstm',
      'unroll.remat': remat,
      'unroll.defer': defer,
    }
    say(f'memory: compiling remat {remat}, defer {defer}')
    _, source, advance, start = trainer(FULL, overrides)
    step = advance.lower(jax.eval_shape(start), source.arrays(), 1).compile()
    size = step.memory_analysis().temp_size_in_bytes
    rows.append(
      {'remat': remat, 'defer': defer, 'temporaries_mib': size / 2**20}
    )
  return rows


def measure_start() -> dict[str, Any]:
  """Seconds from the command to the end of its first step, twice."""
  # Penn Treebank where it is, and else a text with the same sizes.
  folder = os.environ.get('HYPERJAX_DATA_DIR', '')
  if folder and (pathlib.Path(folder) / 'ptb').exists():
    command = ['--config=configs/ptb.py:ln_hyper_lstm']
  else:
    command = [
      '--config=configs/text.py:ln_hyper_lstm',
      '--config.model.hidden_size=1000',
      '--config.model.hyper_size=128',
      '--config.model.z_size=16',
      '--config.data.batch_size=128',
      '--config.data.sequence_length=100',
    ]
  command += [
    '--config.train.log_every=1',
    '--config.train.checkpoint_every=1',
    '--config.train.num_steps=1000',
  ]
  took = {}
  with tempfile.TemporaryDirectory() as scratch:
    for name in ('cold', 'warm'):
      say(f'start: {name} compile cache')
      workdir = pathlib.Path(scratch) / name
      took[name] = _first_step(command, workdir, pathlib.Path(scratch) / 'xla')
  return {'command': shlex.join(command[:-3]), **took}


def _first_step(command, workdir, cache):
  """Seconds until a run has written the metrics of a step."""
  environment = os.environ | {
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }
  began = time.perf_counter()
  with subprocess.Popen(
    [
      sys.executable,
      '-m',
      'hyperjax.main',
      f'--workdir={workdir}',
      *command,
    ],
    env=environment,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  ) as child:
    metrics = workdir / 'metrics.jsonl'
    while not (metrics.exists() and metrics.stat().st_size):
      if child.poll() is not None:
        raise UserError(f'the run ended early: {child.stderr.read()[-500:]}')
      time.sleep(0.02)
    took = time.perf_counter() - began
    child.kill()
  return took


def measure_gap(repeats: int) -> dict[str, Any]:
  """What the training loop adds to the steps themselves.

  The same steps, one a dispatch through `training.loop`, and all in one
  dispatch, in turns.
  """
  shape = SHAPES['ptb-32x50']
  count = 6
  _, source, advance, start = trainer(shape, {'model.cell': 'ln_hyper_lstm'})
  arrays = source.arrays()

  def alone(state):
    state, _ = advance(state, arrays, count)
    return state

  def looped(state):
    begin = int(state.step)
    hook = Hook(Every(begin + count, last=begin + count), lambda *_: None)
    with loop.Interruption() as interruption:
      return loop.run(
        state,
        lambda state, count: advance(state, arrays, count),
        [hook],
        num_steps=begin + count,
        steps_per_dispatch=1,
        on_metrics=lambda *_: None,
        on_stop=lambda *_: None,
        interruption=interruption,
      )

  say(f'gap: {repeats} turns of {count} steps')
  state, seconds = start(), {alone: [], looped: []}
  for turn in range(repeats + 1):
    for function, taken in seconds.items():
      began = time.perf_counter()
      state = jax.block_until_ready(function(state))
      if turn:
        taken.append(time.perf_counter() - began)
  ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
  return {
    'shape': 'ptb-32x50',
    'steps': count,
    'gap': statistics.median(ratios) - 1,
    'least': min(ratios) - 1,
    'most': max(ratios) - 1,
  }


def measure_parity() -> list[dict[str, Any]]:
  """How far gradients are from those of the plain scan in float64.

  Of the Penn Treebank model, with its initial weights and fresh streams.
  """
  shape = Shape(1000, 128, 16, 50, 16, 20)
  plain = OURS['LN HyperLSTM, plain scan']
  task, source, _, start = trainer(shape, plain)
  state = start()
  batch, key = source.batch(source.arrays(), None, None), jax.random.key(0)

  def gradient(task, params, carry):
    def loss(params):
      return task.loss(params, state.state, carry, batch, key)[0]

    return jax.jit(jax.grad(loss))(params)

  def double(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)

  say('parity: float64')
  carry = task.carry(shape.batch)
  with jax.enable_x64(True):
    exact = gradient(task, double(state.params), double(carry))
    exact = jax.tree.map(np.asarray, exact)
  rows = []
  for name, overrides in {
    'plain scan': plain,
    'default': {'model.cell': 'ln_hyper_lstm'},
    "remat 'step'": {'model.cell': 'ln_hyper_lstm', 'unroll.remat': 'step'},
    'bfloat16 products': {'model.cell': 'ln_hyper_lstm', 'dtype': 'bfloat16'},
  }.items():
    say(f'parity: {name}')
    task, *_ = trainer(shape, overrides)
    actual = gradient(task, state.params, carry)
    pairs = [
      (np.asarray(a, np.float64) - b, b)
      for a, b in zip(*map(jax.tree.leaves, (actual, exact)), strict=True)
    ]
    norms = [
      sum(float((x**2).sum()) for x in xs) for xs in zip(*pairs, strict=True)
    ]
    error = (norms[0] / norms[1]) ** 0.5
    rows.append({'variant': name, 'relative_gradient_error': error})
  return rows


def markdown(result: dict[str, Any]) -> str:
  """The tables of a result."""
  lines = [f'# Speed on {result["device"]}', '']
  versions = ', '.join(f'{k} {v}' for k, v in result['versions'].items())
  lines += [f'{result["date"]}, {result["machine"]}; {versions}.', '']
  if rows := result.get('speed'):
    rate = result['matmul_flops_per_second']
    lines += [
      'Milliseconds are the median of the turns, with the least and the most;',
      'ratios are medians of ratios within a turn. "Of peak" is the share of',
      f'a large float32 matmul, {rate / 1e9:,.0f} GFLOP/s here.',
      '',
    ]
    for shape in dict.fromkeys(row['shape'] for row in rows):
      lines += _speed_table(shape, [r for r in rows if r['shape'] == shape])
  if rows := result.get('memory'):
    lines += [
      '## Peak temporaries',
      '',
      'LN HyperLSTM 1000/128, N_z 16, batch 128, 100 steps, a train step.',
      '',
      '| remat | defer | MiB |',
      '| --- | --- | ---: |',
    ]
    for r in rows:
      mib = f'{r["temporaries_mib"]:,.0f}'
      lines.append(f'| {r["remat"]} | {r["defer"]} | {mib} |')
    lines.append('')
  if start := result.get('start'):
    lines += [
      '## Start to first step',
      '',
      f'`{start["command"]}`: {start["cold"]:.1f} s with an empty compile',
      f'cache, {start["warm"]:.1f} s with a full one.',
      '',
    ]
  if gap := result.get('gap'):
    spread = f'{100 * gap["least"]:.1f} to {100 * gap["most"]:.1f}'
    lines += [
      '## Host gap between steps',
      '',
      f'At the most {100 * gap["gap"]:.1f} % ({spread}): {gap["steps"]} steps',
      f'of {gap["shape"]} one a dispatch, over the same in one dispatch.',
      '',
    ]
  if rows := result.get('parity'):
    lines += [
      '## Gradients against float64',
      '',
      'Norm of the difference over the norm, all parameters at once, at the',
      'initial weights of the Penn Treebank model, 16 x 20 symbols.',
      '',
      '| variant | relative error |',
      '| --- | ---: |',
    ]
    for r in rows:
      lines.append(f'| {r["variant"]} | {r["relative_gradient_error"]:.1e} |')
    lines.append('')
  lines += ['## Measured by', '']
  for what, origin in result['measured'].items():
    revision = (origin['git'] or 'no revision')[:12]
    lines.append(
      f'- {what}: `{origin["command"]}`, {origin["date"]}, {revision}'
    )
  lines.append('')
  return '\n'.join(lines)


def _speed_table(shape, rows):
  columns = {
    'speed_over_peer': 'speed over PyTorch HyperLSTM',
    'time_over_fused': 'time over torch.nn.LSTM',
    'time_over_cudnn': 'time over cuDNN LSTM',
  }
  columns = {k: v for k, v in columns.items() if k in rows[0]}
  head = ['', 'ms', 'least', 'most', *columns.values()]
  head += ['of peak', 'compile s', 'temporaries MiB']
  lines = []
  for kind in dict.fromkeys(row['kind'] for row in rows):
    lines += [
      f'## {shape}, {kind}',
      '',
      f'| {" | ".join(head)} |',
      f'| --- |{" ---: |" * (len(head) - 1)}',
    ]
    for row in (r for r in rows if r['kind'] == kind):
      cells = [row['contender']]
      cells += [f'{row[k]:,.1f}' for k in ('milliseconds', 'least', 'most')]
      cells += [f'{row[k]:.2f}' for k in columns]
      cells.append(f'{row["of_peak"]:.0%}' if row.get('of_peak') else '')
      whole = kind == 'train step' and row['compile_seconds']
      cells.append(f'{row["compile_seconds"]:.1f}' if whole else '')
      cells.append(f'{row["temporaries_mib"]:,.0f}' if whole else '')
      lines.append(f'| {" | ".join(cells)} |')
    lines.append('')
  return lines


def shapes() -> dict[str, Shape]:
  """The shapes asked for."""
  if _QUICK.value:
    return QUICK
  known = ACCELERATOR_SHAPES if on_accelerator() else SHAPES
  for name in _SHAPES.value:
    if name not in known:
      raise UserError(f"--shapes: no '{name}'{did_you_mean(name, known)}")
  return {k: v for k, v in known.items() if k in _SHAPES.value} or known


def device_name() -> str:
  """The device in a word or two, such as 'cpu' or 'NVIDIA H200'."""
  return jax.devices()[0].device_kind if on_accelerator() else 'cpu'


def main(argv: Sequence[str]) -> None:
  """Measures, prints the tables, and writes them with their numbers."""
  del argv  # flags alone
  for part in _PARTS.value:
    if part not in PARTS:
      raise UserError(f"--parts: no '{part}'{did_you_mean(part, PARTS)}")
  if _REPEATS.value < 1:
    raise UserError(f'--repeats is {_REPEATS.value}; it must be at least 1')
  repeats = min(_REPEATS.value, 3) if _QUICK.value else _REPEATS.value
  parts = ['speed'] if _QUICK.value else _PARTS.value
  chosen = shapes()
  environment = files.environment()
  versions = dict(environment['versions'])
  if importlib.util.find_spec('torch'):
    versions['torch'] = importlib.metadata.version('torch')
  result = {
    'device': device_name(),
    'machine': environment['machine'],
    'date': time.strftime('%Y-%m-%d'),
    'command': shlex.join(['python', 'scripts/bench.py', *sys.argv[1:]]),
    'git': environment['git'],
    'versions': versions,
  }
  name = re.sub(r'[^a-z0-9]+', '-', device_name().lower())
  path = pathlib.Path(_OUT.value) / f'{name}.json'
  if path.exists() and not _QUICK.value:
    old = json.loads(path.read_text(encoding='utf-8'))
    kept = (*PARTS, 'matmul_flops_per_second', 'measured')
    result = {k: v for k, v in old.items() if k in kept} | result
  # Parts and shapes that stay keep the command that measured them.
  origin = {k: result[k] for k in ('command', 'date', 'git')}
  measured = result.setdefault('measured', {})
  measured |= {part: origin for part in parts if part != 'speed'}
  if 'speed' in parts:
    measured |= {f'speed, {shape}': origin for shape in chosen}

  if 'speed' in parts:
    rows = [
      row
      for shape_name, shape in chosen.items()
      for row in time_shape(shape_name, shape, kinds_of(shape_name), repeats)
    ]
    rate = result['matmul_flops_per_second'] = matmul_rate()
    for row in rows:
      if row['flops']:
        row['of_peak'] = row['flops'] / rate / (row['milliseconds'] / 1e3)
    if not _QUICK.value:
      others = result.get('speed', [])
      rows = [r for r in others if r['shape'] not in chosen] + rows
    result['speed'] = rows
  if 'memory' in parts:
    result['memory'] = measure_memory()
  if 'gap' in parts:
    result['gap'] = measure_gap(repeats)
  if 'parity' in parts:
    result['parity'] = measure_parity()
  if 'start' in parts:
    result['start'] = measure_start()

  text = markdown(result)
  print(text)
  if not _QUICK.value:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, result)
    path.with_suffix('.md').write_text(text, encoding='utf-8')
    say(f'{path}')


if __name__ == '__main__':
  command_line.launch(main)
