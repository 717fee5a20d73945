"""The report on what is committed, recomputed and opened in a browser."""

import html.parser
import json
import math
import os
import re
import shutil

import pytest
from PIL import Image

from experiments import figure, page, render, table
from hyperjax.errors import UserError
from tests import browser
from tests.counts import TABLES
from tests.experiments.test_table import RECORD, ROWS

# What the paper prints of its own rows: its numbers, then its parameters.
PAPER = {
  'cifar10': [
    ('6.73', '0.563 M'),
    ('8.02', '0.097 M'),
    ('5.66', '2.236 M'),
    ('7.23', '0.148 M'),
  ],
  'ptb': [
    ('1.312', '1.347', '4.25 M'),
    ('1.306', '1.340', '6.57 M'),
    ('1.281', '1.312', '12.26 M'),
    ('1.267', '1.300', '4.26 M'),
    ('1.265', '1.296', '4.91 M'),
    ('1.250', '1.281', '4.92 M'),
    ('1.233', '1.263', '5.06 M'),
    ('1.219', '1.245', '14.41 M'),
  ],
  'enwik8': [
    ('1.470', '14.81 M'),
    ('1.461', '18.06 M'),
    ('1.402', '14.82 M'),
    ('1.391', '18.71 M'),
    ('1.353', '18.78 M'),
    ('1.340', '26.54 M'),
  ],
  'handwriting': [
    ('-1,026', '3.36 M'),
    ('-1,039', '3.26 M'),
    ('-1,055', '3.36 M'),
    ('-1,048', '4.14 M'),
    ('-1,068', '3.26 M'),
    ('-1,135', '5.16 M'),
    ('-1,096', '3.37 M'),
    ('-1,106', '4.14 M'),
    ('-1,067', '3.95 M'),
    ('-1,162', '3.94 M'),
  ],
  'translation': [('38.95', '1.027', '-'), ('40.03', '0.993', '-')],
  'mnist': [('0.72', '12,544'), ('0.76', '4,244')],
  'mnist_coordinates': [('1.5', '200,704'), ('6.5', '801')],
}
GNMT = {'gnmt_lstm': 280_859_904, 'gnmt_hyper_lstm': 312_238_848}
QUOTED = {
  'cifar10': '8.81 8.39 8.22 7.72 6.55 6.43 5.23 6.85 5.33 4.17 3.77 3.74',
  'ptb': '1.37 1.32 1.301 1.27 1.27',
  'enwik8': '1.67 1.60 1.58 1.47 1.45 1.44 1.42 1.40 1.40 1.37',
  'handwriting': '-1,026 -1,041 -1,058',
  'translation': '39.2 40.35',
  'mnist': '',
  'mnist_coordinates': '',
}


HYPHENS = str.maketrans('\N{MINUS SIGN}\N{EN DASH}', '--')


class Tables(html.parser.HTMLParser):
  """The tables of a page: caption, then rows of texts."""

  def __init__(self, text):
    super().__init__()
    self.tables, self._open, self.tags = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    attributes = dict(attributes)
    self.tags.append((tag, attributes))
    self._open.append((tag, attributes))
    if tag == 'table':
      self.tables.append(['', []])
    if tag == 'tr':
      self.tables[-1][1].append([])
    if tag in ('th', 'td'):
      self.tables[-1][1][-1].append('')
    if tag in ('meta', 'link', 'img'):
      self._open.pop()

  def handle_endtag(self, tag):
    while self._open and self._open.pop()[0] != tag:
      pass

  def handle_data(self, text):
    names = [tag for tag, _ in self._open]
    classes = [attributes.get('class') for _, attributes in self._open]
    if 'sup' in names or 'pill' in classes or 'tag' in classes:
      return
    if 'caption' in names:
      self.tables[-1][0] += text.strip()
    elif 'td' in names or 'th' in names:
      self.tables[-1][1][-1][-1] += text


@pytest.fixture(scope='module')
def committed():
  """Every folder's Markdown."""
  return {name: render.markdown(name) for name in render.names()}


