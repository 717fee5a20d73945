import importlib.util

import pytest

from hyperjax.compiling import targets
from hyperjax.errors import UserError


@pytest.fixture(autouse=True)
def nothing_is_changed(monkeypatch):
  monkeypatch.setattr('jax.config.update', lambda *_: None)


def refusal(name):
  with pytest.raises(UserError) as error:
    targets.find(name)
  assert '\n' not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('h10', "--target: no 'h10'; did you mean 'h100'?"),
    ('', "--target: no ''"),
    ('h100:x', "'x' is no number of GPUs"),
    ('h100:9', 'give 1 to 8'),
    ('h100:0', 'give 1 to 8'),
  ],
)
def test_a_target_that_is_none(name, words):
  assert words in refusal(name)


@pytest.mark.parametrize(
  ('name', 'extra'), [('a100', 'compile-gpu'), ('v5e:4x4', 'compile-tpu')]
)
def test_a_compiler_that_is_not_installed(monkeypatch, name, extra):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)
  assert f"is not installed; pip install 'hyperjax[{extra}]'" in refusal(name)


def test_the_description_of_a_gpu():
  text = targets.GPUS['h100'].config
  assert 'device_description_str: "NVIDIA H100 80GB HBM3"' in text
  assert 'core_count: 132' in text and '{ major: 9 }' in text
  assert text.count('{') == text.count('}')
