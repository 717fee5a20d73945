"""Whole runs of translation, on pairs that the test writes."""

import os
import shutil
import subprocess
import sys

import pytest

from hyperjax import run
from hyperjax.errors import UserError
from tests.conftest import REPOSITORY
from tests.test_run import as_if_killed

BLEU = 'test/bleu'


@pytest.fixture(scope='module')
def trained(tmp_path_factory, make_translation_config):
  config = make_translation_config()
  workdir = tmp_path_factory.mktemp('translation')
  return config, workdir, run.train(config, workdir)


@pytest.mark.parametrize(
  'row', ['lstm', pytest.param('ln_hyper_lstm', marks=pytest.mark.slow)]
)
def test_it_learns_and_says_so(
  trained, pairs_file, make_translation_config, tmp_path, row
):
  _, workdir, result = trained
  if row != 'lstm':
    workdir, config = tmp_path, make_translation_config(row)
    result = run.train(config, workdir)
  assert result['valid/nats_per_piece'] < 3.5  # of 60 pieces by chance 4.1
  assert 0 <= result[BLEU] <= 100 and 'valid/bleu' in result
  assert result['data'] == str(pairs_file)
  assert 'tok:13a' in result['evaluation']
  lines = (workdir / 'sample.txt').read_text().split('\n')
  assert len(lines) == 3 and lines[1] == ''
  assert (workdir / 'learning_curve.png').exists()


def test_evaluating_again_gives_the_result(trained):
  config, workdir, result = trained
  again = run.evaluate(config, workdir)
  for name in (BLEU, 'test/nats_per_piece'):
    assert again[name] == pytest.approx(result[name], rel=1e-6)


def test_a_killed_run_goes_on_exactly(trained, tmp_path):
  config, workdir, result = trained
  folder = as_if_killed(workdir, tmp_path / 'run', 18)
  assert run.train(config, folder) == result


def test_seeds_side_by_side_are_those_of_single_runs(
  make_translation_config, tmp_path
):
  config = make_translation_config()
  config.data.num_buckets = 1
  config.train.update({'num_steps': 6, 'eval_every': 3})
  config.optimizer.learning_rate = 1e-3
  config.num_seeds = 2
  result = run.train(config, tmp_path / 'two')
  config.num_seeds, config.seed = 1, 1
  alone = run.train(config, tmp_path / 'one')
  name = 'test/nats_per_piece'
  assert result[f'seed_1/{name}'] == pytest.approx(alone[name], rel=2e-5)
  assert result[f'seed_0/{name}'] != pytest.approx(alone[name], rel=2e-5)
  assert f'seed_0/{BLEU}' in result


def test_other_pairs_are_another_run(trained, tmp_path, pairs_file):
  config, workdir, _ = trained
  copy = tmp_path / 'run'
  shutil.copytree(workdir, copy)
  changed = tmp_path / 'pairs.tsv'
  lines = pairs_file.read_text().splitlines(keepends=True)
  changed.write_text(''.join(lines[:-1]))
  config = config.copy_and_resolve_references()
  config.data.path = str(changed)
  with pytest.raises(UserError, match=r'config\.data\.path|data'):
    run.train(config, copy)


def test_standard_input_is_translated_from_the_command_line(trained):
  config, workdir, _ = trained
  command = [
    *(sys.executable, '-m', 'hyperjax.main', '--mode=sample'),
    '--config=configs/multi30k.py:lstm,smoke',
    f'--workdir={workdir}',
    '--config.sample.path=-',
    '--config.sample.beam_size=2',
  ]
  # The model's own fields, which differ from those of the file.
  for section in ('model', 'task'):
    for name, value in config[section].items():
      command.append(f'--config.{section}.{name}={value}')
  command += [
    '--config.data.name=translation',
    f'--config.data.vocab_size={config.data.vocab_size}',
    f'--config.data.tokens_per_batch={config.data.tokens_per_batch}',
    f'--config.data.num_buckets={config.data.num_buckets}',
  ]
  done = subprocess.run(
    command,
    cwd=REPOSITORY,
    env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
    input='the cat sat\n\nthe fish\n',
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == (workdir / 'sample.txt').read_text() + '\n'
