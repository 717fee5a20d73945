import pytest

from hyperjax.errors import LONGEST, UserError, did_you_mean


@pytest.mark.parametrize(
  ('name', 'nearest'),
  [
    ('lstn', 'lstm'),
    ('ln_lstmm', 'ln_lstm'),
    ('hyperlstm', 'hyper_lstm'),
    ('gru', None),
  ],
)
def test_the_nearest_name_is_suggested(name, nearest):
  known = ['lstm', 'ln_lstm', 'hyper_lstm']
  if nearest:
    assert did_you_mean(name, known) == f"; did you mean '{nearest}'?"
  else:
    assert did_you_mean(name, known) == '; known: hyper_lstm, ln_lstm, lstm'


def test_without_known_names_nothing_is_said():
  assert did_you_mean('x', []) == ''


def test_known_names_may_be_an_iterator():
  assert did_you_mean('z', iter('ba')) == '; known: a, b'


def test_a_user_error_is_its_message():
  assert str(UserError('config.seed is -1')) == 'config.seed is -1'


def test_what_a_file_is_called_can_not_break_the_line():
  message = str(UserError('a\nb\x1b[2J\u2028c\udcff: no such é'))
  assert message == r'a\nb\x1b[2J\u2028c\udcff: no such é'


def test_a_long_message_keeps_its_ends():
  message = str(UserError(f'a.json: {"x" * 10**6}; give a string'))
  assert len(message) < LONGEST + 10
  assert message.startswith('a.json: xxx')
  assert message.endswith('x; give a string')


def test_a_name_may_be_no_string():
  assert did_you_mean(5, ['lstm']) == '; known: lstm'
