import json
import pathlib
import subprocess
import sys

import pytest

from hyperjax.errors import UserError

REPOSITORY = pathlib.Path(__file__).parents[1]


def bench(*flags):
  return subprocess.run(
    [sys.executable, 'scripts/bench.py', *flags],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
  )


@pytest.mark.parametrize(
  ('flag', 'words'),
  [
    ('--parts=sped', "--parts: no 'sped'; did you mean 'speed'?"),
    ('--shapes=ptb-32x5', "--shapes: no 'ptb-32x5'; did you mean 'ptb-32x50'?"),
    ('--repeats=0', '--repeats is 0; it must be at least 1'),
    (
      '--parts=compiled --rows=ptb/lstm',
      "--rows: no 'ptb/lstm'; did you mean 'ptb/ln_lstm'?",
    ),
  ],
)
def test_wrong_flags_are_one_line(script, flag, words):
  with pytest.raises(UserError) as error:
    script('bench', *flag.split())
  assert str(error.value) == words


def test_an_error_ends_with_its_code():
  done = bench('--repeats=0')
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith('error: --repeats is 0')


@pytest.mark.slow
def test_quick_prints_a_table_and_writes_nothing(tmp_path):
  done = bench('--quick', f'--out={tmp_path}')

  assert done.returncode == 0, done.stderr
  rows = [
    line for line in done.stdout.splitlines() if '| LN HyperLSTM |' in line
  ]
  assert len(rows) == 1
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_parts_that_were_not_asked_for_stay(tmp_path):
  before = {'command': 'x', 'cold': 2.0, 'warm': 1.0}
  (tmp_path / 'cpu.json').write_text(json.dumps({'start': before}))

  done = bench('--parts=memory', f'--out={tmp_path}')

  assert done.returncode == 0, done.stderr
  result = json.loads((tmp_path / 'cpu.json').read_text())
  assert result['start'] == before
  sizes = [row['temporaries_mib'] for row in result['memory']]
  assert sizes[1] < sizes[0] < sizes[3]
  assert 'Peak temporaries' in (tmp_path / 'cpu.md').read_text()
