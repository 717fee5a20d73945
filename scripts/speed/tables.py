"""A result as Markdown."""

from typing import Any


def markdown(result: dict[str, Any]) -> str:
  """The tables of a result."""
  lines = [f'# Speed on {result["device"]}', '']
  if rows := result.get('speed'):
    rate = result['matmul_flops_per_second']
    lines += [
      'Milliseconds are the median of the turns, with the least and the most;',
      'ratios are medians of ratios within a turn. "Of peak" is the share of',
      f'a large float32 matmul, {rate / 1e9:,.0f} GFLOP/s here.',
      '',
    ]
    for shape in dict.fromkeys(row['shape'] for row in rows):
      lines += _speed_table(shape, [r for r in rows if r['shape'] == shape])
  if rows := result.get('resnet'):
    lines += [
      '## Residual networks, train step',
      '',
      f'Batches of {rows[0]["batch"]} images of 32 x 32.',
      '',
      '|  | ms | least | most | images/s | time over plain | compile s |',
      '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ]
    for r in rows:
      times = [f'{r[k]:,.1f}' for k in ('milliseconds', 'least', 'most')]
      times.append(f'{r["images_per_second"]:,.1f}')
      times.append(f'{r["time_over_plain"]:.3f}')
      times.append(f'{r["compile_seconds"]:.1f}')
      lines.append(f'| `{r["row"]}` | {" | ".join(times)} |')
    lines.append('')
  if part := result.get('handwriting'):
    lines += [
      '## Handwriting, train step',
      '',
      f'Whole lines of {part["data"]} in batches of {part["batch"]}; points',
      f'that are no padding. Of all positions {part["padding"]:.1%}',
      f'are padding; {part["computed_padding"]:.1%} with those behind the end',
      'of a batch that its last chunk computes.',
      '',
      '|  | ms | least | most | points/s | time over LSTM | compile s |',
      '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ]
    for r in part['rows']:
      cells = [f'{r[k]:,.0f}' for k in ('milliseconds', 'least', 'most')]
      cells.append(f'{r["points_per_second"]:,.0f}')
      cells.append(f'{r["time_over_lstm"]:.3f}')
      cells.append(f'{r["compile_seconds"]:.1f}')
      lines.append(f'| `{r["row"]}` | {" | ".join(cells)} |')
    lines.append('')
  if part := result.get('translation'):
    models = (
      'Trained models.'
      if part['trained']
      else 'Fresh weights, which write each sentence to its limit.'
    )
    lines += [
      f'## Translation, beam {part["beam"]}',
      '',
      f'{part["sentences"]} sentences of {part["data"]}, {part["batch"]} side',
      f'by side. {models} Memory is that of the widest batch,',
      f'{part["rows"][0]["width"]} pieces.',
      '',
      '|  | parameters | seconds | least | most | sentences/s |'
      ' pieces written | temporaries MiB | weights MiB |',
      f'| --- |{" ---: |" * 8}',
    ]
    for r in part['rows']:
      cells = [f'{r["parameters"]:,}']
      times = ('milliseconds', 'least', 'most')
      cells += [f'{r[k] / 1e3:,.2f}' for k in times]
      cells.append(f'{r["sentences_per_second"]:,.1f}')
      cells.append(f'{r["pieces_per_sentence"]:,.1f}')
      cells.append(f'{r["temporaries_mib"]:,.1f}')
      cells.append(f'{r["weights_mib"]:,.1f}')
      lines.append(f'| `{r["row"]}` | {" | ".join(cells)} |')
    lines.append('')
  if rows := result.get('memory'):
    lines += [
      '## Peak temporaries',
      '',
      'LN HyperLSTM 1000/128, N_z 16, batch 128, 100 steps, a train step.',
      '',
      '| remat | defer | MiB |',
      '| --- | --- | ---: |',
    ]
    for r in rows:
      mib = f'{r["temporaries_mib"]:,.0f}'
      lines.append(f'| {r["remat"]} | {r["defer"]} | {mib} |')
    lines.append('')
  if start := result.get('start'):
    lines += [
      '## Start to first step',
      '',
      f'`{start["command"]}`: {start["cold"]:.1f} s with an empty compile',
      f'cache, {start["warm"]:.1f} s with a full one.',
      '',
    ]
  if gap := result.get('gap'):
    spread = f'{100 * gap["least"]:.1f} to {100 * gap["most"]:.1f}'
    lines += [
      '## Host gap between steps',
      '',
      f'{100 * gap["gap"]:.1f} % ({spread}): {gap["steps"]} steps of',
      f'{gap["shape"]} through the training loop, in {gap["dispatches"]}',
      'dispatches, over as many in one dispatch.',
      '',
    ]
  if rows := result.get('parity'):
    lines += [
      '## Gradients against float64',
      '',
      'Norm of the difference over the norm, all parameters at once, at the',
      'initial weights of the Penn Treebank model, 16 x 20 symbols.',
      '',
      '| variant | relative error |',
      '| --- | ---: |',
    ]
    for r in rows:
      lines.append(f'| {r["variant"]} | {r["relative_gradient_error"]:.1e} |')
    lines.append('')
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
    lines += [
      f'## {shape}, {kind}',
      '',
      f'| {" | ".join(head)} |',
      f'| --- |{" ---: |" * (len(head) - 1)}',
    ]
    for row in (r for r in rows if r['kind'] == kind):
      cells = [row['contender']]
      cells += [f'{row[k]:,.1f}' for k in ('milliseconds', 'least', 'most')]
      cells += [f'{row[k]:.2f}' for k in columns]
      cells.append(f'{row["of_peak"]:.0%}' if row.get('of_peak') else '')
      whole = kind == 'train step' and row['compile_seconds']
      cells.append(f'{row["compile_seconds"]:.1f}' if whole else '')
      cells.append(f'{row["temporaries_mib"]:,.0f}' if whole else '')
      lines.append(f'| {" | ".join(cells)} |')
    lines.append('')
  return lines
