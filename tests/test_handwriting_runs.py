"""Whole runs on handwriting, of a file that the test writes."""

import json
import pathlib
import re

import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import parts, run
from hyperjax import workdir as files
from hyperjax.config import load
from hyperjax.data import stroke_files
from hyperjax.errors import UserError
from tests.conftest import REPOSITORY, SIZES
from tests.iam_layout import write_corpus
from tests.test_run import as_if_killed


def shrink(config):
  config.data.batch_size = 4
  config.data.min_points = 2
  config.model.update({'hidden_size': 8, 'hyper_size': 4, 'num_mixtures': 3})
  config.optimizer.learning_rate = 0.02
  config.train.update(
    {'num_steps': 12, 'eval_every': 4, 'checkpoint_every': 4, 'log_every': 2}
  )
  config.sample.update({'num_lines': 2, 'length': 15})
  return config


def config_of(path, row='hyper_lstm_900'):
  config = load(f'{REPOSITORY}/configs/handwriting.py:{row},smoke,synthetic')
  config.data.update({'name': 'strokes', 'path': str(path)})
  return shrink(config)


written = set()  # names in the workdir of `trained` when it had ended


@pytest.fixture(scope='module')
def trained(tmp_path_factory, lines_file):
  """A run that was never interrupted: its config, workdir and result."""
  config = config_of(lines_file, 'lstm_900')
  workdir = tmp_path_factory.mktemp('trained')
  result = run.train(config, workdir)
  written.update(path.name for path in workdir.iterdir())
  return config, workdir, result


@pytest.fixture(scope='module')
def reader(tmp_path_factory, lines_file):
  """The same of a hyper network that can be told what to write."""
  config = config_of(lines_file, 'hyper_lstm_900,text')
  config.sample.text = 'so on'
  config.train.update({'num_steps': 2, 'eval_every': 2, 'checkpoint_every': 2})
  workdir = tmp_path_factory.mktemp('reader')
  return config, workdir, run.train(config, workdir)


def copy(config, **fields):
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(
    {name.replace('__', '.'): value for name, value in fields.items()}
  )
  return config


