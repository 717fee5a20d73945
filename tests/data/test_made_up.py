"""Sources that stand in for real ones, for programs that are only compiled."""

import jax
import pytest

from hyperjax import config as configs
from hyperjax import parts
from tests.conftest import REPOSITORY

SHAPES = {
  'ptb.py:lstm_1000': {'inputs': (128, 100), 'fresh': (128,)},
  'mnist.py:conv': {'inputs': (1000, 28, 28, 1), 'targets': (1000,)},
  'multi30k.py:lstm': {'source': (8, 100), 'target': (8, 100)},
}


@pytest.mark.parametrize('row', SHAPES)
def test_batches_have_the_shapes_of_real_ones(row, monkeypatch):
  monkeypatch.delenv('HYPERJAX_DATA_DIR', raising=False)
  config = configs.load(f'{REPOSITORY}/configs/{row}')
  source, made_up = parts.build_stand_in(config)
  assert made_up
  arrays = (
    source.window(0, 0)[0] if hasattr(source, 'window') else source.arrays()
  )
  batch = jax.eval_shape(source.batch, arrays, 0, 3)
  found = {name: x.shape for name, x in batch.items()}
  assert SHAPES[row].items() <= found.items()
  measured = next(iter(source.eval('valid', 2)))
  assert measured.keys() >= batch.keys() - {'fresh'}


def test_what_a_path_names_is_read(make_tiny_config):
  config = make_tiny_config()
  source, made_up = parts.build_stand_in(config)
  assert not made_up
  assert source.meta == parts.build_source(config).meta
