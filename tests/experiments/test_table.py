import json

import pytest

from experiments import figure, render, table
from hyperjax import config as configs
from hyperjax import parts
from hyperjax.errors import UserError
from tests.counts import BEYOND, TABLES

# The tables with the rows of a config file, where it is not one of its name.
SPLIT = {'mnist': ['mnist', 'mnist_coordinates']}


def model_of(config):
  """What the width that meets a parameter budget depends on."""
  sizes = {**config['model'], 'hidden_size': None}
  symbols = [config['data'].get(name) for name in ('vocab_size', 'alphabet')]
  return json.dumps([sizes, config['task']['name'], symbols], sort_keys=True)


@pytest.fixture(scope='module', autouse=True)
def widths():
  """Widths of records are tried first: to search for one takes seconds."""
  recorded, resolve = {}, parts.resolve
  for name in table.names():
    for record in table.records(name):
      config = record['config']
      recorded[model_of(config)] = config['model'].get('hidden_size')
  fits = {}  # whether a recorded width is the one that meets the budget

  def resolve_known(config):
    key = model_of(config)
    width, budget = recorded.get(key), config.model.get('parameter_budget')
    if not budget or not width:
      return resolve(config)
    resolved = config.copy_and_resolve_references()
    if key not in fits:
      counts = []
      for resolved.model.hidden_size in (width, width + 1):
        task = parts.build_task(resolved)
        counts.append(parts.count(parts.shapes_of(task).params))
      fits[key] = counts[0] <= budget < counts[1]
    if not fits[key]:
      return resolve(config)
    resolved.model.hidden_size = width
    return resolved

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(parts, 'resolve', resolve_known)
    yield


@pytest.mark.parametrize('name', TABLES)
def test_the_papers_tables_have_their_rows_and_counts(name):
  rows = [
    row for one in SPLIT.get(name, [name]) for row in table.load(one).rows
  ]
  assert {row.name for row in rows} == set(TABLES[name]) - BEYOND
  for row in rows:
    assert table.parameters(row) == TABLES[name][row.name]
    assert row.paper
    assert row.paper_parameters


def test_every_row_has_a_config_that_holds():
  for name in table.names():
    for row in table.load(name).rows:
      config = table.config_of(row, budget=0.1)
      assert config.train.num_steps >= 1
      configs.validate(config)
      assert table.parameters(row)  # knows every name and option


def test_the_committed_tables_are_those_of_the_records():
  for name in (*table.names(), *figure.names()):
    file = 'table.md' if name in table.names() else 'figure.md'
    path = table.FOLDER / name / file
    assert path.read_text() == render.markdown(name), (
      f'{path}: run python -m experiments.report --write'
    )


def test_committed_records_are_whole_and_tell_their_origin():
  defined = {}
  for name in table.names():
    for record in table.records(name):
      assert record['table'] == name
      row = table.load(name).row(record['row'])
      key = name, row.name, record['budget']
      if key not in defined:
        defined[key] = parts.resolve(table.config_of(row, record['budget']))
      assert table.differences(record, defined[key], row) == []
      assert table.parameters(row) == record['parameters']
      assert record['git'] and not record['git'].endswith('dirty')
      assert record['seconds'] > 0


def test_a_budget_scales_steps_and_schedule():
  row = table.load('ptb_budget').rows[0]
  whole, tenth = table.config_of(row), table.config_of(row, budget=0.1)
  assert tenth.train.num_steps == round(0.1 * whole.train.num_steps)
  assert tenth.optimizer.warmup_steps == round(
    0.1 * whole.optimizer.warmup_steps
  )
  assert tenth.model == whole.model


def test_what_is_not_there_is_named():
  with pytest.raises(UserError, match="no table 'ptbb'; did you mean 'ptb'"):
    table.load('ptbb')
  with pytest.raises(UserError, match="no row 'lstm_100'; did you mean"):
    table.load('ptb').row('lstm_100')
  row = table.Row('x', 'X', 'configs/ptb.py', {'model.hiden_size': 3})
  with pytest.raises(UserError, match=r'no field config.model.hiden_size'):
    table.config_of(row)


