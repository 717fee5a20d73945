"""Programs by the compilers for GPUs and TPUs: `bash scripts/compiled.sh`."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.compiled
# Kernels in the body of the loop over time, forward and backward, that XLA
# makes for an H100 of rows of configs/ptb.py, and no more.
MOST = {
  'lstm_1000': (4, 4),
  'ln_hyper_lstm': (4, 4),
  'ln_hyper_lstm --config.dtype=bfloat16': (4, 4),
  'ln_hyper_lstm --config.num_seeds=3': (4, 4),
}
SMALL = {
  'ptb.py:ln_hyper_lstm': ['--config.model.hidden_size=128'],
  'mnist.py:hyper_conv': [],
  'handwriting.py:hyper_lstm_900': ['--config.model.hidden_size=64'],
  'multi30k.py:ln_hyper_lstm': [
    '--config.model.parameter_budget=0',
    '--config.model.hidden_size=64',
  ],
}


@pytest.fixture
def compile_for(tmp_path):
  """Runs the command; returns how it ended, and what it found."""

  def run(row, target, *flags):
    path = tmp_path / 'found.json'
    row, *more = row.split()
    done = subprocess.run(
      [
        *(sys.executable, '-m', 'hyperjax.main', '--mode=compile'),
        *(f'--config=configs/{row}', f'--target={target}', f'--json={path}'),
        *(*more, *flags),
      ],
      cwd=REPOSITORY,
      capture_output=True,
      text=True,
      timeout=900,
    )
    return done, json.loads(path.read_text()) if path.exists() else None

  return run


@pytest.mark.parametrize('row', SMALL)
@pytest.mark.parametrize('target', ['h100', 'v5e', 'v6e'])
def test_a_row_of_each_task_compiles(compile_for, row, target):
  done, found = compile_for(row, target, *SMALL[row])
  assert done.returncode == 0, done.stderr
  assert f'{target}: 1 device' in done.stdout
  for program in found['programs'].values():
    assert program['fits'] and program['launches'] > 0
    assert (program['estimated_cycles'] > 0) == (target != 'h100')


@pytest.mark.parametrize('row', MOST)
def test_loops_have_no_more_kernels_than_they_had(compile_for, row):
  done, found = compile_for(f'ptb.py:{row}', 'h100')
  assert done.returncode == 0, done.stderr
  train = found['programs']['train step']
  inner = [loop for loop in train['loops'] if loop['trips'] == 25]
  counts = [sum(loop['kernels'].values()) for loop in inner]
  names = [{*loop['kernels']} for loop in inner]
  assert 'forward_kernel' in names[0] and 'backward_kernel' in names[1]
  assert all(n <= most for n, most in zip(counts, MOST[row], strict=True))
  assert train['launches'] < 1_500


def test_a_slice_divides_the_batch(compile_for):
  row = 'ptb.py:ln_hyper_lstm'
  done, found = compile_for(row, 'v5e:4x4', *SMALL[row])
  assert done.returncode == 0, done.stderr
  assert found['devices'] == 16
  assert 'all-reduce' in found['programs']['train step']['collectives']


def test_what_does_not_fit_is_said(compile_for):
  done, _ = compile_for(
    'enwik8.py:ln_hyper_lstm_2048', 'v5e', '--config.data.batch_size=2048'
  )
  assert done.returncode == 2
  assert 'does not fit' in done.stderr.splitlines()[-1]
