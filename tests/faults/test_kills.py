"""SIGKILL changes nothing, whenever it comes.

A hundred of them, at random moments (about half an hour):

    KILLS=100 bash scripts/test.sh --slow -s tests/faults/test_kills.py
"""

import json
import os
import random

import pytest

from tests.faults.kills import campaign


@pytest.mark.slow
def test_random_kills_change_nothing(tmp_path, data):
  rng = random.Random(int(os.environ.get('KILLS_SEED', '0')))
  kills = int(os.environ.get('KILLS', '12'))
  found = campaign(tmp_path, data, kills, rng)
  print(json.dumps(found, indent=2))
  assert found['kills'] == kills
  assert not found['differences']
