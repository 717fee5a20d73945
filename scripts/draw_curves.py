"""Draws the learning curves of several runs in one picture.

python scripts/draw_curves.py --runs=RUN,RUN2 --metric=nats_per_sequence \
      --out=curves.png [--labels=LSTM,HyperLSTM]

A RUN is a workdir; --labels are the names of the folders by default.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from hyperjax import command_line
from hyperjax.errors import UserError
from hyperjax.pictures import curves
from hyperjax.training.writers import read_metrics

_RUNS = flags.DEFINE_list('runs', [], 'Workdirs.')
_LABELS = flags.DEFINE_list('labels', [], 'What to call each.')
_METRIC = flags.DEFINE_string('metric', '', 'What stands behind the slash.')
_OUT = flags.DEFINE_string('out', 'curves.png', 'The picture.')


def main(argv: Sequence[str]) -> None:
  """Reads the metrics of each run and draws."""
  del argv  # flags alone
  if not _RUNS.value or not _METRIC.value:
    raise UserError('--runs and --metric are needed: workdirs, and a name')
  workdirs = [pathlib.Path(name) for name in _RUNS.value]
  labels = _LABELS.value or [workdir.name for workdir in workdirs]
  if len(set(labels)) != len(workdirs):
    raise UserError(
      f'--labels: {", ".join(labels)}; give {len(workdirs)} different ones'
    )
  runs = {}
  for label, workdir in zip(labels, workdirs, strict=True):
    if not (workdir / 'metrics.jsonl').exists():
      raise UserError(f'--runs: {workdir} has no metrics.jsonl; name a run')
    runs[label] = read_metrics(workdir)
  out = pathlib.Path(_OUT.value)
  out.parent.mkdir(parents=True, exist_ok=True)
  try:
    curves.comparison(out, runs, _METRIC.value)
  except ValueError as error:
    raise UserError(f'--metric: {error}') from error
  print(out)


if __name__ == '__main__':
  command_line.launch(main)
