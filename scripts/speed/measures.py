"""What is measured, and how: each function makes a part of the result."""

import functools
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax import config as configs
from hyperjax import parts, run
from hyperjax import workdir as files
from hyperjax.data import translation as corpora
from hyperjax.errors import UserError
from hyperjax.evaluation.translate import WIDTH, translate
from hyperjax.nn.unroll import steps_run
from hyperjax.tasks.translation import make_search
from hyperjax.training import hosts, loop
from hyperjax.training.hooks import Every, Hook
from hyperjax.training.progress import say

from speed.contenders import (
  CUDNN,
  FULL,
  FUSED,
  ON_ACCELERATORS,
  OURS,
  PEER,
  PENS,
  RESNET_BATCHES,
  RESNETS,
  SENTENCES,
  SHAPES,
  TRANSLATORS,
  FixedImages,
  Shape,
  cudnn,
  on_accelerator,
  ours,
  peers,
  trainer,
  trainer_of,
)


def time_shape(
  name: str, shape: Shape, kinds: Sequence[str], repeats: int
) -> list[dict[str, Any]]:
  """A row for each contender and kind."""
  variants = OURS | (ON_ACCELERATORS if on_accelerator() else {})
  contenders = []
  for contender, overrides in variants.items():
    say(f'{name}: compiling {contender}')
    contenders.append(ours(contender, shape, overrides))
  if jax.default_backend() == 'gpu':
    contenders.append(cudnn(shape))
  contenders += peers(shape)
  peak = matmul_rate()
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
          'steps_per_turn': contender.workload[kind][1],
          **_spread(turns),
          **against(seconds, contender.name, PEER, 'speed_over_peer', True),
          **against(seconds, contender.name, FUSED, 'time_over_fused', False),
          **against(seconds, contender.name, CUDNN, 'time_over_cudnn', False),
          'compile_seconds': contender.compile_seconds,
          'temporaries_mib': contender.temporaries
          and contender.temporaries / 2**20,
        }
      )
      if kind == 'train step':
        flops = shape.flops('Hyper' in contender.name)
        rows[-1] |= {
          'flops': flops,
          'matmul_flops_per_second': peak,
          'of_peak': flops / peak / statistics.median(turns),
        }
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


def memory() -> list[dict[str, Any]]:
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


def start() -> dict[str, Any]:
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


def resnet(repeats: int) -> list[dict[str, Any]]:
  """Train steps of the residual networks, plain and hyper, in turns."""
  batch = RESNET_BATCHES['accelerator' if on_accelerator() else 'cpu']
  runs = {}
  for row in RESNETS:
    say(f'resnet: compiling {row}')
    config = configs.load(f'configs/cifar10.py:{row}')
    config.data.batch_size = batch
    runs[row] = _Run(config, FixedImages(batch, config.data.image_shape))
  seconds = _take_turns(runs, repeats)
  return [
    {
      'row': row,
      'batch': batch,
      **_spread(turns),
      'images_per_second': batch / statistics.median(turns),
      **against(seconds, row, RESNETS[0], 'time_over_plain', False),
      'compile_seconds': runs[row].compile_seconds,
    }
    for row, turns in seconds.items()
  ]


def handwriting(repeats: int) -> dict[str, Any]:
  """Train steps on lines of handwriting, by the points that are not padding.

  In turns, each on the next batch of the epoch, which is the same for all.
  """
  rows = {row: configs.load(f'configs/handwriting.py:{row}') for row in PENS}
  source = parts.build_source(rows[PENS[0]])
  say(f'handwriting: compiling {", ".join(rows)}')
  runs = {row: _Run(config, source) for row, config in rows.items()}
  arrays = source.arrays()
  points = [
    int(source.batch(arrays, np.uint32(0), step)['mask'].sum())
    for step in range(1, repeats + 1)
  ]
  seconds = _take_turns(runs, repeats)
  batch, steps = source.batch_size, source.splits['train'].longest
  longest = np.asarray(arrays['longest']).tolist()
  padded = batch * sum(longest)
  computed = batch * sum(steps_run(length, steps, batch) for length in longest)
  real = int(source.splits['train'].lengths.sum())
  return {
    'data': source.meta['name'],
    'batch': batch,
    'padding': 1 - real / padded,
    'computed_padding': 1 - real / computed,
    'rows': [
      {
        'row': row,
        **_spread(turns),
        'points_per_second': statistics.median(
          count / took for count, took in zip(points, turns, strict=True)
        ),
        **against(seconds, row, PENS[0], 'time_over_lstm', False),
        'compile_seconds': runs[row].compile_seconds,
      }
      for row, turns in seconds.items()
    ],
  }


