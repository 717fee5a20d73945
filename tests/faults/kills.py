"""Kills small runs at random moments, and counts what is different after."""

import collections

from tests.faults import runs
from tests.faults.config import PHASES

SAVING = 'saving behind its back'
MOMENTS = ('starting', *PHASES, SAVING)
BEFORE_SAVES = 'starting', 'reading data', 'restoring', 'compiling'
SECONDS = 1.0  # at most, from when a phase has begun


def campaign(folder, data, kills, rng):
  """Runs are killed and started again until they end, so often in all.

  Args:
    folder: for the runs, and what they leave.
    data: of each of `runs.KINDS`, which take turns.
    kills: how many.
    rng: chooses the moments.

  Returns:
    What came of it: the moments of the kills, and the differences to runs that
    were never killed.
  """
  moments, of_kind, found = collections.Counter(), collections.Counter(), {}
  for kind in runs.KINDS:
    runs.finish(kind, data[kind], folder / kind)
  number = 0
  while moments.total() < kills:
    kind = runs.KINDS[number % len(runs.KINDS)]
    workdir = folder / f'run-{number}'
    most = kills - moments.total()
    killed = kill_until_it_ends(
      kind, data[kind], workdir, folder / 'phase', most, rng
    )
    differences = runs.differences(workdir, folder / kind)
    if differences:
      found[workdir.name] = differences
    print(
      f'{workdir.name} ({kind}): killed {len(killed)} times '
      f'({", ".join(killed)}); differences: {differences or "none"}',
      flush=True,
    )
    moments.update(killed)
    of_kind[kind] += len(killed)
    number += 1
  return {
    'kills': moments.total(),
    'of': dict(of_kind),
    'runs': number,
    'moments': dict(moments.most_common()),
    'differences': found,
  }


def kill_until_it_ends(kind, data, workdir, phase, most, rng):
  """What the run was doing each time that it was killed.

  Each time one of the phases is chosen, and a moment after it has begun. A run
  that does not come to it any more ends.
  """
  moments = []
  while True:
    phase.write_text('')
    process = runs.start(kind, data, workdir, fault=f'phases {phase}')
    target, seconds = rng.choice(MOMENTS), rng.uniform(0, SECONDS)
    if len(moments) < most and runs.wait_for(
      lambda: target in doing(phase, workdir),  # noqa: B023
      process,
    ):
      runs.wait_for(lambda: False, process, seconds)
      if process.poll() is None:
        process.kill()
        what = doing(phase, workdir)
        process.communicate()
        moments.append(' and '.join(what))
        continue
    code, _, err = runs.end(process)
    assert code == 0, err
    return moments


def doing(phase, workdir):
  """What a child says in its file that it does, and what its threads do."""
  what = phase.read_text().strip() or 'starting'
  # Behind the restoring no unfinished save is left of the process before.
  saving = runs.unfinished(workdir) and what not in BEFORE_SAVES
  return [what, SAVING] if saving else [what]
