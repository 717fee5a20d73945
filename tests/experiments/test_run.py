"""Rows that are really run, small ones."""

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import render, table
from experiments import run as experiments_run
from hyperjax.errors import UserError

ROWS = """
from experiments.table import Row, Table
SMALL = {{
  'data.path': {path!r},
  'data.batch_size': 4,
  'data.sequence_length': 16,
  'model.hidden_size': 8,
  'optimizer.warmup_steps': 4,
  'train.num_steps': 20,
  'train.eval_every': 10,
  'train.checkpoint_every': 10,
  'eval.num_streams': 8,
  'eval.quick_streams': 8,
}}
TABLE = Table(
  title='Toy', metrics={{'test/bits_per_char': 'test'}},
  objective='bits_per_char', data={path!r},
  rows=[
    Row('plain', 'LSTM', 'configs/text.py:lstm', SMALL, num_seeds=2),
    Row('broken', 'Broken', 'configs/text.py:lstm',
        SMALL | {{'optimizer.learning_rate': 1e30}}, num_seeds=2),
    Row('searched', 'LSTM, searched', 'configs/text.py:lstm', SMALL,
        search=('optimizer.learning_rate', (1e-5, 3e-2, 1e30)), num_seeds=2),
  ],
)
"""


@pytest.fixture(scope='module')
def root(tmp_path_factory, text_file):
  root = tmp_path_factory.mktemp('tables')
  (root / 'toy').mkdir()
  (root / 'toy' / 'rows.py').write_text(ROWS.format(path=str(text_file)))
  return root


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  return tmp_path_factory.mktemp('runs')


def fill(root, runs, name, **options):
  row = table.load('toy', root).row(name)
  experiments_run.fill('toy', row, runs, root=root, **options)


def of(root, name):
  return [r for r in table.records('toy', root) if r['row'] == name]


def test_a_row_is_run_recorded_and_left_alone(root, runs, monkeypatch):
  fill(root, runs, 'plain')
  first, second = of(root, 'plain')
  assert (first['seed'], second['seed']) == (0, 1)
  assert first['metrics'] != second['metrics']
  assert set(first['metrics']) == {'valid/bits_per_char', 'test/bits_per_char'}
  assert first['steps'] == 20
  assert first['protocol'] == 'paper'
  assert first['data'] == 'canonical'
  assert first['num_seeds'] == 2
  assert first['config']['model']['hidden_size'] == 8
  assert first['seconds'] > 0
  for record in first, second:
    (curve,) = record['curve'].values()
    assert [step for step, _ in curve] == [10, 20]
  assert first['curve'] != second['curve']

  monkeypatch.setattr('hyperjax.run.train', None)  # would be called in vain
  fill(root, runs, 'plain')


def test_more_seeds_run_only_what_is_missing(root, runs):
  before = {r['seed']: r for r in of(root, 'plain')}
  fill(root, runs, 'plain', num_seeds=3)
  after = {r['seed']: r for r in of(root, 'plain')}
  assert set(after) == {0, 1, 2}
  assert {seed: after[seed] for seed in before} == before
  assert after[2]['num_seeds'] == 1


def test_a_short_budget_is_another_record(root, runs):
  fill(root, runs, 'plain', num_seeds=1, budget=0.5)
  (short,) = [r for r in of(root, 'plain') if r['budget'] == 0.5]
  assert short['steps'] == 10
  assert short['config']['optimizer']['warmup_steps'] == 2
  assert short['protocol'] == '0.5 of the steps'


def test_a_search_takes_the_best_value_on_validation_data(root, runs):
  fill(root, runs, 'searched')
  records = of(root, 'searched')
  assert [r['seed'] for r in records] == [0, 1]
  search = records[0]['search']
  assert search['field'] == 'optimizer.learning_rate'
  assert search['valid']['1e+30'] is None  # it diverged, and was passed over
  assert search['valid']['0.03'] < search['valid']['1e-05']
  for record in records:
    assert record['config']['optimizer']['learning_rate'] == 0.03
    assert record['search'] == search
  assert records[0]['metrics']['valid/bits_per_char'] == pytest.approx(
    search['valid']['0.03']
  )
  assert 'LSTM, searched' in render.markdown('toy', root)


def test_a_record_of_another_definition_is_refused(root, runs):
  rows = root / 'toy' / 'rows.py'
  text = rows.read_text()
  rows.write_text(
    text.replace("'model.hidden_size': 8", "'model.hidden_size': 9")
  )
  try:
    with pytest.raises(
      UserError, match=r'otherwise now: model.hidden_size \(was'
    ):
      fill(root, runs, 'plain')
  finally:
    rows.write_text(text)


def test_a_run_that_diverges_is_recorded_as_that(root, runs):
  fill(root, runs, 'broken')
  first, second = of(root, 'broken')
  assert first['metrics'] == {} and second['metrics'] == {}
  assert first['diverged_at'] >= 0
  text = render.markdown('toy', root)
  assert 'diverged | ' in text
  assert 'Seed 1 of broken diverged at step' in text
  fill(root, runs, 'broken')  # nothing is left to do


@flagsaver.flagsaver
def test_a_search_that_finds_nothing_leaves_the_other_rows(monkeypatch, capsys):
  tried = []

  def fill(name, row, runs, **options):
    tried.append(row.name)
    if row.name == 'lstm':
      experiments_run._best({'field': 'x', 'valid': {'1': None}}, [1.0])

  monkeypatch.setattr(experiments_run, 'fill', fill)
  monkeypatch.setattr(render, 'write', lambda name: f'all of {name}')
  flags.FLAGS(['run', '--table=ptb_budget', '--row=rnn,lstm,ln_lstm'])
  try:
    with pytest.raises(UserError, match=r'^lstm: config\.x: every value'):
      experiments_run.main([])
  finally:
    flags.FLAGS.unparse_flags()
  assert tried == ['rnn', 'lstm', 'ln_lstm']
  assert capsys.readouterr().out == 'all of ptb_budget\n'


def test_groups_of_consecutive_seeds():
  groups = experiments_run._consecutive([0, 1, 2, 5, 7, 8])
  assert list(groups) == [(0, 3), (5, 1), (7, 2)]
  groups = experiments_run._consecutive([0, 1, 2], apart=0)
  assert list(groups) == [(0, 1), (1, 2)]


def test_a_curve_keeps_its_ends_and_not_all_between():
  lines = [{'step': k, 'seed_1/x': float(k)} for k in range(1, 1001)]
  lines += [{'step': 1001, 'seed_1/x': None}, {'step': 1002}]
  curve = experiments_run._curve(lines, 'x', 'seed_1/')['x']
  assert len(curve) == experiments_run.CURVE_POINTS
  assert curve[0] == [1, 1.0] and curve[-1] == [1000, 1000.0]
  assert all(step == value for step, value in curve)