def translation(repeats: int, workdirs: Sequence[str]) -> dict[str, Any]:
  """Beam search over the first sentences of a test set of Multi30k.

  Of trained runs where these are given. Fresh weights find no end, so that
  each sentence is written to its limit: the longest that any model takes.

  Args:
    repeats: turns of each model.
    workdirs: of runs of configs/multi30k.py; none means fresh weights.
  """
  models = {}
  for workdir in workdirs:
    trained = files.read_config(pathlib.Path(workdir))
    models[trained.model.cell] = trained, *run.best(pathlib.Path(workdir))[:2]
  for row in () if workdirs else TRANSLATORS:
    config = parts.resolve(configs.load(f'configs/multi30k.py:{row}'))
    task = parts.build_task(config)
    models[row] = config, task, task.init(jax.random.key(0))
  config = configs.load('configs/multi30k.py')
  request, source = config.sample, parts.build_source(config)
  texts = source.texts('test_2016_flickr')[:SENTENCES]
  sentences = [sentence for sentence, _ in texts]
  pieces = corpora.pieces_of(source.meta)
  widths, calls = {}, {}
  for row, (_, task, variables) in models.items():
    search = make_search(
      task.merge,
      beam_size=request.beam_size,
      length_penalty=request.length_penalty,
      coverage_penalty=request.coverage_penalty,
    )
    say(f'translation: compiling {row}')
    widths[row] = _widest(
      search, variables, pieces, sentences, request.batch_size
    )
    calls[row] = functools.partial(
      translate,
      functools.partial(search, variables),
      pieces,
      sentences,
      request.batch_size,
    )
  seconds, written = {row: [] for row in calls}, {}
  for turn in range(repeats + 1):
    for row, call in calls.items():
      began = time.perf_counter()
      found = call()
      if turn:  # the first turn compiles
        seconds[row].append(time.perf_counter() - began)
      written[row] = sum(len(translated.target) for translated in found)
  return {
    'data': source.meta['name'],
    'sentences': len(sentences),
    'batch': request.batch_size,
    'beam': request.beam_size,
    'trained': bool(workdirs),
    'rows': [
      {
        'row': row,
        'parameters': parts.parameters(models[row][0]),
        **_spread(turns),
        'sentences_per_second': len(sentences) / statistics.median(turns),
        'pieces_per_sentence': written[row] / len(sentences),
        **widths[row],
      }
      for row, turns in seconds.items()
    ],
  }


def _widest(search, variables, pieces, sentences, batch_size):
  """What the search of the widest batch keeps in memory, in MiB."""
  longest = max(map(len, pieces.encode(sentences))) + 1
  width = -(-longest // WIDTH) * WIDTH
  source = jax.ShapeDtypeStruct((batch_size, width), jnp.int32)
  memory = search.lower(variables, source).compile().memory_analysis()
  return {
    'width': width,
    'temporaries_mib': memory.temp_size_in_bytes / 2**20,
    'weights_mib': memory.argument_size_in_bytes / 2**20,
    'results_mib': memory.output_size_in_bytes / 2**20,
  }


class _Run:
  """A compiled train step and the state that it goes on from."""

  def __init__(self, config, source):
    _, _, advance, start = trainer_of(config, source)
    self._state, self._arrays = start(), source.arrays()
    began = time.perf_counter()
    self._step = advance.lower(self._state, self._arrays, 1).compile()
    self.compile_seconds = time.perf_counter() - began

  def step(self):
    """Seconds that the next step takes."""
    began = time.perf_counter()
    state, _ = self._step(self._state, self._arrays, 1)
    self._state = jax.block_until_ready(state)
    return time.perf_counter() - began


def _take_turns(runs, repeats):
  """The seconds of each run's turns; one before them warms up."""
  say(f'{repeats} turns of {", ".join(runs)}')
  turns = [
    {name: trained.step() for name, trained in runs.items()}
    for _ in range(repeats + 1)
  ]
  return {name: [turn[name] for turn in turns[1:]] for name in runs}


def _spread(turns):
  """The median, the least and the most of some seconds, in milliseconds."""
  return {
    'milliseconds': statistics.median(turns) * 1e3,
    'least': min(turns) * 1e3,
    'most': max(turns) * 1e3,
  }


def gap(repeats: int) -> dict[str, Any]:
  """What the training loop adds to the steps themselves.

  The loop of `training.loop`, with dispatches as long as runs have them, from
  the moment when these have grown; and as many steps in one dispatch; in turns.
  """
  shape, warmup, count = SHAPES['ptb-32x50'], 16, 24
  _, source, advance, start = trainer(shape, {'model.cell': 'ln_hyper_lstm'})
  arrays, state = source.arrays(), start()
  say(f'gap: {repeats} turns of {count} steps')
  ratios, dispatches = [], 0
  for turn in range(repeats + 1):
    state, marks = _looped(state, advance, arrays, warmup + count)
    first = next(k for k, (step, _) in enumerate(marks) if step >= warmup)
    (begin, began), (end, ended) = marks[first], marks[-1]
    looped = (ended - began) / (end - begin)
    began = time.perf_counter()
    state, _ = advance(state, arrays, count)
    jax.block_until_ready(state)
    alone = (time.perf_counter() - began) / count
    if turn:  # the first turn compiles
      ratios.append(looped / alone)
      dispatches = len(marks) - 1 - first
  return {
    'shape': 'ptb-32x50',
    'steps': count,
    'dispatches': dispatches,
    'gap': statistics.median(ratios) - 1,
    'least': min(ratios) - 1,
    'most': max(ratios) - 1,
  }


def _looped(state, advance, arrays, count):
  """The state after `count` steps, and when each dispatch was done."""
  start, marks = int(state.step), []
  hook = Hook(Every(start + count, last=start + count), lambda *_: None)
  with loop.Interruption() as interruption:
    state = loop.run(
      state,
      lambda state, count: advance(state, arrays, count),
      [hook],
      num_steps=start + count,
      steps_per_dispatch=count,
      on_metrics=lambda step, *_: marks.append(
        (step - start, time.perf_counter())
      ),
      on_stop=lambda *_: None,
      interruption=interruption,
      watchdog=hosts.Watchdog(0),
    )
  return state, marks


def parity() -> list[dict[str, Any]]:
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