RECORD = dict.fromkeys(table.FIELDS, 0) | {
  'config': {},
  'table': 'toy',
  'row': 'lstm',
  'budget': 1,
  'metrics': {'test/bits_per_char': 1.25},
  'command': 'python -m experiments.run --table=toy',
  'git': 'abc123',
  'versions': {'jax': '0'},
  'protocol': 'paper',
  'data': 'canonical',
  'diverged_at': None,
  'num_seeds': 1,
  'parameters': 1234567,
  'steps': 5000,
  'hardware': 'a machine',
  'seconds': 1800,
}

ROWS = """
from experiments.table import Reference, Row, Table
TEST = 'test/bits_per_char'
TABLE = Table(
  title='Toy', metrics={TEST: 'test'}, objective='bits_per_char',
  data='toy data',
  rows=[
    Row('lstm', 'LSTM', 'configs/ptb.py:lstm_1000', paper={TEST: '1.240'},
        paper_parameters='4.25 M'),
    Row('ln', 'LN', 'configs/ptb.py:ln_lstm', paper={TEST: '1.3'}),
  ],
  references=[Reference('Others', {TEST: '1.2'}, '9 M')],
)
"""


@pytest.fixture
def toy(tmp_path):
  (tmp_path / 'toy').mkdir()
  (tmp_path / 'toy' / 'rows.py').write_text(ROWS)
  return tmp_path


def cells(text, label):
  (line,) = [
    line for line in text.splitlines() if line.startswith(f'| {label}')
  ]
  return [cell.strip() for cell in line.strip('|').split('|')]


def test_rows_never_run_say_so(toy):
  text = render.markdown('toy', toy)
  assert cells(text, 'LSTM')[1:5] == ['4,254,050', '4.25 M', 'not run', '1.240']
  assert cells(text, 'Others')[1:5] == ['-', '9 M', '-', '1.2']


def test_seeds_give_a_mean_and_a_deviation(toy):
  for seed, value in enumerate((1.25, 1.27, 1.29)):
    metrics = {'test/bits_per_char': value}
    table.write_record(RECORD | {'seed': seed, 'metrics': metrics}, toy)
  row = cells(render.markdown('toy', toy), 'LSTM')
  assert row[:5] == ['LSTM', '1,234,567', '4.25 M', '1.270 ± 0.020', '1.240']
  assert row[5:9] == ['3', '5,000', '1.5', 'a machine']
  assert row[9:] == ['toy data', 'abc123']


def test_runs_below_the_protocol_are_marked_and_never_averaged_in(toy):
  table.write_record(RECORD, toy)
  table.write_record(
    RECORD | {'budget': 0.1, 'protocol': '0.1 of the steps', 'steps': 500},
    toy,
  )
  table.write_record(RECORD | {'seed': 1, 'data': 'a sample'}, toy)
  text = render.markdown('toy', toy)
  lines = [line for line in text.splitlines() if line.startswith('| LSTM')]
  assert len(lines) == 3
  assert sum('[' not in line for line in lines) == 1
  assert "Not the paper's protocol: 0.1 of the steps." in text
  assert 'Other data: a sample.' in text


def test_a_diverged_seed_is_told_and_left_out(toy):
  table.write_record(RECORD, toy)
  table.write_record(
    RECORD | {'seed': 1, 'metrics': {}, 'diverged_at': 1234}, toy
  )
  text = render.markdown('toy', toy)
  assert cells(text, 'LSTM')[3] == '1.250'
  assert cells(text, 'LSTM')[5] == '1 of 2'
  assert 'Seed 1 of lstm diverged at step 1,234' in text


def test_a_row_with_fewer_seeds_than_it_is_worth_says_so(toy):
  rows = toy / 'toy' / 'rows.py'
  rows.write_text(rows.read_text().replace("'4.25 M'", "'4.25 M', num_seeds=3"))
  table.write_record(RECORD, toy)
  assert cells(render.markdown('toy', toy), 'LSTM')[5] == '1 of 3'


def test_a_record_that_lacks_a_field(toy):
  record = dict(RECORD)
  del record['hardware']
  with pytest.raises(ValueError, match='the record has no hardware'):
    table.write_record(record, toy)
  path = table.write_record(RECORD, toy)
  path.write_text(json.dumps(record))
  with pytest.raises(UserError, match='it has no hardware'):
    table.records('toy', toy)
