import pathlib
import sys

import pytest

from hyperjax.sweeps import point
from hyperjax.sweeps.engines import local, slurm
from hyperjax.sweeps.space import grid
from hyperjax.sweeps.sweep import Sweep

STUB = pathlib.Path(__file__).with_name('stub.py')
VALUES = (3.0, 1.0, 2.0, 4.0)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
  """Engines look more often, so that runs of stubs may be shorter."""
  for module in (point, local):
    monkeypatch.setattr(module, 'POLL_SECONDS', 0.02)
  monkeypatch.setattr(slurm, 'POLL_SECONDS', 0.2)


@pytest.fixture
def make_sweep(tmp_path):
  """Makes an open sweep whose runs are of `stub.py`, over `config.x`."""

  def make(values=VALUES, *, pause=0.0, space=None, num_points=None, more=()):
    space = space or grid({'x': values})
    sweep = Sweep(
      folder=tmp_path / 'sweep',
      config='stub.py',
      flags=(f'--config.pause={pause}', *more),
      space=space,
      num_points=num_points or len(space.points()),
      objective='valid/loss',
      num_steps=5,
      cwd=str(tmp_path),
      program=(sys.executable, str(STUB)),
    )
    sweep.open()
    return sweep

  return make


@pytest.fixture
def claimed(make_sweep):
  """A sweep, a point of it, and that point's lock."""
  sweep = make_sweep()
  with sweep.claim(1) as claim:
    yield sweep, 1, claim


@pytest.fixture
def starts():
  """Counts how often each point of a sweep has begun, and gone on."""

  def count(sweep):
    found = {}
    for number in range(sweep.num_points):
      path = sweep.workdir(number) / 'starts'
      found[number] = path.read_text().split() if path.exists() else []
    return found

  return count
