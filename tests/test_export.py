"""Train and evaluation steps lower for every platform."""

import functools
import pkgutil

import jax
import pytest
from jax import export

from hyperjax import config as configs
from hyperjax import parts, tasks
from hyperjax.evaluation.evaluate import make_step
from hyperjax.training import seed_axis, sharding
from hyperjax.training.feed import Feed
from hyperjax.training.step import init_state, make_advance
from tests.conftest import REPOSITORY
from tests.nn import small

PLATFORMS = ('cpu', 'cuda', 'tpu')
# A row of each task; what is small here is the data.
ROWS = {
  'language_model': 'ptb.py:ln_hyper_lstm',
  'image_classification': 'cifar10.py:hyper_wrn_40_1,images',
  'handwriting': 'handwriting.py:hyper_lstm_900,strokes,text',
  'translation': 'wmt14_enfr.py:gnmt_hyper_lstm',
}


# What makes the networks small, and leaves their parts.
SMALL = {
  'language_model': {'hidden_size': 8, 'hyper_size': 4},
  'image_classification': {'depth': 10, 'z_size': 2},
  'handwriting': {'hidden_size': 8, 'hyper_size': 4},
  'translation': {
    **{'hidden_size': 8, 'hyper_size': 4, 'z_size': 2},
    **{'embedding_size': 8, 'attention_size': 8},
    **{'num_layers': 1, 'num_encoder_layers': 1},
  },
}


def config_of(task, text_file, images, strokes, pairs):
  config = configs.load(f'{REPOSITORY}/configs/{ROWS[task]}')
  if task == 'language_model':
    vocab_size = len(set(text_file.read_bytes()))
    del config.data.dir
    config.data.update({'name': 'text', 'path': str(text_file)})
    config.data.update({'vocab_size': vocab_size, 'batch_size': 32})
  elif task == 'image_classification':
    config.data.update({'path': str(images), 'num_classes': 2, 'num_valid': 16})
    config.data.update({'image_shape': (8, 8, 3), 'batch_size': 16})
  elif task == 'translation':
    del config.data.dir
    config.data.update({'name': 'translation', 'path': str(pairs)})
    config.data.update({'vocab_size': 60, 'tokens_per_batch': 128})
  else:
    config.data.update({'path': str(strokes), 'min_points': 2})
    config.data.update({'batch_size': 2})
  return config


def test_every_task_is_here():
  names = {module.name for module in pkgutil.iter_modules(tasks.__path__)}
  assert names - {'functional'} == ROWS.keys()


def shapes_of(tree):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


@pytest.mark.parametrize(
  ('num_seeds', 'is_small'),
  [
    (2, True),
    small.slow(1, False),
    small.slow(2, False),
  ],
)
@pytest.mark.parametrize('task', ROWS)
def test_steps_lower_for_all_platforms(
  task, num_seeds, is_small, text_file, small_images, lines_file, pairs_file
):
  config = config_of(task, text_file, small_images, lines_file, pairs_file)
  config.train.accumulate_steps = num_seeds  # 1, and 2 with two seeds
  if is_small:
    config.model.update(SMALL[task])
    if task != 'language_model':  # it takes much tracing
      config.train.accumulate_steps = 1
  source = parts.build_source(config)
  task = parts.build_task(config)
  optimizer, _ = parts.build_optimizer(config)
  seeds = seed_axis.of(0, num_seeds)
  state = jax.eval_shape(
    functools.partial(
      init_state, task, optimizer, config.data.batch_size, seeds
    )
  )
  advance = make_advance(
    task,
    source,
    optimizer,
    seeds,
    accumulate_steps=config.train.accumulate_steps,
  )
  [(arrays, _)] = Feed(source, seeds, sharding.one_device(), 0)(1)
  lowered = export.export(advance, platforms=PLATFORMS)(
    state, shapes_of(arrays), 10
  )
  check(lowered)

  batch = shapes_of(next(iter(source.eval('valid', 2))))
  carry = jax.eval_shape(lambda: seed_axis.init(seeds, lambda _: task.carry(2)))
  measure = make_step(task, stacked=num_seeds > 1)
  check(
    export.export(measure, platforms=PLATFORMS)(
      state.params, state.state, carry, batch
    )
  )


def check(exported):
  assert exported.platforms == PLATFORMS
  assert len(exported.mlir_module_serialized) > 1000