@pytest.fixture(scope='module')
def committed_page(tmp_path_factory):
  path = tmp_path_factory.mktemp('page') / 'report.html'
  page.write(path)
  return path


def lines_of(text):
  """Heading, and the rows of a table in Markdown, without footnote marks."""
  rows = [
    [cell.strip() for cell in line[1:-1].split('|')]
    for line in text.splitlines()
    if line.startswith('| ')
  ]
  for row in rows:
    row[0] = re.sub(r'( \[\d+\])*$', '', row[0])
  return rows[0], rows[2:]


def papers(heading, row):
  """What the paper prints of a row: numbers, then parameters."""
  told = [c for name, c in zip(heading, row, strict=True) if name == 'paper']
  return (*told[1:], told[0]) if heading[2] == 'paper' else (*told, '-')


@pytest.mark.parametrize('name', PAPER)
def test_every_row_of_the_papers_tables_is_there(committed, name):
  heading, rows = lines_of(committed[name])
  count = len(QUOTED[name].split())
  own, quoted = rows[: len(rows) - count], rows[len(rows) - count :]
  of_paper = [tuple(x.split(' (')[0] for x in papers(heading, r)) for r in own]
  assert list(dict.fromkeys(of_paper)) == list(dict.fromkeys(PAPER[name]))
  assert len({row[0] for row in own}) == len(PAPER[name])
  assert [papers(heading, row)[0] for row in quoted] == QUOTED[name].split()


def close(text, value):
  """Whether a printed number is a value, to the digits that are printed."""
  text = text.replace(',', '')
  decimals = len(text.partition('.')[2])
  return abs(float(text) - value) <= 0.5 * 10**-decimals + 1e-9


def count_of(name, row):
  """The parameters of a row; those of the paper's by an independent list."""
  counts = TABLES.get(name.removesuffix('_coordinates'), GNMT)
  return counts.get(row.name) or table.parameters(row)


def holds(name, row, heading, definition, records, of_row):
  """Asserts that each cell of a line of ours is what its records say."""
  left = list(zip(heading[1:], row[1:], strict=True))

  def take(name):
    title, cell = left.pop(0)
    assert title == name
    return cell

  def take_papers(told):
    if left[0][0] == 'paper':
      assert take('paper') == (told or '-')

  count = records[0]['parameters'] if records else count_of(name, of_row)
  assert take('parameters') == f'{count:,}'
  take_papers(of_row.paper_parameters)
  whole = [record for record in records if record['diverged_at'] is None]
  for metric, title in definition.metrics.items():
    cell = take(title)
    values = [record['metrics'][metric] for record in whole]
    if not values:
      assert cell == ('diverged' if records else 'not run')
    else:
      mean = sum(values) / len(values)
      squares = sum((value - mean) ** 2 for value in values)
      printed = cell.split(' ± ')
      assert close(printed[0], mean), (cell, mean)
      assert len(printed) == 1 + (len(values) > 1)
      if len(values) > 1:
        assert close(printed[1], math.sqrt(squares / (len(values) - 1)))
    take_papers(of_row.paper.get(metric))
  if not records:
    assert [cell for _, cell in left] == ['-'] * 6
    return
  wanted = max(of_row.num_seeds, len(records))
  seeds = f'{len(whole)}' + (f' of {wanted}' if len(whole) < wanted else '')
  assert take('seeds') == seeds
  assert take('steps') == f'{records[0]["steps"]:,}'
  spent = sum(r['seconds'] / r['num_seeds'] for r in records) / 3600
  assert float(take('hours').replace(',', '')) == pytest.approx(spent, rel=0.06)
  assert take('hardware') == '; '.join(sorted({r['hardware'] for r in records}))
  canonical = records[0]['data'] == 'canonical'
  assert take('data') == (definition.data if canonical else records[0]['data'])
  assert take('revision') == ', '.join(sorted({r['git'] for r in records}))
  assert not left


