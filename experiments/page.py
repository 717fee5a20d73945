"""All tables, figures and measurements as one HTML page.

It needs nothing beside itself: styles, curves and pictures are in the file.
"""

import base64
import datetime
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from experiments import cells, curves, figure, render, table
from hyperjax import workdir as files
from hyperjax.errors import UserError

TYPES = {'.png': 'image/png', '.svg': 'image/svg+xml', '.jpg': 'image/jpeg'}
# These stand below each row, with all else about its runs.
BELOW = 'steps', 'hardware', 'data', 'revision'
GROUPS = {
  'table': "The paper's tables",
  'figure': "The paper's figures",
  'study': 'Studies of our own',
  'measured': 'Measurements',
}
STATUS = {
  'protocol': "the paper's protocol",
  'marked': "not the paper's protocol",
  'diverged': 'diverged',
  'not run': 'not run',
}


def html(
  names: Sequence[str] | None = None, root: pathlib.Path = table.FOLDER
) -> str:
  """The page.

  Args:
    names: of the folders to show; none means all.
    root: the folder of all tables.
  """
  pictures = _Pictures()
  sections = [
    _section(name, root, pictures) for name in names or render.names(root)
  ]
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.globals |= {
    'facts': cells.facts,
    'groups': GROUPS,
    'status_in_words': STATUS,
  }
  return environment.get_template('page.html').render(
    sections=sections,
    summary=_summary(sections),
    revision=files.git_revision() or 'unknown',
    date=datetime.date.today().isoformat(),
  )


def _section(name, root, pictures) -> dict[str, Any]:
  """What the template shows of a folder."""
  section = {'name': name, 'kind': 'measured', 'paper': '', 'notes': ''}
  if name in table.names(root):
    view = cells.view(name, root)
    drawing = curves.svg(view)
    return section | {
      'kind': 'table' if view.definition.paper else 'study',
      'paper': view.definition.paper,
      'title': view.definition.title,
      'view': view,
      'shown': [
        place
        for place, column in enumerate(view.columns)
        if column.title not in BELOW
      ],
      'curves': Markup(drawing) if drawing else '',
      'notes': _prose(view.definition.notes, root / name, pictures),
    }
  if name in figure.names(root):
    definition = figure.load(name, root)
    there = figure.drawn(definition, root / name)
    return section | {
      'kind': 'figure',
      'paper': definition.paper,
      'title': definition.title,
      'command': definition.command,
      'protocol': definition.protocol,
      'drawn': all(there.values()),
      'pictures': [
        pictures.show(root / name / file, caption)
        for file, caption in definition.pictures.items()
      ],
      'notes': _prose(definition.notes, root / name, pictures),
    }
  texts = render.measurements(name, root).values()
  return section | {
    'title': name.capitalize(),
    'notes': _prose('\n\n'.join(texts), root / name, pictures),
  }


def _summary(sections) -> dict[str, Any]:
  """Which rows of the paper were run, and how; how much else there is."""
  lines = {status: [] for status in STATUS}
  for section in sections:
    if section['kind'] == 'table':
      # Of a row's lines, the first is the nearest to the paper.
      best = {line.row.name: line for line in reversed(section['view'].own)}
      for line in reversed(best.values()):
        lines[line.status].append((section, line))
  figures = [one for one in sections if one['kind'] == 'figure']
  studies = [one['view'] for one in sections if one['kind'] == 'study']
  return {
    'lines': lines,
    'rows': sum(len(found) for found in lines.values()),
    'figures': len(figures),
    'figures_drawn': sum(one['drawn'] for one in figures),
    'figures_by_protocol': sum(
      one['drawn'] and one['protocol'] == 'paper' for one in figures
    ),
    'studies': len(studies),
    'study_rows': sum(len(view.definition.rows) for view in studies),
    'study_rows_run': sum(len(view.run) for view in studies),
  }


class _Pictures:
  """Pictures of the page; each file stands in it once."""

  def __init__(self):
    self._places: dict[pathlib.Path, str] = {}

  def show(self, path: pathlib.Path, caption: str) -> Markup:
    """A picture, a link to it where it was shown before, or 'not drawn'."""
    path = path.resolve()
    if not path.exists():
      return Markup('<p class="absent">{}: not drawn</p>').format(caption)
    if path in self._places:
      return Markup('<p><a href="#{}">{}</a></p>').format(
        self._places[path], caption
      )
    self._places[path] = f'picture-{len(self._places) + 1}'
    content = base64.b64encode(path.read_bytes()).decode()
    return Markup(
      '<figure id="{}"><img src="data:{};base64,{}" alt="{}">'
      '<figcaption>{}</figcaption></figure>'
    ).format(self._places[path], TYPES[path.suffix], content, caption, caption)


def _prose(text: str, folder: pathlib.Path, pictures: _Pictures) -> Markup:
  """Markdown as HTML: its pictures inside, its tables with their headings."""
  parser = MarkdownIt('commonmark', {'html': False}).enable('table')

  def image(renderer, tokens, place, options, env):
    del renderer, options, env
    token = tokens[place]
    return pictures.show(folder / token.attrs['src'], token.content)

  parser.add_render_rule('image', image)
  tokens = parser.parse(text)
  shown, heading, skip = [], '', 0
  for place, token in enumerate(tokens):
    if token.type in ('paragraph_open', 'paragraph_close'):
      inside = tokens[place + (1 if token.nesting == 1 else -1)].children
      if [child.type for child in inside] == ['image']:
        continue  # a figure can not stand in a paragraph
    if token.type == 'heading_open':
      heading = escape(tokens[place + 1].content)
      titled = tokens[place + 3 : place + 4]
      if titled and titled[0].type == 'table_open':
        skip = 3  # it becomes the caption
    if skip:
      skip -= 1
      continue
    if token.type in ('heading_open', 'heading_close'):
      token.tag = f'h{min(int(token.tag[1]) + 2, 6)}'
    if token.type == 'link_open' and '://' not in token.attrs['href']:
      token.attrs = {}  # the file that it names is not in the page
    shown.append(parser.renderer.render([token], parser.options, {}))
    if token.type == 'table_open':
      shown[-1] = f'<div class="wide"><table><caption>{heading}</caption>'
    if token.type == 'table_close':
      shown[-1] += '</div>'
  return Markup(''.join(shown))


def write(
  path: pathlib.Path,
  names: Sequence[str] | None = None,
  root: pathlib.Path = table.FOLDER,
) -> None:
  """Writes the page into a file.

  Raises:
    UserError: the file can not be written.
  """
  text = html(names, root)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
  except OSError as error:
    raise UserError(f'--html={path}: {error.strerror}') from error
