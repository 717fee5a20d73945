"""The pages: `bash scripts/docs.sh` builds them into build/docs."""

import importlib
import inspect
import pathlib
import pkgutil
import re
import sys

from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import stringify_signature

REPOSITORY = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))

import hyperjax  # noqa: E402

project = 'hyperjax'
version = release = hyperjax.__version__
project_copyright = 'the hyperjax authors'
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['pictures']

html_theme = 'furo'
html_title = 'hyperjax'
html_static_path = ['static']
html_css_files = ['pages.css']
html_show_copyright = False

highlight_language = 'text'  # of commands and what they print
myst_heading_anchors = 3
nb_execution_mode = 'off'  # tests/test_notebook.py executes it
autodoc_default_options = {'members': True, 'member-order': 'bysource'}
autodoc_typehints_format = 'short'
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = 'code'  # docstrings have Markdown's single backticks

# Pages of the repository's root, and where they stand here.
ROOT_PAGES = {
  'README.md': 'index.md',
  'CONTRIBUTING.md': 'contributing.md',
  'CHANGELOG.md': 'changelog.md',
}
# Pages that gather others of experiments/.
GATHERED = {'tables': '*/table.md', 'speed': 'speed/*.md'}


class Package(SphinxDirective):
  """The modules of a package, each under its name."""

  required_arguments = 1

  def run(self):
    """Has autodoc describe them."""
    name = self.arguments[0]
    path = importlib.import_module(name).__path__
    lines = []
    for module in pkgutil.walk_packages(path, f'{name}.'):
      if not module.ispkg:
        title = module.name.removeprefix('hyperjax.')
        lines += [title, '-' * len(title), f'.. automodule:: {module.name}', '']
    return self.parse_text_to_nodes(
      '\n'.join(lines), allow_section_headings=True
    )


def page_links(text: str, folder: str) -> str:
  """A page of `folder` with the links that it has as a page in docs/.

  Args:
    text: Markdown, whose links are relative to the folder.
    folder: 'docs' or, of the repository's root, ''.
  """

  def link(match):
    path, hash_, anchor = match[1].partition('#')
    if not path or '://' in path:
      return match[0]
    target = (REPOSITORY / folder / path).resolve().relative_to(REPOSITORY)
    if target.name == 'table.md':
      return f'](tables.md#{target.parent.name})'
    if target.parent == pathlib.Path('experiments', 'speed'):
      return '](speed.md)'
    if f'{target}' in ROOT_PAGES:
      return f']({ROOT_PAGES[str(target)]}{hash_}{anchor})'
    if target.parts[0] == 'docs':
      target = target.relative_to('docs')
    else:
      target = pathlib.Path('..', target)
    return f']({target.as_posix()}{hash_}{anchor})'

  return re.sub(r'\]\(([^)\s]+)\)', link, text)


def gathered(pattern: str) -> str:
  """The pages under experiments/ that match, below one another."""
  parts = []
  for path in sorted((REPOSITORY / 'experiments').glob(pattern)):
    text = page_links(path.read_text(), f'experiments/{path.parent.name}')
    # A level lower each, and with its folder as the anchor.
    lower = re.sub(r'(?m)^#', '##', text)
    parts.append(f'({path.parent.name})=\n{lower}')
  return '\n'.join(parts)


def read_page(app, name, source):
  """Fills the pages that stand elsewhere, and has links point to pages."""
  del app
  if name.startswith('api/') or name == 'hyperjax':
    return
  text = page_links(source[0], 'docs')
  root = {page: path for path, page in ROOT_PAGES.items()}.get(f'{name}.md')
  if root:
    text = page_links((REPOSITORY / root).read_text(), '') + text
  if name in GATHERED:
    text += gathered(GATHERED[name])
  source[0] = text


def escape(line: str) -> str:
  """A line whose stars and bars are no markup; what is in backticks stays."""
  head = re.match(r'\s*(\*{1,2}\w+:)?', line)[0]  # `**options: ...` too
  words = re.split(r'(`[^`]*`)', line.removeprefix(head))
  words[::2] = [re.sub(r'([*|])', r'\\\1', word) for word in words[::2]]
  return head + ''.join(words)


def plain_docstring(app, what, name, thing, options, lines):
  """Marks indented blocks, which are formulas and code, as such."""
  del app, what, name, thing, options
  out, indent, around, before = [], 0, None, ''
  for line in lines:
    width = len(line) - len(line.lstrip())
    if line.strip():
      if around is not None and width <= around:
        around = None  # the block has ended
      elif around is None and not before.strip() and width > indent and out:
        around = indent
        out += [' ' * indent + '::', '']
      if around is None:
        indent = width
    out.append(escape(line) if around is None else line)
    before = line
  lines[:] = out


def signature(app, what, name, thing, options, text, returned):
  """The arguments of a class, which are those of its `__init__`.

  That of an `nnx.Module` itself is its metaclass's, and says nothing.
  """
  del app, name, options, text, returned
  ours = getattr(thing, '__module__', '').startswith('hyperjax.')
  if what != 'class' or not ours or '__init__' not in vars(thing):
    return None
  found = inspect.signature(thing.__init__)
  arguments = list(found.parameters.values())[1:]
  found = found.replace(parameters=arguments)
  return stringify_signature(found, unqualified_typehints=True), None


def skip(app, what, name, thing, skipped, options):
  """Leaves out the fields of named tuples, which their docstrings describe."""
  del app, what, name, options
  return skipped or type(thing).__name__ == '_tuplegetter'


def setup(app):
  """Adds what is above."""
  app.add_directive('package', Package)
  app.connect('source-read', read_page)
  app.connect('autodoc-process-docstring', plain_docstring, priority=400)
  app.connect('autodoc-process-signature', signature)
  app.connect('autodoc-skip-member', skip)
