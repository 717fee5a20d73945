"""Configs: the paper's rows and values, and what is wrong with others."""

import pytest

from hyperjax import config as configs
from hyperjax import parts, run
from hyperjax.errors import UserError
from tests.counts import TABLES


@pytest.mark.parametrize('name', TABLES)
def test_all_rows_are_counted(repository, name):
  rows = configs.load_module(repository / 'configs' / f'{name}.py')['ROWS']
  assert set(rows) == set(TABLES[name])


@pytest.mark.parametrize(
  ('name', 'row'), [(name, row) for name in TABLES for row in TABLES[name]]
)
def test_rows_have_the_papers_parameters(repository, name, row):
  table = parts.describe(configs.load(f'{repository}/configs/{name}.py:{row}'))
  assert table.splitlines()[-1] == f'total parameters: {TABLES[name][row]:,}'


@pytest.mark.parametrize('row', ['ln_hyper_lstm', 'lstm_2x1000'])
def test_the_table_adds_up(repository, row):
  config = configs.load(f'{repository}/configs/ptb.py:{row}')
  *lines, total = parts.describe(config).splitlines()
  numbers = [int(line.split()[-1].replace(',', '')) for line in lines]
  assert sum(numbers) == int(total.split()[-1].replace(',', ''))


def test_the_papers_values_are_the_defaults(repository):
  config = configs.load(f'{repository}/configs/ptb.py:ln_hyper_lstm')
  assert config.data.batch_size == 128
  assert config.data.sequence_length == 100
  assert config.model.hyper_size == 128
  assert config.model.z_size == 4
  assert config.model.recurrent_keep_prob == 0.9
  assert config.optimizer.name == 'adam'
  assert config.optimizer.learning_rate == 1e-3
  assert config.optimizer.clip_norm == 1.0
  assert config.eval.num_streams == 1


def test_the_papers_values_of_enwik8(repository):
  config = configs.load(f'{repository}/configs/enwik8.py')
  assert config.model.cell == 'ln_hyper_lstm'
  assert config.model.hyper_size == 256
  assert config.model.z_size == 64
  assert config.model.recurrent_keep_prob == 0.9
  assert config.model.input_keep_prob == config.model.output_keep_prob == 1.0
  assert (config.data.batch_size, config.data.sequence_length) == (128, 250)
  assert config.data.vocab_size == 205
  assert config.optimizer.learning_rate == 1e-3
  assert config.optimizer.schedule == 'constant'
  assert config.optimizer.clip_norm == 1.0
  assert config.train.num_steps == 28_120  # 10 epochs
  assert config.eval.num_streams == 1
  plain = configs.load(f'{repository}/configs/enwik8.py:lstm_2000')
  assert plain.model.recurrent_keep_prob == 1.0
  large = configs.load(f'{repository}/configs/enwik8.py:ln_hyper_lstm_2048')
  assert large.data.sequence_length == 300
  assert large.model.hyper_size == 512
  assert large.model.recurrent_keep_prob == 0.85
  assert large.model.hyper_recurrent_keep_prob == 0.85


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ('ptb.py:ln_hyper_lsmt', "did you mean 'ln_hyper_lstm'"),
    ('ptb.py:ln_lstm,smok', "did you mean 'smoke'"),
    ('ptb.py:ln_lstm,lstm_1000', 'two rows'),
    ('ptbb.py', 'ptb.py'),
  ],
)
def test_a_wrong_spec_names_the_nearest(repository, spec, message):
  with pytest.raises(UserError, match=message):
    configs.load(f'{repository}/configs/{spec}')