def test_every_number_is_one_of_a_record_or_of_the_paper(committed):
  filled = 0
  for name in table.names():
    definition = table.load(name)
    heading, rows = lines_of(committed[name])
    groups = {}
    for path in sorted((table.FOLDER / name / 'results').glob('*.json')):
      record = json.loads(path.read_text())
      names = 'protocol', 'data', 'steps', 'parameters'
      key = record['row'], *(record[field] for field in names)
      groups.setdefault(key, []).append(record)
    for of_row in definition.rows:
      mine = [group for key, group in groups.items() if key[0] == of_row.name]
      lines = [row for row in rows if row[0] == of_row.label]
      assert len(lines) == max(1, len(mine))
      for row in lines:
        (records,) = [
          group
          for group in mine or [[]]
          if not group or f'{group[0]["steps"]:,}' in row
        ]
        holds(name, row, heading, definition, records, of_row)
        filled += bool(records)
    for row in definition.references:
      (line,) = [line for line in rows if line[0] == row.label]
      assert {c for c in line[1:] if c != '-'} == {
        *row.paper.values(),
        *filter(None, [row.paper_parameters]),
      }
  assert filled >= 16


def test_runs_that_are_not_the_papers_are_marked(committed, committed_page):
  text = committed_page.read_text()
  for name in table.names():
    for record in table.records(name):
      if (record['protocol'], record['data']) == ('paper', 'canonical'):
        continue
      label = re.escape(table.load(name).row(record['row']).label)
      assert re.search(rf'^\| {label} \[\d+\]', committed[name], re.M)
      line = rf'<tbody class="own marked">\s*<tr><th scope="row">{label}<sup>'
      assert re.search(line, text)


def test_the_page_has_the_cells_of_the_markdown(committed, committed_page):
  tables = dict(Tables(committed_page.read_text()).tables)
  for name in table.names():
    definition = table.load(name)
    (heading, rows), shown = lines_of(committed[name]), tables[definition.title]
    left_out = {'steps', 'hardware', 'data', 'revision'}
    places = [k for k, title in enumerate(heading) if title not in left_out]
    assert shown[0][1:] == [heading[k] for k in places[1:]]
    found = [
      [cell.strip().translate(HYPHENS) for cell in row]
      for row in shown[1:]
      if len(row) == len(places)
    ]
    assert found == [[row[k] for k in places] for row in rows]
    about = ' '.join(row[0] for row in shown[1:] if len(row) == 1)
    for record in table.records(name):
      for origin in (
        f'seed {record["seed"]}: ',
        record['command'],
        record['git'],
        record['hardware'],
        record['protocol'],
        *record['versions'].values(),
      ):
        assert origin in about


def test_the_page_stands_alone(committed_page):
  text = committed_page.read_text()
  for tag, attributes in Tables(text).tags:
    assert tag != 'script'
    for name, value in attributes.items():
      if name in ('src', 'href', 'xlink:href', 'srcset'):
        assert value.startswith(('#', 'data:')), value
  assert 'url(http' not in text and '@import' not in text


@pytest.fixture
def toy(tmp_path):
  (tmp_path / 'toy').mkdir()
  (tmp_path / 'toy' / 'rows.py').write_text(ROWS.replace("'LSTM'", "'<b>L'"))
  return tmp_path


def test_what_records_say_is_no_html(toy):
  evil = '<script>alert("x")</script>'
  record = RECORD | {'hardware': evil, 'data': evil, 'command': evil}
  table.write_record(record, toy)
  text = page.html(['toy'], toy)
  assert '<script' not in text and '<b>' not in text
  assert text.count('&lt;script&gt;') >= 3


def test_curves_are_drawn_where_records_have_them(toy):
  table.write_record(RECORD, toy)
  assert '<svg' not in page.html(['toy'], toy)
  curve = {'valid_quick/bits_per_char': [[10, 3.0], [20, 2.0]]}
  table.write_record(RECORD | {'seed': 1, 'curve': curve}, toy)
  text = page.html(['toy'], toy)
  assert text.count('<svg') == 1
  assert '&lt;b&gt;L' in text[text.index('<svg') :]


