"""Kernels against XLA on an NVIDIA GPU:

    JAX_PLATFORMS=cuda .venv/bin/python -m pytest -m gpu tests/test_gpu.py

To be run before anything is measured on one.
"""

import jax
import pytest

from tests.nn.test_fused_loop import COVERED, check

pytestmark = [
  pytest.mark.gpu,
  # From jax 0.11 on.
  pytest.mark.filterwarnings(
    'ignore:The Pallas Triton backend:DeprecationWarning'
  ),
]


@pytest.fixture(autouse=True)
def in_float32():
  """Products of three passes, where a GPU would take TensorFloat-32."""
  with jax.default_matmul_precision('highest'):
    yield


@pytest.mark.parametrize('name', COVERED)
@pytest.mark.parametrize(
  'options',
  [
    {'one_hot': True, 'input_size': 50, 'hidden_size': 130, 'batch': 5},
    {'masked': True, 'noisy': True, 'hidden_size': 33, 'batch': 3},
    {'length': 7, 'steps': 12, 'hidden_size': 64},
  ],
)
def test_small_cells(name, options):
  hyper = {'hyper_size': 20, 'z_size': 3} if 'hyper' in name else {}
  check(name, 'fused', **options, **hyper, rtol=2e-5)


SIZES = [
  ('lstm', {}),
  ('ln_lstm', {}),
  ('ln_hyper_lstm', {'hyper_size': 128, 'z_size': 4}),
  ('ln_hyper_lstm', {'hyper_size': 128, 'z_size': 16}),
]


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize(('name', 'options'), SIZES)
def test_cells_as_large_as_those_of_penn_treebank(name, options, dtype):
  check(
    name,
    'fused',
    **{'one_hot': True, 'input_size': 50, 'hidden_size': 1000},
    **{'batch': 128, 'steps': 20, 'dtype': dtype, **options},
    rtol=1e-4 if dtype == 'float32' else 2e-2,
  )


def test_the_largest_cell_of_enwik8():
  check(
    'ln_hyper_lstm',
    'fused',
    **{'one_hot': True, 'input_size': 205, 'hidden_size': 2048},
    **{'hyper_size': 512, 'z_size': 64, 'batch': 16, 'steps': 6},
    rtol=1e-4,
  )