def test_a_broken_config_file_is_named(tmp_path):
  path = tmp_path / 'broken.py'
  path.write_text('def get_config():\n  return 1 / 0\n')
  with pytest.raises(UserError, match=r'broken.py.*ZeroDivisionError'):
    configs.load(str(path))
  path.write_text('x = (')
  with pytest.raises(UserError, match=r'broken.py.*SyntaxError'):
    configs.load(str(path))
  path.write_text('def get_config():\n  return {}\n')
  with pytest.raises(UserError, match='does not return a ConfigDict'):
    configs.load(str(path))


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('model.hidden_size', 0),
    ('model.hidden_size', -3),
    ('model.z_size', -1),
    ('model.num_layers', 0),
    ('model.num_layers', 10**9),
    ('model.hidden_size', 10**400),
    ('data.batch_size', 0),
    ('data.sequence_length', -5),
    ('model.recurrent_keep_prob', 0.0),
    ('model.input_keep_prob', 1.5),
    ('optimizer.learning_rate', 0.0),
    ('optimizer.learning_rate', float('nan')),
    ('optimizer.clip_norm', -1.0),
    ('train.num_steps', 0),
    ('train.eval_every', 0),
    ('eval.num_streams', 0),
    ('sample.length', 0),
    ('sample.temperature', -1.0),
    ('seed', -1),
  ],
)
def test_a_value_out_of_range_is_named(tiny_config, field, value):
  tiny_config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError) as error:
    configs.validate(tiny_config)
  assert f'config.{field} is {value}' in str(error.value)


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('model.cell', 'ln_hyper_lsmt', "did you mean 'ln_hyper_lstm'"),
    ('model.name', 'char_lmm', "did you mean 'char_lm'"),
    ('task.name', 'langage_model', "did you mean 'language_model'"),
  ],
)
def test_an_unknown_name_is_named(tiny_config, field, value, message):
  tiny_config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError) as error:
    parts.build_task(tiny_config)
  assert f'config.{field}' in str(error.value)
  assert message in str(error.value)


def test_an_unknown_option_of_a_model_is_named(tiny_config):
  tiny_config.model.hiden_size = 3
  with pytest.raises(UserError, match=r'config\.model\.hiden_size'):
    parts.build_task(tiny_config)


def test_a_hyper_cell_needs_its_sizes(tiny_config):
  del tiny_config.model.hyper_size
  with pytest.raises(UserError, match=r'config\.model\.hyper_size'):
    parts.build_task(tiny_config)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda c: c.train.update(evalevery=3), 'config.train.evalevery'),
    (lambda c: c.train.__delitem__('num_steps'), 'config.train.num_steps'),
    (lambda c: c.__delitem__('task'), 'config.task'),
    (lambda c: c.model.__delitem__('name'), 'config.model.name'),
    (lambda c: c.data.__delitem__('vocab_size'), 'config.data.vocab_size'),
    (lambda c: c.optimizer.update(momentum=0.5), 'config.optimizer.momentum'),
    (lambda c: c.optimizer.__delitem__('name'), 'config.optimizer.name'),
  ],
)
def test_a_field_too_many_or_too_few_is_named(
  tiny_config, tmp_path, change, message
):
  with tiny_config.unlocked():
    change(tiny_config)
  with pytest.raises(UserError) as error:
    run.train(tiny_config, tmp_path / 'run')
  assert message in str(error.value)
  assert not (tmp_path / 'run').exists()


def test_the_papers_values_of_cifar10(repository):
  config = configs.load(f'{repository}/configs/cifar10.py:wrn_40_2')
  assert (config.data.batch_size, config.data.pad) == (128, 2)
  assert config.data.flip
  assert (config.optimizer.name, config.optimizer.nesterov) == ('sgd', True)
  assert config.optimizer.learning_rate == 0.1
  assert config.optimizer.boundaries == (28_000, 56_000, 84_000, 112_000)
  assert config.optimizer.rates == (0.02, 0.004, 0.0008, 0.00016)
  assert config.train.num_steps == 140_000
  hyper = configs.load(f'{repository}/configs/cifar10.py:hyper_wrn_40_2')
  assert hyper.optimizer.name == 'adam'
  assert hyper.optimizer.learning_rate == 0.002
  assert hyper.optimizer.boundaries == (168_000, 336_000, 504_000)
  assert hyper.optimizer.rates == (0.001, 0.0002, 0.00005)
  assert hyper.train.num_steps == 672_000
  assert (hyper.model.block_size, hyper.model.z_size) == (16, 64)


