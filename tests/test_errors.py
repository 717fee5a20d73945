import pytest

from hyperjax.errors import UserError, did_you_mean


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
