import pytest

from hyperjax import config as configs
from hyperjax import parts
from hyperjax.budget import largest_width
from hyperjax.errors import UserError


@pytest.mark.parametrize('budget', [10, 11, 12, 109, 110, 111, 10**9])
def test_the_largest_width_within_the_budget(budget):
  def count(width):
    return width * width + 9

  width = largest_width(count, budget)
  assert count(width) <= budget < count(width + 1)


def test_a_budget_below_the_least_model():
  with pytest.raises(UserError, match='parameter_budget is 9, but with hidden'):
    largest_width(lambda width: width + 9, 9)


def test_a_width_that_changes_nothing():
  with pytest.raises(UserError, match='does not grow with its hidden_size'):
    largest_width(lambda width: 5, 9)


OTHERS = 'rnn', 'ln_rnn', 'ln_lstm', 'hyper_rnn', 'ln_hyper_rnn', 'hyper_lstm'


@pytest.mark.parametrize(
  'cell',
  [
    'lstm',
    'ln_hyper_lstm',
    *(pytest.param(cell, marks=pytest.mark.slow) for cell in OTHERS),
  ],
)
def test_any_cell_meets_a_budget(repository, cell):
  config = configs.load(f'{repository}/configs/ptb.py:lstm_1000')
  config.model.update({'cell': cell, 'hyper_size': 8, 'z_size': 2})
  config.model.recurrent_keep_prob = 1.0
  config.model.parameter_budget = 20_000

  resolved = parts.resolve(config)

  width = resolved.model.hidden_size
  assert config.model.hidden_size == 1000  # left as it was
  counts = []
  for hidden_size in (width, width + 1):
    config.model.update({'parameter_budget': 0, 'hidden_size': hidden_size})
    counts.append(parts.parameters(config))
  assert counts[0] <= 20_000 < counts[1]
  assert parts.parameters(resolved) == counts[0]
  assert parts.resolve(resolved).model.hidden_size == width  # as when resumed


def test_full_generation_and_layers_meet_it_too(repository):
  config = configs.load(f'{repository}/configs/ptb.py:hyper_lstm')
  config.model.update(
    {
      'hyper_size': 4,
      'num_layers': 2,
      'generation': 'full',
      'parameter_budget': 30_000,
    }
  )
  assert 27_000 < parts.parameters(config) <= 30_000


def test_a_model_without_a_width(repository):
  config = configs.load(f'{repository}/configs/ptb.py')
  with config.unlocked():
    del config.model['hidden_size']
  config.model.parameter_budget = 1000
  with pytest.raises(UserError, match="'char_lm' has no"):
    parts.resolve(config)