FIGURE = """
from experiments.figure import Figure
FIGURE = Figure(
  title='Dots', paper='Figure 9', command='python dots.py',
  pictures={'dots.png': 'Some dots', 'lines.png': 'Some lines'},
  protocol='a toy',
)
"""


def test_a_picture_that_is_not_there_is_not_drawn(tmp_path):
  folder = tmp_path / 'dots'
  folder.mkdir()
  (folder / 'figure.py').write_text(FIGURE)
  assert render.markdown('dots', tmp_path).count('not drawn') == 2
  assert page.html(['dots'], tmp_path).count(': not drawn') == 2
  Image.new('RGB', (2, 2)).save(folder / 'dots.png')
  text = render.write('dots', tmp_path)
  assert '![Some dots](dots.png)' in text
  assert 'Some lines: not drawn.' in text
  assert "Not the paper's protocol: a toy." in text
  assert (folder / 'figure.md').read_text() == text
  assert page.html(['dots'], tmp_path).count('<img src="data:image/png') == 1
  path = folder / 'figure.py'
  path.write_text(FIGURE.replace("'a toy'", "''"))
  with pytest.raises(UserError, match='protocol is empty and a picture is'):
    figure.load('dots', tmp_path)


def test_measurements_are_shown_as_they_were_written(committed):
  text = (table.FOLDER / 'speed' / 'cpu.md').read_text()
  assert text in committed['speed']


@pytest.fixture(scope='module')
def opened(committed_page, tmp_path_factory):
  """The page, opened in Chromium."""
  if not browser.find():
    if os.getuid() == 0 and shutil.which('apt-get'):
      pytest.fail('there is no Chromium: run bash scripts/chromium.sh')
    pytest.skip('there is no Chromium; see scripts/chromium.sh')
  with browser.launched(tmp_path_factory.mktemp('profile')) as opened:
    opened.resize(1280, 900)
    opened.open(committed_page)
    yield opened


def test_a_browser_shows_every_table_and_picture(opened, committed):
  captions = opened.evaluate(
    "[...document.querySelectorAll('table')].map("
    "t => t.caption?.querySelector('h2')?.innerText ?? t.caption?.innerText)"
  )
  wanted = [table.load(name).title for name in table.names()]
  wanted += re.findall(
    r'^#+ (.*)\n(?:\n[^#]*?)?\n\| ', committed['speed'], re.M
  )
  assert len(wanted) > 20
  assert sorted(captions) == sorted(wanted)
  pictures = opened.evaluate(
    '[...document.images].map(i => i.complete ? i.naturalWidth : 0)'
  )
  drawn = {
    (table.FOLDER / name / file).resolve()
    for name in figure.names()
    for file in figure.load(name).pictures
    if (table.FOLDER / name / file).exists()
  }
  assert len(pictures) >= len(drawn) > 0
  assert all(width > 0 for width in pictures)
  curves = opened.evaluate(
    "[...document.querySelectorAll('svg')].map("
    's => s.getBoundingClientRect().height)'
  )
  assert curves and all(height > 100 for height in curves)


def test_a_browser_asks_no_other_host(opened, committed_page):
  requests = [url for url in opened.requests() if url[:5] != 'data:']
  assert requests == [committed_page.as_uri()]


@pytest.mark.parametrize('width', [390, 1280])
def test_nothing_is_wider_than_the_window(opened, width):
  opened.resize(width, 800)
  assert opened.evaluate('document.documentElement.scrollWidth') <= width


def test_dark_windows_get_a_dark_page(opened):
  colors = []
  for value in ('light', 'dark'):
    opened.send(
      'Emulation.setEmulatedMedia',
      features=[{'name': 'prefers-color-scheme', 'value': value}],
    )
    colors.append(
      opened.evaluate('getComputedStyle(document.body).backgroundColor')
    )
  assert colors == ['rgb(255, 255, 255)', 'rgb(20, 23, 26)']
