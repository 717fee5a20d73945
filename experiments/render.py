"""Tables, figures and measurements as Markdown.

What stands under `experiments/`, one folder each: a table (`rows.py`), a figure
(`figure.py`), or measurements that another command writes as Markdown.
"""

import pathlib

from experiments import cells, figure, table
from hyperjax.errors import UserError, did_you_mean

WRITTEN = 'table.md', 'figure.md'


def names(root: pathlib.Path = table.FOLDER) -> list[str]:
  """All folders: the paper's tables, figures, our studies, measurements."""
  definitions = {name: table.load(name, root) for name in table.names(root)}
  papers = sorted(
    (name for name, one in definitions.items() if one.paper),
    key=lambda name: (
      not definitions[name].paper.startswith('Table'),
      definitions[name].paper,
    ),
  )
  studies = [name for name, one in definitions.items() if not one.paper]
  figures = sorted(
    figure.names(root), key=lambda name: (figure.load(name, root).paper, name)
  )
  found = [*papers, *figures, *studies]
  rest = {path.parent.name for path in root.glob('*/*.md')} - set(found)
  return [*found, *sorted(rest)]


def markdown(name: str, root: pathlib.Path = table.FOLDER) -> str:
  """What stands in a folder, in Markdown.

  Raises:
    UserError: there is no such folder.
  """
  if name in table.names(root):
    return _table(cells.view(name, root))
  if name in figure.names(root):
    return _figure(name, root)
  if pages := measurements(name, root):
    return '\n'.join(pages.values())
  known = names(root)
  raise UserError(f"--table: no table '{name}'{did_you_mean(name, known)}")


def measurements(
  name: str, root: pathlib.Path = table.FOLDER
) -> dict[str, str]:
  """The Markdown files of a folder which no definition here writes."""
  return {
    path.name: path.read_text(encoding='utf-8')
    for path in sorted((root / name).glob('*.md'))
    if path.name not in WRITTEN
  }


def write(name: str, root: pathlib.Path = table.FOLDER) -> str:
  """Writes the `table.md` or `figure.md` of a folder; returns the text."""
  text = markdown(name, root)
  if name in table.names(root):
    (root / name / 'table.md').write_text(text, encoding='utf-8')
  elif name in figure.names(root):
    (root / name / 'figure.md').write_text(text, encoding='utf-8')
  return text


def _table(view):
  head = [
    '',
    *('paper' if c.source == 'paper' else c.title for c in view.columns),
  ]
  lines = [head, ['---'] * len(head)]
  for line in view.lines:
    marks = [f'[{mark}]' for mark in line.marks]
    lines.append([' '.join([line.label, *marks]), *line.cells])
  parts = [
    f'# {view.definition.title}',
    '\n'.join(f'| {" | ".join(line)} |' for line in lines),
    *(f'[{mark}] {text}' for mark, text in enumerate(view.footnotes, 1)),
    view.definition.notes,
    '\n'.join(_origins(view)),
  ]
  return '\n\n'.join(part for part in parts if part) + '\n'


def _origins(view):
  """The commands that made the lines of ours."""
  for line in view.own:
    for command in cells.commands(line):
      yield f'- {line.label}: `{command}`'
  missing = [line.row.name for line in view.own if not line.records]
  if missing:
    rows = ','.join(missing)
    yield (
      f'- not run: `python -m experiments.run --table={view.name} --row={rows}`'
    )


def _figure(name, root):
  definition = figure.load(name, root)
  there = figure.drawn(definition, root / name)
  parts = [f'# {definition.title} ({definition.paper})']
  for file, caption in definition.pictures.items():
    parts.append(
      f'![{caption}]({file})' if there[file] else f'{caption}: not drawn.'
    )
  if any(there.values()) and definition.protocol != 'paper':
    parts.append(f"Not the paper's protocol: {definition.protocol}.")
  parts += [definition.notes, f'- `{definition.command}`']
  return '\n\n'.join(part for part in parts if part) + '\n'
