"""The report of a program that is compiled for the CPU, as if for a target."""

import json

import jax
import pytest

from hyperjax.compiling import report, targets
from hyperjax.compiling.targets import Target
from hyperjax.errors import UserError


@pytest.fixture
def config(make_tiny_config):
  config = make_tiny_config()
  config.model.cell = 'lstm'
  config.mesh.data = 1
  return config


@pytest.fixture
def target(monkeypatch):
  """Makes targets of this machine's CPU with some memory."""

  def make(memory):
    made = Target('h100', jax.local_devices(backend='cpu')[:1], memory, None)
    monkeypatch.setattr(targets, 'find', lambda name: made)
    return made

  return make


def test_what_is_found_is_told(config, target, tmp_path):
  target(2**30)
  text = report.run(config, 'h100', str(tmp_path / 'found.json'))
  assert text.startswith('h100: 1 device (data 1 x model 1), jax ')
  assert 'made-up' not in text  # it is a file of the user's
  found = json.loads((tmp_path / 'found.json').read_text())
  for name in ('train step', 'evaluation step'):
    program = found['programs'][name]
    assert f'{name}: compiled in {program["compile_seconds"]} s; fits' in text
    assert program['fits'] and program['launches'] > 10
    assert sum(program['bytes'].values()) > 1000
    assert f'launches    {program["launches"]:,}' in text
    trips = [loop['trips'] for loop in program['loops']]
    assert config.data.sequence_length in trips


def test_what_does_not_fit_is_an_error(config, target, capsys):
  target(100_000)
  with pytest.raises(
    UserError, match=r'the train step needs 0\.\d MiB.*accumulate_steps'
  ):
    report.run(config, 'h100')
  assert 'DOES NOT FIT' in capsys.readouterr().out
