"""A result as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def markdown(result: dict[str, Any]) -> str:
  """The tables of a result."""
  lines = [f'# Speed on {result["device"]}', '']
  for part, show in PARTS.items():
    if part in result:
      lines += show(result[part])
  lines += ['## Measured by', '']
  for what, origin in result['measured'].items():
    revision = (origin['git'] or 'no revision')[:12]
    versions = ', '.join(f'{k} {v}' for k, v in origin['versions'].items())
    lines.append(
      f'- {what}: `{origin["command"]}`, {origin["date"]}, {revision}; '
      f'{origin["machine"]}; {versions}'
    )
  lines.append('')
  return '\n'.join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
  """A table whose columns but the first are numbers, and an empty line."""
  lines = [
    f'| {" | ".join(head)} |',
    f'| --- |{" ---: |" * (len(head) - 1)}',
  ]
  return [*lines, *(f'| {" | ".join(row)} |' for row in rows), '']


def _speed(rows):
  lines = [
    'Milliseconds are the median of the turns, with the least and the most;',
    'ratios are medians of ratios within a turn. Our train steps are timed',
    'in dispatches of as many as a run has. "Of peak" is the share of the',
    'speed of a large float32 matmul, measured before the turns.',
    '',
  ]
  for shape in dict.fromkeys(row['shape'] for row in rows):
    lines += _speed_table(shape, [r for r in rows if r['shape'] == shape])
  return lines


def _resnet(rows):
  head = ['', 'ms', 'least', 'most', 'images/s', 'time over plain', 'compile s']
  cells = [
    [
      f'`{r["row"]}`',
      *(f'{r[k]:,.1f}' for k in ('milliseconds', 'least', 'most')),
      f'{r["images_per_second"]:,.1f}',
      f'{r["time_over_plain"]:.3f}',
      f'{r["compile_seconds"]:.1f}',
    ]
    for r in rows
  ]
  return [
    '## Residual networks, train step',
    '',
    f'Batches of {rows[0]["batch"]} images of 32 x 32.',
    '',
    *_table(head, cells),
  ]


def _handwriting(part):
  head = ['', 'ms', 'least', 'most', 'points/s', 'time over LSTM', 'compile s']
  cells = [
    [
      f'`{r["row"]}`',
      *(f'{r[k]:,.0f}' for k in ('milliseconds', 'least', 'most')),
      f'{r["points_per_second"]:,.0f}',
      f'{r["time_over_lstm"]:.3f}',
      f'{r["compile_seconds"]:.1f}',
    ]
    for r in part['rows']
  ]
  return [
    '## Handwriting, train step',
    '',
    f'Whole lines of {part["data"]} in batches of {part["batch"]}; points',
    f'that are no padding. Of all positions {part["padding"]:.1%}',
    f'are padding; {part["computed_padding"]:.1%} with those behind the end',
    'of a batch that its last chunk computes.',
    '',
    *_table(head, cells),
  ]


def _translation(part):
  models = (
    'Trained models.'
    if part['trained']
    else 'Fresh weights, which write each sentence to its limit.'
  )
  head = ['', 'parameters', 'seconds', 'least', 'most', 'sentences/s']
  head += ['pieces written', 'temporaries MiB', 'weights MiB']
  cells = [
    [
      f'`{r["row"]}`',
      f'{r["parameters"]:,}',
      *(f'{r[k] / 1e3:,.2f}' for k in ('milliseconds', 'least', 'most')),
      f'{r["sentences_per_second"]:,.1f}',
      f'{r["pieces_per_sentence"]:,.1f}',
      f'{r["temporaries_mib"]:,.1f}',
      f'{r["weights_mib"]:,.1f}',
    ]
    for r in part['rows']
  ]
  return [
    f'## Translation, beam {part["beam"]}',
    '',
    f'{part["sentences"]} sentences of {part["data"]}, {part["batch"]} side',
    f'by side. {models} Memory is that of the widest batch,',
    f'{part["rows"][0]["width"]} pieces.',
    '',
    *_table(head, cells),
  ]


def _memory(rows):
  return [
    '## Peak temporaries',
    '',
    'LN HyperLSTM 1000/128, N_z 16, batch 128, 100 steps, a train step.',
    '',
    '| remat | defer | MiB |',
    '| --- | --- | ---: |',
    *(
      f'| {r["remat"]} | {r["defer"]} | {r["temporaries_mib"]:,.0f} |'
      for r in rows
    ),
    '',
  ]


def _start(part):
  return [
    '## Start to first step',
    '',
    f'`{part["command"]}`: {part["cold"]:.1f} s with an empty compile',
    f'cache, {part["warm"]:.1f} s with a full one.',
    '',
  ]


def _gap(part):
  spread = f'{100 * part["least"]:.1f} to {100 * part["most"]:.1f}'
  return [
    '## Host gap between steps',
    '',
    f'{100 * part["gap"]:.1f} % ({spread}): {part["steps"]} steps of',
    f'{part["shape"]} through the training loop, in {part["dispatches"]}',
    'dispatches, over as many in one dispatch.',
    '',
  ]


def _parity(rows):
  cells = [[r['variant'], f'{r["relative_gradient_error"]:.1e}'] for r in rows]
  return [
    '## Gradients against float64',
    '',
    'Norm of the difference over the norm, all parameters at once, at the',
    'initial weights of the Penn Treebank model, 16 x 20 symbols.',
    '',
    *_table(['variant', 'relative error'], cells),
  ]


PARTS = {  # in their order
  'speed': _speed,
  'resnet': _resnet,
  'handwriting': _handwriting,
  'translation': _translation,
  'memory': _memory,
  'start': _start,
  'gap': _gap,
  'parity': _parity,
}


def _speed_table(shape, rows):
  columns = {
    'speed_over_peer': 'speed over PyTorch HyperLSTM',
    'time_over_fused': 'time over torch.nn.LSTM',
    'time_over_cudnn': 'time over cuDNN LSTM',
  }
  columns = {k: v for k, v in columns.items() if k in rows[0]}
  head = ['', 'ms', 'least', 'most', *columns.values()]
  head += ['of peak', 'compile s', 'temporaries MiB']
  lines = []
  for kind in dict.fromkeys(row['kind'] for row in rows):
    chosen = [r for r in rows if r['kind'] == kind]
    cells = [_speed_row(r, columns) for r in chosen]
    lines += [f'## {shape}, {kind}', '', *_table(head, cells)]
    if peak := chosen[0].get('matmul_flops_per_second'):
      lines += [f'Matmul: {peak / 1e9:,.0f} GFLOP/s.', '']
  return lines


def _speed_row(row, columns):
  whole = row['kind'] == 'train step' and row['compile_seconds']
  return [
    row['contender'],
    *(f'{row[k]:,.1f}' for k in ('milliseconds', 'least', 'most')),
    *(f'{row[k]:.2f}' for k in columns),
    f'{row["of_peak"]:.0%}' if 'of_peak' in row else '',
    f'{row["compile_seconds"]:.1f}' if whole else '',
    f'{row["temporaries_mib"]:,.0f}' if whole else '',
  ]
