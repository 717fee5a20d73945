"""Whole runs on images, of a folder that the test writes."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hyperjax import run
from hyperjax.config import load
from hyperjax.errors import UserError
from tests.conftest import REPOSITORY
from tests.test_run import as_if_killed

CLASSES = 'bright', 'dark', 'left'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Images of 8 x 8 that tell their class, with noise."""
  root = tmp_path_factory.mktemp('shapes')
  rng = np.random.default_rng(0)
  for split, count in (('train', 40), ('test', 12)):
    for label, name in enumerate(CLASSES):
      (root / split / name).mkdir(parents=True)
      for k in range(count):
        image = rng.integers(60, size=(8, 8, 3)) + 60 * (label == 0)
        image[:, :4] += 120 * (label == 2)
        Image.fromarray(image.astype(np.uint8)).save(
          root / split / name / f'{k}.png'
        )
  return root


def config_of(repository, folder, row):
  config = load(f'{repository}/configs/cifar10.py:{row},images')
  config.data.update(
    {
      'path': str(folder),
      'image_shape': (8, 8, 3),
      'num_classes': len(CLASSES),
      'num_valid': 30,
      'batch_size': 16,
      'pad': 1,
    }
  )
  config.model.update({'depth': 10, 'z_size': 8})
  config.optimizer.update(
    {'learning_rate': 0.02, 'boundaries': (12,), 'rates': (0.005,)}
  )
  config.train.update(
    {'num_steps': 18, 'eval_every': 6, 'checkpoint_every': 6, 'log_every': 3}
  )
  config.eval.update({'num_streams': 20, 'implausible_below': 0.0})
  return config


@pytest.fixture(scope='module')
def trained(tmp_path_factory, folder):
  """A hyper network: its config, workdir and result."""
  config = config_of(REPOSITORY, folder, 'hyper_wrn_40_1')
  workdir = tmp_path_factory.mktemp('trained')
  return config, workdir, run.train(config, workdir)


def test_it_learns_and_says_so(trained, folder):
  _, workdir, result = trained
  assert result['test/error_percent'] < 50  # by chance 67
  assert result['data'] == f'{folder.name}: PNG images'
  assert result['evaluation'] == 'every image once'
  assert (workdir / 'learning_curve.png').exists()


def test_evaluating_again_gives_the_result(trained):
  config, workdir, result = trained
  again = run.evaluate(config, workdir)
  assert again['test/error_percent'] == result['test/error_percent']


@pytest.fixture(scope='module')
def short(tmp_path_factory, folder):
  """A plain network's few steps: its config, workdir and result."""
  config = config_of(REPOSITORY, folder, 'wrn_40_1')
  config.train.update({'num_steps': 6, 'eval_every': 4, 'checkpoint_every': 2})
  # So low that training does not amplify how a processor rounds.
  config.optimizer.learning_rate = 1e-4
  workdir = tmp_path_factory.mktemp('short')
  return config, workdir, run.train(config, workdir)


def test_a_killed_run_goes_on_exactly(short, tmp_path):
  config, workdir, result = short
  folder = as_if_killed(workdir, tmp_path / 'run', 4)
  assert run.train(config, folder) == result


def test_seeds_side_by_side_are_those_of_single_runs(short, tmp_path):
  config, _, alone = short
  config = config.copy_and_resolve_references()
  config.num_seeds = 2
  result = run.train(config, tmp_path)
  name = 'test/loss_nats'
  assert result[f'seed_0/{name}'] == pytest.approx(alone[name], rel=1e-3)
  assert result[f'seed_1/{name}'] != pytest.approx(alone[name], rel=1e-3)
  assert alone['parameters'] == result['parameters']


def test_kernels_and_embeddings_are_drawn(trained, short, repository, tmp_path):
  done = subprocess.run(
    [
      sys.executable,
      'scripts/draw_kernels.py',
      f'--workdir={trained[1]}',
      f'--beside={short[1]}',
      f'--out={tmp_path}',
    ],
    cwd=repository,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
    f'{tmp_path}/kernels.{{png,svg}}',
    f'{tmp_path}/embeddings.{{png,svg}}',
  ]
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == [
    'embeddings.png',
    'embeddings.svg',
    'kernels.png',
    'kernels.svg',
  ]


def test_a_classifier_can_not_sample(short):
  config, workdir, _ = short
  with pytest.raises(UserError, match='image_classification can not sample'):
    run.sample(config, workdir)


@pytest.mark.parametrize(
  ('fields', 'words'),
  [
    (
      {'data.image_shape': (32, 32, 3)},
      'config.data.image_shape is (32, 32, 3), but the images of ',
    ),
    ({'data.num_classes': 4}, 'config.data.num_classes'),
    ({'data.path': '/no/such/place'}, '/no/such/place'),
    ({'data.path': ''}, 'config.data.path is empty'),
    ({'data.num_valid': 0}, 'config.data.num_valid is 0'),
    ({'data.normalize': 'units'}, "did you mean 'unit'?"),
    ({'model.block_size': 12}, 'config.model.block_size is 12'),
    ({'model.depth': 12}, 'config.model.depth is 12'),
    ({'task.l2': -1.0}, 'config.task.l2 is -1.0; it must be at least 0'),
    ({'data.pad': -1}, 'config.data.pad is -1; it must be at least 0'),
  ],
)
def test_what_is_wrong_is_named(repository, folder, tmp_path, fields, words):
  config = config_of(repository, folder, 'hyper_wrn_40_1')
  config.update_from_flattened_dict(fields)
  with pytest.raises(UserError) as error:
    run.train(config, tmp_path)
  assert words in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.data('mnist')
def test_mnist_trains_from_its_published_files(repository, tmp_path):
  config = load(f'{repository}/configs/mnist.py:mlp,budget=0.02')
  result = run.train(config, tmp_path)
  assert result['step'] == 55
  assert result['data'] == 'MNIST'
  assert result['test/error_percent'] < 12
