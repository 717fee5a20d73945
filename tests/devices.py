"""Trains on eight simulated devices; run as a program, it prints JSON.

A process has as many devices as it was started with, so this is one of its own.
"""

import functools
import json
import pathlib
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax import config as configs
from hyperjax import parts, run
from hyperjax.errors import UserError
from hyperjax.evaluation.evaluate import Evaluator
from hyperjax.training import hosts, seed_axis, sharding
from hyperjax.training.feed import Feed
from hyperjax.training.log import TrainLog
from hyperjax.training.loop import SignalledError
from hyperjax.training.step import init_state, make_advance

MESHES = {
  'one': {'data': 1, 'model': 1},
  'eight': {'data': 0, 'model': 1},
  'both axes': {'data': 2, 'model': 2},
}


def language_model(text_file, row='ln_hyper_lstm', num_seeds=1):
  config = configs.load(f'configs/text.py:{row}')
  config.data.update(
    {
      'path': text_file,
      'batch_size': 16,
      'sequence_length': 8,
      'vocab_size': len(set(pathlib.Path(text_file).read_bytes())),
    }
  )
  config.model.update(
    {
      'hidden_size': 16,
      'hyper_size': 8,
      'z_size': 4,
      'output_keep_prob': 0.9,
    }
  )
  config.optimizer.update({'schedule': 'constant', 'warmup_steps': 0})
  config.eval.update({'num_streams': 16, 'quick_streams': 16})
  config.sample.update({'prompt': 'the ', 'length': 5})
  config.num_seeds = num_seeds
  return config


def image_model(images):
  config = configs.load('configs/cifar10.py:hyper_wrn_40_1,images')
  config.data.update(
    {
      'path': images,
      'image_shape': (8, 8, 3),
      'num_classes': 2,
      'num_valid': 16,
      'batch_size': 16,
      'pad': 1,
    }
  )
  config.model.update({'depth': 10, 'z_size': 2})
  config.optimizer.update({'learning_rate': 0.01})
  config.eval.update({'num_streams': 16, 'quick_streams': 16})
  return config


def translation_model(pairs, row, num_layers):
  """The network of GNMT, scaled down."""
  config = configs.load(f'configs/wmt14_enfr.py:{row},small')
  del config.data.dir
  config.data.update(
    {
      'name': 'translation',
      'path': pairs,
      'vocab_size': 60,
      'tokens_per_batch': 256,
      'num_buckets': 1,
      'batch_size': 16,
    }
  )
  config.model.update(
    {
      'num_layers': num_layers,
      'num_encoder_layers': num_layers,
      'hidden_size': 16,
      'embedding_size': 16,
      'attention_size': 16,
    }
  )
  if 'hyper' in row:
    config.model.update({'hyper_size': 8, 'z_size': 4})
  return config


def each(config, names, accumulate_steps=1):
  """`losses` on some meshes, from the same weights."""
  config.train.accumulate_steps = accumulate_steps
  task, source = parts.build_task(config), parts.build_source(config)
  optimizer, _ = parts.build_optimizer(config)
  seeds = seed_axis.of(config.seed, config.num_seeds)
  init = functools.partial(
    init_state, task, optimizer, config.data.batch_size, seeds
  )
  state = jax.device_get(jax.jit(init)())
  return {name: losses(config, source, state, MESHES[name]) for name in names}


