"""Draws the learning curves of several runs in one picture (paper, Fig. 6).

python scripts/draw_curves.py --runs=RUN,RUN2 --metric=nats_per_sequence \
      --out=curves.png [--labels=LSTM,HyperLSTM] [--splits=valid_quick]

A RUN is a workdir; --labels are the names of the folders by default. Runs of
one label are seeds of one network, as those of a run of several seeds are: the
picture has their mean and standard deviation. The ending of --out chooses the
format, png or svg, and beside it lies an .npz: LABEL/SPLIT/steps, int [N], and
LABEL/SPLIT/values, float64 [seeds, N], NaN where a seed has none.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from absl import flags

from hyperjax import command_line
from hyperjax.errors import UserError
from hyperjax.pictures import curves
from hyperjax.training.writers import read_metrics

_RUNS = flags.DEFINE_list('runs', [], 'Workdirs.')
_LABELS = flags.DEFINE_list('labels', [], 'What to call each.')
_METRIC = flags.DEFINE_string('metric', '', 'What stands behind the slash.')
_SPLITS = flags.DEFINE_list('splits', [], 'Before the slash; empty for all.')
_OUT = flags.DEFINE_string('out', 'curves.png', 'The picture.')


def main(argv: Sequence[str]) -> None:
  """Reads the metrics of each run and draws."""
  del argv  # flags alone
  if not _RUNS.value or not _METRIC.value:
    raise UserError('--runs and --metric are needed: workdirs, and a name')
  workdirs = [pathlib.Path(name) for name in _RUNS.value]
  labels = _LABELS.value or [workdir.name for workdir in workdirs]
  # Folders of one name are hardly seeds.
  mixed = not _LABELS.value and len(set(labels)) < len(labels)
  if len(labels) != len(workdirs) or mixed:
    raise UserError(
      f'--labels: {", ".join(labels)}; give {len(workdirs)}, one for each run'
    )
  networks = read(labels, workdirs)
  out = pathlib.Path(_OUT.value)
  out.parent.mkdir(parents=True, exist_ok=True)
  try:
    curves.comparison(out, networks, _METRIC.value)
  except ValueError as error:  # it knows no such ending
    raise UserError(f'--out: {error}') from error
  arrays = {
    f'{label}/{split}/{field}': array
    for label, splits in networks.items()
    for split, series in splits.items()
    for field, array in series._asdict().items()
  }
  np.savez(out.with_suffix('.npz'), **arrays)
  print(out)


def read(
  labels: Sequence[str], workdirs: Sequence[pathlib.Path]
) -> dict[str, dict[str, curves.Series]]:
  """The series of each label, by split."""
  logs = {}
  for label, workdir in zip(labels, workdirs, strict=True):
    if not (workdir / 'metrics.jsonl').exists():
      raise UserError(f'--runs: {workdir} has no metrics.jsonl; name a run')
    logs.setdefault(label, []).append(read_metrics(workdir))
  networks = {}
  for label, of_label in logs.items():
    found = curves.series(of_label, _METRIC.value)
    networks[label] = {
      split: series
      for split, series in found.items()
      if split in _SPLITS.value or not _SPLITS.value
    }
    if not networks[label]:
      raise UserError(
        f'--metric: {label} has no metric {_METRIC.value}'
        f'{" of " + " or ".join(_SPLITS.value) if _SPLITS.value else ""}; '
        f'give a name of its metrics.jsonl, from behind the slash'
      )
  return networks


if __name__ == '__main__':
  command_line.launch(main)