def test_the_papers_values_of_mnist(repository):
  config = configs.load(f'{repository}/configs/mnist.py:hyper_conv')
  assert (config.data.batch_size, config.data.pad) == (1_000, 1)
  assert (config.optimizer.name, config.optimizer.learning_rate) == (
    'adam',
    1e-3,
  )
  assert config.model.z_size == 4


HANDWRITING = tuple(TABLES['handwriting'])


@pytest.mark.parametrize('row', HANDWRITING)
def test_the_papers_values_of_handwriting(repository, row):
  config = configs.load(f'{repository}/configs/handwriting.py:{row}')
  assert config.data.name == 'iam_ondb'
  assert (config.data.batch_size, config.data.min_points) == (32, 300)
  assert config.data.alphabet == '' and config.model.num_windows == 0
  assert config.model.num_mixtures == 20
  assert (config.model.hyper_size, config.model.z_size) == (128, 4)
  assert config.optimizer.name == 'adam'
  assert config.optimizer.learning_rate == 1e-4
  assert config.optimizer.schedule == 'constant'
  assert (config.optimizer.clip_norm, config.optimizer.clip_value) == (5.0, 0.0)
  regularized = not row.endswith('_plain')
  assert config.data.scale_range == (0.1 if regularized else 0.0)
  keep_prob = 0.95 if regularized else 1.0
  assert config.model.recurrent_keep_prob == keep_prob
  assert config.model.output_keep_prob == keep_prob
  assert config.model.hyper_recurrent_keep_prob == 1.0
  assert config.model.zoneout_c == config.model.zoneout_h == 0.0
  cell, _, size = row.removesuffix('_plain').rpartition('_')
  layers, _, units = size.rpartition('x')
  assert config.model.cell == cell
  assert config.model.hidden_size == int(units)
  assert config.model.num_layers == int(layers or 1)
  assert config.eval.split == 'valid'


def test_options_of_handwriting_do_what_they_say(repository):
  path = f'{repository}/configs/handwriting.py'
  synthetic = configs.load(f'{path}:lstm_900,synthetic')
  assert synthetic.data.name == 'synthetic_handwriting'
  assert 'dir' not in synthetic.data and 'protocol' not in synthetic.data
  text = configs.load(f'{path}:lstm_900,text')
  assert len(text.data.alphabet) == len(set(text.data.alphabet)) > 60
  assert text.model.num_windows == 10  # Graves
  assert not set(text.sample.text) - set(text.data.alphabet)
  # What is not asked for stays as the row has it.
  for config in (synthetic, text):
    assert config.train.num_steps == 32_000
    assert config.model.hidden_size == 900
    assert config.model.output_keep_prob == 0.95
  smoke = configs.load(f'{path}:lstm_900,smoke')
  assert smoke.train.num_steps < 1_000 and smoke.model.hidden_size < 100


def test_a_budget_scales_the_steps_and_the_schedule(repository):
  config = configs.load(
    f'{repository}/configs/cifar10.py:hyper_wrn_40_1,budget=0.1'
  )
  assert config.train.num_steps == 67_200
  assert config.optimizer.boundaries == (16_800, 33_600, 50_400)
  assert config.optimizer.rates == (0.001, 0.0002, 0.00005)


@pytest.mark.parametrize(
  'words', ['budget=0', 'budget=-1', 'budget=x', 'budget=', 'budget=nan']
)
def test_a_budget_that_is_no_share_is_refused(words):
  with pytest.raises(UserError) as error:
    configs.parse_budget(f'row,{words}')
  assert str(error.value) == (
    f"--config: '{words}' must be one budget above 0, such as budget=0.1"
  )


def test_two_budgets_are_refused():
  with pytest.raises(UserError, match="'budget=1,budget=2' must be one budget"):
    configs.parse_budget('budget=1,row,budget=2')


def test_a_budget_stands_anywhere():
  assert configs.parse_budget('budget=0.5,row') == ('row', 0.5)
  assert configs.parse_budget('row,budget=2,images') == ('row,images', 2.0)
  assert configs.parse_budget('') == ('', 1.0)
