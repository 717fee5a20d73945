"""The card of an exported model: what a stranger has to know of it."""

from collections.abc import Mapping
from typing import Any


def write(
  config: Mapping[str, Any],
  record: Mapping[str, Any],
  *,
  name: str,
  foreign: bool,
  samples: bool,
) -> str:
  """The card as Markdown.

  Args:
    config: of the run.
    record: `result.json` of the folder, see `model_folder`.
    name: of the folder.
    foreign: whether the config names modules that are not of hyperjax.
    samples: whether the task can sample.
  """
  return '\n\n'.join(
    [
      f'# {name}',
      _what(config, record),
      '## Use',
      _use(name, foreign=foreign, samples=samples),
      '## Training',
      _training(config, record),
      '## Results',
      _results(record),
      '## Limits',
      _limits(record),
      '## Licence',
      f'The parameters were learned from the data named above '
      f'({record["data"]}), whose terms hold for them too: see to these before '
      f'passing the folder on. The code of hyperjax is under Apache 2.0.\n',
    ]
  )


def _what(config, record):
  model = config['model']
  sizes = ', '.join(
    f'{field} {model[field]}'
    for field in ('cell', 'hidden_size', 'num_layers', 'depth')
    if model.get(field)
  )
  return '\n'.join(
    [
      'A model trained with hyperjax, hypernetworks in JAX.',
      '',
      f'- Task: {config["task"]["name"]}',
      f'- Model: {model["name"] or "of the task"}{sizes and f" ({sizes})"}',
      f'- Parameters: {record["parameters"]:,}',
      f'- Data: {record["data"]}',
    ]
  )


def _use(name, *, foreign, samples):
  folder = f'{name!r}, allow_imports=True' if foreign else repr(name)
  lines = [
    '```python',
    'from hyperjax import model_folder',
    '',
    f'model, meta = model_folder.load({folder})',
  ]
  if samples:
    lines.append(f'drawn = model_folder.sample({folder})')
  lines += [
    '```',
    '',
    '`model` is a Flax module, `meta` says what its symbols, classes or units '
    'are. Data and run are not needed.',
  ]
  if samples:
    lines.append('`drawn` is a text, or has a method `draw(folder, name)`.')
  if foreign:
    lines.append(
      'The config names modules that are not part of hyperjax: they must be '
      'importable, and importing them runs them.'
    )
  return '\n'.join(lines)


def _training(config, record):
  environment = record['environment']
  optimizer = config['optimizer']
  versions = environment.get('versions', {})
  rows = {
    'Command': f'`{environment["command"]}`',
    'Steps': f'{record["num_steps"]:,}, of which step {record["step"]:,} was '
    f'the best on validation data and is this one',
    'Seed': record['seed'],
    'Optimizer': f'{optimizer["name"]}, learning rate '
    f'{optimizer["learning_rate"]:g}, {optimizer["schedule"]} schedule',
    'Revision': environment.get('git') or 'unknown',
    'Versions': ', '.join(
      [f'python {environment.get("python")}']
      + [f'{package} {version}' for package, version in versions.items()]
    ),
    'Hardware': '; '.join(
      [*environment.get('devices', []), environment.get('machine', '')]
    ),
  }
  if 'seconds' in environment:
    rows['Time'] = f'{environment["seconds"]:,.0f} s'
  lines = [f'- {label}: {value}' for label, value in rows.items()]
  if not record['finished']:
    lines.insert(
      0,
      f'**This run is not finished**: it was exported before step '
      f'{record["num_steps"]:,}, at its best step so far.\n',
    )
  return '\n'.join([*lines, '', 'All settings are in `config.json`.'])


def _results(record):
  metrics = record['metrics']
  if not metrics:
    return 'This step has not been measured.'
  rows = [
    f'| {split.replace("_", " ")} | {metric.replace("_", " ")} | {value:.4f} |'
    for split, _, metric, value in (
      (*name.partition('/'), value) for name, value in metrics.items()
    )
  ]
  if record['result']:
    note = f'Evaluation: {record["result"]["evaluation"]}.'
  else:
    note = 'These are quick evaluations made during training, of this step.'
  table = ['| of | in | value |', '| --- | --- | ---: |', *rows]
  return '\n'.join([*table, '', note])


def _limits(record):
  lines = [
    '- It is one model of one seed; others of the same config differ.',
    '- It was measured on the data named above and on nothing else.',
    '- It repeats what is in its data, whatever that is.',
  ]
  seeds = (record['result'] or {}).get('seeds')
  if seeds and len(seeds) > 1:
    lines[0] = (
      f'- It is the model of seed {record["seed"]} of a run of seeds '
      f'{", ".join(map(str, seeds))}; `result.json` has the numbers of each.'
    )
  return '\n'.join(lines)
