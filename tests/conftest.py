import os
import pathlib
import random

import pytest

from hyperjax.config import load

REPOSITORY = pathlib.Path(__file__).parent.parent
os.environ.setdefault('JAX_PLATFORMS', 'cpu')


@pytest.fixture
def repository() -> pathlib.Path:
  return REPOSITORY


@pytest.fixture(scope='session')
def text_file(tmp_path_factory) -> pathlib.Path:
  """A text with something to learn: words of a small, skewed vocabulary."""
  rng = random.Random(0)
  words = ['the', 'cat', 'sat', 'on', 'a', 'mat', 'and', 'purred', '.\n']
  text = ' '.join(rng.choices(words, weights=range(9, 0, -1), k=6000))
  path = tmp_path_factory.mktemp('text') / 'text.txt'
  path.write_text(text)
  return path


@pytest.fixture(scope='session')
def make_tiny_config(text_file):
  """Makes configs of a second's run: a small cell on a small text."""

  def make():
    config = load(f'{REPOSITORY}/configs/text.py')
    config.data.update(
      {
        'path': str(text_file),
        'batch_size': 4,
        'sequence_length': 16,
        'vocab_size': len(set(text_file.read_bytes())),
      }
    )
    config.model.update({'hidden_size': 12, 'hyper_size': 5, 'z_size': 3})
    config.optimizer.update({'learning_rate': 3e-2, 'warmup_steps': 5})
    config.train.update(
      {
        'num_steps': 60,
        'eval_every': 20,
        'checkpoint_every': 10,
        'log_every': 5,
        'steps_per_dispatch': 4,
      }
    )
    config.eval.num_streams = config.eval.quick_streams = 16
    config.sample.update({'prompt': 'the ', 'length': 20})
    return config

  return make


@pytest.fixture
def tiny_config(make_tiny_config):
  return make_tiny_config()