def losses(config, source, state, mesh, num_steps=6):
  """Training losses of each two steps, and the validation metrics."""
  config = config.copy_and_resolve_references()
  config.mesh.update(mesh)
  task = parts.build_task(config)
  optimizer, _ = parts.build_optimizer(config)
  layout = parts.build_layout(config, task)
  seeds = seed_axis.of(config.seed, config.num_seeds)
  shardings = layout.of_state(state, config.num_seeds)
  state = layout.put(state, shardings)
  # Of initial weights: a bias before a BatchNorm has no gradient but rounding,
  # which Adam blows up to whole steps, and which running averages then lag.
  evaluator = Evaluator(
    task, source, stacked=config.num_seeds > 1, layout=layout
  )
  measured = evaluator(state.params, state.state, 'valid', 16)
  advance = make_advance(
    task,
    source,
    optimizer,
    seeds,
    layout=layout,
    accumulate_steps=config.train.accumulate_steps,
  )
  feed, found, program = Feed(source, seeds, layout, 0), [], None
  for _ in range(num_steps // 2):
    for arrays, steps in feed(2):
      # One program takes all batches, or it says what differs.
      program = program or advance.lower(state, arrays, steps).compile()
      state, metrics = program(state, arrays, steps)
      name = 'loss_nats' if 'loss_nats' in metrics else task.objective
      found.append(jax.device_get(metrics)[name].read().tolist())
  stay = jax.tree.map(
    lambda x, at: x.sharding.is_equivalent_to(at, x.ndim), state, shardings
  )
  return {
    'train': found,
    'valid': {name: value.tolist() for name, value in measured.items()},
    'stay': all(jax.tree.leaves(stay)),
    'devices': layout.mesh.size,
    'flops': program.cost_analysis()['flops'],
    'split': sorted(
      jax.tree_util.keystr(path, simple=True, separator='/')
      for path, x in jax.tree_util.tree_leaves_with_path(state.params)
      if not x.sharding.is_fully_replicated
    ),
  }


def moved(config, folder):
  """Results of runs that were stopped and went on, on other devices."""
  config.train.update(
    {
      'num_steps': 6,
      'eval_every': 6,
      'checkpoint_every': 2,
      'log_every': 2,
      'steps_per_dispatch': 1,
    }
  )
  results, add = {}, TrainLog.add

  def stop_at(step):
    def add_and_stop(self, at, metrics):
      add(self, at, metrics)
      if at == step:
        signal.raise_signal(signal.SIGTERM)

    return add_and_stop

  for path in (['one'], ['both axes', 'one', 'eight']):
    name = ', '.join(path)
    for place, mesh in enumerate(path):
      config.mesh.update(MESHES[mesh])
      last = place == len(path) - 1
      TrainLog.add = add if last else stop_at(2 * place + 1)
      try:
        result = run.train(config, pathlib.Path(folder) / name)
      except SignalledError:
        assert not last
    results[name] = {k: v for k, v in result.items() if k.startswith('test/')}
  return results


def refusals(config):
  """What is said to a mesh that can not be."""
  texts = {}
  for name, mesh in {
    'too many': {'data': 16},
    'batch': {'data': 3},
    'rule': {'data': 2, 'model': 2, 'rules': (('*/kernal', ('model',)),)},
    'axes': {'data': 2, 'model': 2, 'rules': (('head/bias', (None, 'model')),)},
  }.items():
    bad = config.copy_and_resolve_references()
    bad.mesh.update(mesh)
    try:
      parts.build_layout(bad, parts.build_task(bad))
    except UserError as error:
      texts[name] = str(error)
  return texts


def fetched(layout):
  """On how many devices rows lie, and then those for one."""
  x = layout.put(
    {'x': jnp.arange(16.0)}, layout.of_rows({'x': np.ones(16)}, 16)
  )
  alone = hosts.fetch_all(x)
  assert alone['x'].tolist() == list(range(16))
  return [len(tree['x'].sharding.device_set) for tree in (x, alone)]


def main(names, text_file, images, pairs, folder):
  """Prints what some parts find."""

  def rest():
    text = language_model(text_file)
    layout = parts.build_layout(text, parts.build_task(text))
    return {
      'refusals': refusals(text),
      'fetched': fetched(layout),
      'words': sharding.describe(layout),
    }

  two = ('one', 'eight')
  lstm = functools.partial(language_model, text_file, 'lstm')
  found = {
    'text': lambda: each(language_model(text_file), MESHES),
    'images': lambda: each(image_model(images), two),
    'seeds': lambda: each(lstm(num_seeds=2), MESHES, accumulate_steps=2),
    'translation': lambda: each(translation_model(pairs, 'gnmt_lstm', 1), two),
    'gnmt': lambda: each(translation_model(pairs, 'gnmt_hyper_lstm', 3), two),
    'accumulated': lambda: each(lstm(), two, accumulate_steps=2),
    'moved': lambda: moved(lstm(), folder),
    'rest': rest,
  }
  print(json.dumps({name: found[name]() for name in names.split(',')}))


if __name__ == '__main__':
  main(*sys.argv[1:])