def test_it_learns_and_says_so(trained, lines_file):
  config, workdir, result = trained
  assert files.read_json(workdir / 'result.json') == result
  assert result['data'] == str(lines_file)
  assert result['evaluation'] == 'every line once, whole'
  assert result['parameters'] == parts.parameters(config)
  metrics = [
    json.loads(line)
    for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  name = 'nats_per_sequence'
  quick = [
    x[f'valid_quick/{name}'] for x in metrics if f'valid_quick/{name}' in x
  ]
  assert len(quick) == 3
  assert result[f'valid/{name}'] == pytest.approx(min(quick), rel=1e-5)
  assert result[f'valid/{name}'] < quick[0] - 1
  # By line and by point, of the same lines.
  points = files.read_json(workdir / 'data.json')['points']
  for split in ('valid', 'test'):
    share = (points[split] - SIZES[split]) / SIZES[split]
    assert result[f'{split}/{name}'] == pytest.approx(
      share * result[f'{split}/nats_per_point'], rel=1e-5
    )


def test_a_workdir_holds_a_sample(trained):
  config, workdir, _ = trained
  assert written >= {
    *('sample.svg', 'sample.png', 'sample.json'),
    *('learning_curve.png', 'data.json', 'config.json', 'result.json'),
  }
  assert not written & {'sample.txt', 'sample-animated.svg', 'samples'}
  summary = run.summary(workdir)
  assert f'sample: {workdir / "sample.png"}' in summary
  assert 'valid/nats_per_sequence' in summary
  lines = stroke_files.read(workdir / 'sample.json')
  lengths = [len(line.points) for split in lines.values() for line in split]
  assert lengths == [config.sample.length + 1] * 2


def test_samples_go_into_a_folder_of_their_own(trained):
  config, workdir, _ = trained

  said = run.sample(config, workdir).splitlines()

  folder = workdir / 'samples'
  name = 'writing-seed-0'
  endings = 'svg', 'png', 'json'
  assert said == [f'{folder}/{name}.{ending}' for ending in endings]
  # They are those of the best step, with which the run ended.
  assert (folder / f'{name}.json').read_text() == (
    workdir / 'sample.json'
  ).read_text()
  other = copy(config, sample__seed=1, sample__animated=True)
  said = run.sample(other, workdir).splitlines()
  assert said[-1] == f'{folder}/writing-seed-1-animated.svg'
  assert (folder / 'writing-seed-1.json').read_text() != (
    folder / f'{name}.json'
  ).read_text()


def test_a_sample_goes_on_from_a_line_of_the_data(trained, lines_file):
  config, workdir, _ = trained
  found = set()
  for k in (0, 1):
    given = copy(config, sample__style=str(lines_file), sample__style_line=k)
    (path,) = re.findall(r'.*\.json', run.sample(given, workdir))
    found.add(pathlib.Path(path).read_text())
  assert len(found) == 2
  with pytest.raises(UserError, match='no line 13'):
    run.sample(
      copy(config, sample__style=str(lines_file), sample__style_line=13),
      workdir,
    )


@pytest.mark.parametrize('split', ['valid', 'test'])
def test_evaluating_again_gives_the_result(trained, split):
  config, workdir, result = trained
  assert config.eval.split == 'valid'
  again = run.evaluate(copy(config, eval__split=split), workdir)
  for name in ('nats_per_sequence', 'nats_per_point'):
    assert again[f'{split}/{name}'] == result[f'{split}/{name}']
  assert again['step'] == result['best_step']
  assert len([name for name in again if '/' in name]) == 2


def test_the_number_of_lines_side_by_side_changes_no_result(trained):
  config, workdir, result = trained
  again = run.evaluate(copy(config, eval__num_streams=2), workdir)
  name = 'valid/nats_per_sequence'
  assert again[name] == pytest.approx(result[name], rel=1e-5)


@pytest.mark.parametrize(
  'row', ['lstm_900', pytest.param('hyper_lstm_900', marks=pytest.mark.slow)]
)
def test_a_killed_run_goes_on_exactly(trained, lines_file, tmp_path, row):
  config, workdir, result = trained
  if row != 'lstm_900':
    config, workdir = config_of(lines_file, row), tmp_path / 'whole'
    result = run.train(config, workdir)
  folder = as_if_killed(workdir, tmp_path / 'run', 8)
  assert run.train(config, folder) == result
  assert (folder / 'sample.json').read_text() == (
    workdir / 'sample.json'
  ).read_text()


def test_seeds_side_by_side_are_those_of_single_runs(trained, tmp_path):
  config, _, alone = trained
  result = run.train(copy(config, num_seeds=2), tmp_path)
  name = 'valid/nats_per_sequence'
  assert result[f'seed_0/{name}'] == pytest.approx(alone[name], rel=1e-3)
  assert result[f'seed_1/{name}'] != pytest.approx(alone[name], rel=1e-3)
  both = [result[f'seed_{k}/{name}'] for k in range(2)]
  assert result[name] == pytest.approx(np.mean(both))
  assert result['parameters'] == alone['parameters']
  assert (tmp_path / 'sample.svg').exists()


def test_a_model_is_loaded_with_what_it_needs(trained, lines_file):
  config, workdir, _ = trained
  model, meta = run.load(workdir)
  assert meta['name'] == str(lines_file) and meta['sizes'] == SIZES
  _, outputs = model(model.initial_carry(1), jnp.zeros((1, 2, 3)))
  assert outputs.shape == (1, 2, 6 * config.model.num_mixtures + 1)


def test_a_given_text_is_written(reader):
  config, workdir, result = reader
  assert np.isfinite(result['valid/nats_per_sequence'])
  lines = stroke_files.read(workdir / 'sample.json')
  assert {x.text for split in lines.values() for x in split} == {'so on'}
  assert 'so on' in (workdir / 'sample.svg').read_text()
  said = run.sample(copy(config, sample__text='no no'), workdir)
  endings = 'svg', 'png', 'json', 'npz'  # the last: how weights changed
  path = f'{workdir}/samples/no-no-seed-0'
  assert said.splitlines() == [f'{path}.{ending}' for ending in endings]


def test_a_text_of_other_characters_is_refused(reader):
  config, workdir, _ = reader
  with pytest.raises(UserError, match=r"config\.sample\.text: .* no '€'"):
    run.sample(copy(config, sample__text='5 €'), workdir)


def test_a_protocol_without_a_test_split_is_enough(tmp_path):
  folder = write_corpus(tmp_path / 'iam')
  config = load(f'{REPOSITORY}/configs/handwriting.py:lstm_900_plain,smoke')
  assert config.data.protocol == 'graves'
  config = copy(shrink(config), data__dir=str(folder), train__num_steps=4)

  result = run.train(config, tmp_path / 'run')

  sizes = files.read_json(tmp_path / 'run' / 'data.json')['sizes']
  assert sizes == {'train': 7, 'valid': 1}
  measured = {name for name in result if '/' in name}
  assert measured == {'valid/nats_per_sequence', 'valid/nats_per_point'}
  again = run.evaluate(config, tmp_path / 'run')
  assert {name: again[name] for name in measured} == {
    name: result[name] for name in measured
  }
  with pytest.raises(UserError, match=r"eval\.split: no split 'test'"):
    run.evaluate(copy(config, eval__split='test'), tmp_path / 'run')


@pytest.mark.parametrize(
  ('fields', 'words'),
  [
    ({'data.path': ''}, 'config.data.path is empty'),
    ({'data.path': '/no/such/file'}, '/no/such/file'),
    ({'data.min_points': 1000}, 'config.data.min_points 1000'),
    ({'data.scale_range': 1.0}, 'config.data.scale_range is 1.0'),
    ({'data.alphabet': 'no s'}, 'config.model.num_windows is 0'),
    ({'model.num_windows': 4}, 'config.data.alphabet is empty'),
    ({'model.num_mixtures': 0}, 'config.model.num_mixtures is 0'),
    ({'model.num_windows': -1}, 'config.model.num_windows is -1'),
    ({'sample.num_lines': 0}, 'config.sample.num_lines is 0'),
    ({'sample.bias': -1.0}, 'config.sample.bias is -1.0'),
    ({'sample.style_line': -1}, 'config.sample.style_line is -1'),
    ({'sample.text': 'so'}, 'config.sample.text: this model writes what it'),
    ({'sample.style': '/no/such/file'}, '/no/such/file'),
    ({'model.cell': 'lsmt'}, "config.model.cell: no 'lsmt'"),
  ],
)
def test_what_is_wrong_is_named(lines_file, tmp_path, fields, words):
  config = config_of(lines_file)
  config.update_from_flattened_dict(fields)
  with pytest.raises(UserError) as error:
    run.train(config, tmp_path)
  assert words in str(error.value)
  assert '\n' not in str(error.value)
  assert not files.has_checkpoints(tmp_path)


def test_a_text_of_other_characters_is_refused_before_training(
  lines_file, tmp_path
):
  config = config_of(lines_file, 'lstm_900,text')
  config.update({'data': {'alphabet': 'no s'}, 'sample': {'text': 'yes'}})
  with pytest.raises(UserError, match=r"config\.sample\.text: .* no 'ey'"):
    run.train(config, tmp_path)
  assert not files.has_checkpoints(tmp_path)
