"""Feeds damaged and hostile inputs to the parsers of what comes from outside.

    python scripts/fuzz.py [--executions=2000] [--targets=iam_xml,idx]
      [--seed=0] [--out=FOLDER]

Each case is parsed, or refused with one line that names the file or field; any
other error, more than 5 seconds of the processor or more than 256 MiB is a
finding. Prints a table and what was found; inputs that show it are saved under
--out as TARGET-NUMBER. The same seed makes the same cases. A costly target gets
a part of the executions. Exits with 1 if there are findings.
"""

import collections
import contextlib
import faulthandler
import logging
import pathlib
import random
import sys
import tempfile
import warnings
from collections.abc import Sequence

from absl import flags

from hyperjax import command_line
from hyperjax.errors import UserError, did_you_mean

from fuzzing import guard, run_files, targets

_EXECUTIONS = flags.DEFINE_integer('executions', 2_000, 'Cases of a target.')
_TARGETS = flags.DEFINE_list('targets', [], 'Names; all by default.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the cases.')
_OUT = flags.DEFINE_string('out', '', 'Folder for inputs that show findings.')
TARGETS = {**targets.TARGETS, **run_files.TARGETS}
SHOWN = 8  # findings of a target


def main(argv: Sequence[str]) -> None:
  """Runs the targets one after the other."""
  del argv  # flags alone
  for name in _TARGETS.value:
    if name not in TARGETS:
      raise UserError(f"--targets: no '{name}'{did_you_mean(name, TARGETS)}")
  if _EXECUTIONS.value < 1:
    raise UserError(f'--executions is {_EXECUTIONS.value}; give at least 1')
  faulthandler.enable()
  logging.getLogger('hyperjax').setLevel(logging.CRITICAL)
  warnings.simplefilter('error')
  out = pathlib.Path(_OUT.value) if _OUT.value else None
  if out:
    out.mkdir(parents=True, exist_ok=True)
  print(
    f'{"target":16} {"executions":>10} {"parsed":>8} {"refused":>8} findings'
  )
  total = 0
  # Kept here, since a target parses flags itself.
  executions, seed = _EXECUTIONS.value, _SEED.value
  for name in _TARGETS.value or TARGETS:
    total += _fuzz(name, executions, seed, out)
  if total:
    sys.exit(1)


def _fuzz(name, executions, seed, out):
  """Runs one target; returns how many cases were findings."""
  counts, found = collections.Counter(), collections.Counter()
  with tempfile.TemporaryDirectory() as folder:
    target = TARGETS[name](pathlib.Path(folder))
    with guard.limited_memory(), _no_alarm_after():
      for number in range(-(-executions // target.cost)):
        content = target.make(random.Random(f'{name} {seed} {number}'))
        if out:  # stays there if the process dies
          (out / f'{name}-last').write_bytes(content)
        # What never comes back to Python ends the process, with a traceback.
        faulthandler.dump_traceback_later(2 * guard.WAIT, exit=True)
        outcome = guard.run(target.parse, content, target.names)
        counts[outcome.kind] += 1
        if outcome.kind == guard.FINDING:
          line = outcome.line.replace(folder, '')
          if out and not found[line]:
            (out / f'{name}-{number}').write_bytes(content)
          found[line] += 1
  print(
    f'{name:16} {counts.total():10,} {counts[guard.PARSED]:8,} '
    f'{counts[guard.REFUSED]:8,} {counts[guard.FINDING]:8,}',
    flush=True,
  )
  for line, count in found.most_common(SHOWN):
    print(f'  {count:,} x {line}', flush=True)
  return counts[guard.FINDING]


@contextlib.contextmanager
def _no_alarm_after():
  try:
    yield
  finally:
    faulthandler.cancel_dump_traceback_later()


if __name__ == '__main__':
  command_line.launch(main)
