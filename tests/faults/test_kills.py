"""SIGKILL changes nothing, whenever it comes.

A hundred of them, at random moments (about half an hour):

    KILLS=100 bash scripts/test.sh --slow -s tests/faults/test_kills.py
"""

import json
import os
import random
import signal

import pytest

from tests.faults import runs
from tests.faults.config import PHASES
from tests.faults.kills import campaign


@pytest.mark.parametrize(
  'kind',
  ['language', pytest.param('images', marks=pytest.mark.slow)],
)
def test_kills_at_chosen_moments_change_nothing(data, whole, tmp_path, kind):
  """While data is read, in an evaluation, and while a checkpoint is written."""
  for phase in ('reading data 1', 'evaluating 2'):
    process = runs.start(kind, data[kind], tmp_path, fault=f'kill {phase}')
    code, _, err = runs.end(process)
    assert code == -signal.SIGKILL, err
  # The first save, before which no other is under way.
  process = runs.start(kind, data[kind], tmp_path, fault='stuck saving 1')
  assert runs.wait_for(lambda: saving_after(tmp_path, 20), process)
  runs.kill(process)
  before = runs.checkpoints(tmp_path)
  assert runs.unfinished(tmp_path)
  said = runs.finish(kind, data[kind], tmp_path)
  assert f'going on from step {before[-1]}' in said
  assert runs.unfinished(tmp_path) == []
  assert runs.differences(tmp_path, whole(kind)) == []


def saving_after(workdir, step):
  """Whether a checkpoint is being written, and the one of a step is there."""
  return step in runs.checkpoints(workdir) and runs.unfinished(workdir)


@pytest.mark.slow
@pytest.mark.parametrize('kind', runs.KINDS)
@pytest.mark.parametrize('phase', PHASES)
def test_a_kill_in_each_phase_changes_nothing(
  data, whole, tmp_path, kind, phase
):
  process = runs.start(kind, data[kind], tmp_path, fault=f'kill {phase} 1')
  code, _, err = runs.end(process)
  assert code == -signal.SIGKILL, err
  runs.finish(kind, data[kind], tmp_path)
  assert runs.differences(tmp_path, whole(kind)) == []


@pytest.mark.slow
def test_random_kills_change_nothing(tmp_path, data):
  rng = random.Random(int(os.environ.get('KILLS_SEED', '0')))
  kills = int(os.environ.get('KILLS', '12'))
  found = campaign(tmp_path, data, kills, rng)
  print(json.dumps(found, indent=2))
  assert found['kills'] == kills
  assert not found['differences']
