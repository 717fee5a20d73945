import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from hyperjax.pictures import stroke_page, strokes

# A tick, a dot and a bar: three strokes of 3, 1 and 2 points.
LINE = np.array(
  [[0, 0, 0], [1, -1, 0], [3, 2, 1], [5, 2, 1], [6, 0, 0], [10, 0, 0.0]]
)
WRITERS = {'svg': strokes.write_svg, 'png': strokes.write_png}


def elements(root, group, tag):
  """All elements of a tag in the groups of a class."""
  name = '{http://www.w3.org/2000/svg}'
  return [
    element
    for part in root.iter(f'{name}g')
    if part.get('class') == group
    for element in part.iter(f'{name}{tag}')
  ]


def drawn(path, lines, **options):
  strokes.write_svg(path, lines, **options)
  return ElementTree.parse(path).getroot()


def way(element):
  """The points [n, 2] of a path with one stroke."""
  parts = re.split('[ML]', element.get('d'))[1:]
  return np.array([part.split() for part in parts], float)


def scribble(n, seed=0):
  rng = np.random.default_rng(seed)
  line = np.zeros((n, 3))
  line[:, :2] = rng.normal(size=(n, 2)).cumsum(axis=0)
  line[:, 0] += 0.4 * np.arange(n)
  line[:, 2] = rng.random(n) < 0.1
  return line


def test_each_stroke_is_a_path_with_y_downwards(tmp_path):
  root = drawn(tmp_path / 'x.svg', [LINE])

  tick, bar = map(way, elements(root, 'ink', 'path'))
  (dot,) = elements(root, 'ink', 'circle')
  dot = np.array([float(dot.get('cx')), float(dot.get('cy'))])
  assert len(tick) == 3 and len(bar) == 2
  scale = (bar[1] - bar[0])[0] / 4
  points = np.concatenate([tick, [dot], bar])
  corner = stroke_page.MARGIN
  np.testing.assert_allclose(
    points, (LINE[:, :2] - [0, 2]) * [scale, -scale] + corner, atol=0.01
  )


def test_all_is_within_the_picture(tmp_path):
  root = drawn(tmp_path / 'x.svg', [scribble(300), LINE - 400])

  *_, width, height = map(float, root.get('viewBox').split())
  assert (width, height) == (
    float(root.get('width')),
    float(root.get('height')),
  )
  for path in elements(root, 'ink', 'path'):
    assert (way(path) > 0).all()
    assert (way(path) < [width, height]).all()


def test_lines_lie_below_each_other_at_one_scale(tmp_path):
  root = drawn(tmp_path / 'x.svg', [LINE, 2 * LINE])

  tick, _, large, _ = map(way, elements(root, 'ink', 'path'))
  assert large[:, 1].min() > tick[:, 1].max() + 10
  np.testing.assert_allclose(
    np.ptp(large, axis=0), 2 * np.ptp(tick, axis=0), atol=0.03
  )


def test_letters_have_one_size_however_steep_the_line(tmp_path):
  level, steep = scribble(600), scribble(600)
  steep[:, 1] += 0.2 * np.arange(600)

  sizes = [
    float(drawn(tmp_path / 'x.svg', [line]).get('width'))
    for line in (level, steep)
  ]

  assert np.ptp(steep[:, 1]) > 2 * np.ptp(level[:, 1])
  assert sizes[1] > 0.5 * sizes[0]


def test_captions_keep_what_xml_holds(tmp_path):
  captions = ['a <b> & "c"', '', 'é 日本 😀', 'nul \0 half \ud800']

  root = drawn(tmp_path / 'x.svg', [LINE] * 4, captions=captions)

  texts = [text.text for text in elements(root, 'words', 'text')]
  assert texts == [*captions[:1], captions[2], 'nul \ufffd half \ufffd']


@pytest.mark.parametrize('letters', ['long words ', 'W', '日本'])
def test_a_long_caption_is_wrapped_and_shortened(tmp_path, letters):
  root = drawn(tmp_path / 'x.svg', [LINE] * 2, captions=[letters * 300] * 2)

  texts = elements(root, 'words', 'text')
  assert len(texts) == 6
  assert [text.text.endswith('…') for text in texts] == [0, 0, 1] * 2
  heights = [float(text.get('y')) for text in texts]
  first_ink = way(elements(root, 'ink', 'path')[0])
  second_ink = way(elements(root, 'ink', 'path')[2])
  assert heights == sorted(set(heights))
  assert heights[2] < first_ink[:, 1].min()
  assert first_ink[:, 1].max() < heights[3] - stroke_page.LETTERS
  assert heights[5] < second_ink[:, 1].min()


def test_the_strip_shows_changes_below_their_points(tmp_path):
  # Two words with nothing between them: one quiet, one lively in one gate.
  line = np.zeros((400, 3))
  line[:, 0] = np.r_[0:1:200j, 3:4:200j]
  line[:, 1] = np.sin(line[:, 0] * 40) / 4
  line[199, 2] = 1
  changes = np.zeros((400, 2))
  changes[200:, 1] = 5

  root = drawn(tmp_path / 'x.svg', [line], changes=[changes], gates=['i', 'f'])

  rects = elements(root, 'strip', 'rect')
  colors = stroke_page.dark_to_light()
  fills = [rect.get('fill') for rect in rects]
  dark, light, none = colors[0], colors[-1], stroke_page.NOTHING
  assert fills == [dark, none, dark, dark, none, light]
  x = [float(rect.get('x')) for rect in rects[3:]]
  widths = [float(rect.get('width')) for rect in rects[3:]]
  ink = np.array(
    re.findall(
      r'[ML]([\d.]+)',
      ''.join(path.get('d') for path in elements(root, 'ink', 'path')),
    ),
    float,
  )
  # 1.8 is the width of the pen, and a bin has 2 to 3 pixels.
  np.testing.assert_allclose(x[0], ink.min() - 0.9, atol=0.02)
  np.testing.assert_allclose(x[2] + widths[2], ink.max() + 0.9, atol=0.02)
  length = np.ptp(ink)
  np.testing.assert_allclose(x[1], ink.min() + length / 4, atol=3)
  np.testing.assert_allclose(x[2], ink.min() + length * 3 / 4, atol=3)
  labels = [text.text for text in elements(root, 'words', 'text')]
  assert labels[:2] == ['i', 'f']
  assert labels[2] == 'weight change: strip 0 to 5, ink 0 to 2.5'


def test_a_pen_that_comes_back_is_averaged():
  points = np.array([[0.5, 0], [1.5, 0], [0.5, 0], [4.5, 0]])
  parts = [points[:3], points[3:]]
  changes = np.array([[1.0], [7.0], [3.0], [9.0]])

  means = stroke_page.by_place(parts, changes, np.arange(6.0))

  np.testing.assert_array_equal(means[:, 0], [2, 7, np.nan, np.nan, 9])


def test_a_fast_stroke_leaves_no_hole():
  points = np.array([[0.5, 0], [4.5, 0]])
  changes = np.array([[0.0, 4.0], [8.0, 0.0]])

  means = stroke_page.by_place([points], changes, np.arange(6.0))

  np.testing.assert_allclose(means.T, [[0, 2, 4, 6, 8], [4, 3, 2, 1, 0]])


def test_ink_is_dark_where_changes_are_small(tmp_path):
  changes = np.array([0, 0, 0, 1, 2, 2.0])[:, None]

  root = drawn(tmp_path / 'x.svg', [LINE], changes=[changes])

  colors = stroke_page.dark_to_light()
  ways = {p.get('stroke'): p for p in elements(root, 'ink', 'path')}
  assert len(way(ways[colors[0]])) == 3
  assert len(way(ways[colors[-1]])) == 2
  (dot,) = elements(root, 'ink', 'circle')
  assert dot.get('stroke') in colors[10:20]
  lightness = [
    np.dot([int(color[i : i + 2], 16) for i in (1, 3, 5)], [0.2, 0.7, 0.1])
    for color in colors
  ]
  assert lightness == sorted(lightness)


def test_a_piece_of_another_colour_begins_where_the_last_one_ended():
  page = stroke_page.Page(0, 0, [], [], [], [])
  stroke = np.arange(8.0).reshape(4, 2)

  stroke_page.put_colored_strokes(page, [stroke], ['a', 'a', 'b', 'b'])

  pieces = [(ink.points[:, 0].tolist(), ink.color) for ink in page.ink]
  assert pieces == [([0, 2], 'a'), ([2, 4, 6], 'b')]


@pytest.mark.parametrize('changes', [None, np.full((6, 4), 0.5)])
def test_png_has_ink_where_the_svg_has_strokes(tmp_path, changes):
  changes = None if changes is None else [changes]
  root = drawn(tmp_path / 'x.svg', [LINE], captions=['é'], changes=changes)
  strokes.write_png(tmp_path / 'x.png', [LINE], captions=['é'], changes=changes)

  with Image.open(tmp_path / 'x.png') as picture:
    picture.load()
  dots = 150 / 96
  size = [float(root.get(side)) * dots for side in ('width', 'height')]
  np.testing.assert_allclose(picture.size, size, atol=1)
  np.testing.assert_allclose(picture.info['dpi'], 150, atol=0.1)
  dark = np.asarray(picture.convert('L')) < 120
  text = ''.join(path.get('d') for path in elements(root, 'ink', 'path'))
  ink = np.array(re.findall(r'[ML]([\d.]+) ([\d.]+)', text), float)
  assert len(ink) == 5
  for x, y in np.rint(ink * dots).astype(int):
    assert dark[y - 2 : y + 3, x - 2 : x + 3].any()
  assert 0.002 < dark.mean() < 0.2
  # Nothing between the dot and the bar below it, left of both.
  x, y = (ink[3] * dots).astype(int)
  assert not dark[y - 20 : y - 5, x - 20 : x - 5].any()


def test_letters_that_the_font_lacks_do_not_warn(tmp_path):
  captions = ['日本 \0 \ud800 $\\frac$ 😀']
  strokes.write_png(tmp_path / 'x.png', [LINE], captions=captions)
  assert strokes.drawable('a日\0$') == 'a\ufffd\ufffd$'


def times(element):
  found = re.findall(r'(delay|duration):([\d.e-]+)s', element.get('style'))
  return {name: float(value) for name, value in found}


def test_an_animation_takes_as_long_as_the_pen_did(tmp_path):
  lines = [LINE, scribble(300)]
  path = tmp_path / 'x.svg'
  strokes.write_animated_svg(path, lines, captions=['a', 'b'], speed=50)

  root = ElementTree.parse(path).getroot()
  (ink,) = [g for g in root if g.get('class') == 'ink']
  begins = [times(stroke)['delay'] for stroke in ink]
  lengths = [times(stroke)['duration'] for stroke in ink]
  assert begins[:4] == [0.0, 0.06, 0.08, 0.12]
  assert lengths[:3] == [0.06, 0.02, 0.04]
  np.testing.assert_allclose(np.cumsum(lengths)[:-1], begins[1:], atol=1e-6)
  assert begins[-1] + lengths[-1] == pytest.approx(306 / 50)
  assert all(stroke.get('pathLength') == '1' for stroke in ink)


def test_an_animation_ends_as_the_still_picture(tmp_path):
  strokes.write_animated_svg(tmp_path / 'a.svg', [LINE], captions=['a'])
  strokes.write_svg(tmp_path / 'b.svg', [LINE], captions=['a'])

  moving, still = [(tmp_path / f'{x}.svg').read_text() for x in 'ab']
  # Dashes are in the key frames alone, which end.
  moving = re.sub('<style>.*</style>\n', '', moving)
  assert re.sub(r' pathLength="1" style="[^"]*"', '', moving) == still


@pytest.mark.parametrize('speed', [0, -1, float('nan'), float('inf')])
def test_a_pen_must_move(tmp_path, speed):
  with pytest.raises(ValueError, match='must be above 0'):
    strokes.write_animated_svg(tmp_path / 'x.svg', [LINE], speed=speed)


@pytest.mark.parametrize('ending', ['svg', 'png'])
@pytest.mark.parametrize('n', [0, 1, 7])
@pytest.mark.parametrize('gates', [None, ['f']])
def test_points_without_extent_are_a_dot_or_nothing(tmp_path, ending, n, gates):
  path = tmp_path / f'x.{ending}'
  line = np.full((n, 3), 3.0)
  line[:, 2] = 0
  changes = gates and [np.zeros((n, 1))]

  WRITERS[ending](path, [line], changes=changes, gates=gates, captions=['a'])

  if ending == 'svg':
    root = ElementTree.parse(path).getroot()
    assert len(elements(root, 'ink', 'circle')) == (n > 0)
    assert not elements(root, 'ink', 'path')
    assert len(elements(root, 'strip', 'rect')) == (n > 0 and bool(gates))
  else:
    with Image.open(path) as picture:
      dark = np.asarray(picture.convert('L')) < 60
    assert dark[:100].any() == (n > 0)  # the legend is below


@pytest.mark.parametrize('axis', [0, 1])
def test_a_straight_line_is_drawn(tmp_path, axis):
  line = np.zeros((5, 3))
  line[:, axis] = np.arange(5) * 1e-3
  root = drawn(tmp_path / 'x.svg', [line], changes=[np.ones((5, 4))])
  (path,) = elements(root, 'ink', 'path')
  assert np.ptp(way(path), axis=0)[axis] > 40
  assert len(elements(root, 'strip', 'rect')) == 4


def test_a_very_long_line_is_drawn(tmp_path):
  line, changes = scribble(5_000), np.random.default_rng(1).random((5_000, 4))
  path = tmp_path / 'x.svg'
  root = drawn(path, [line], changes=[changes], gates='igfo')
  assert float(root.get('width')) < 1.1 * stroke_page.LONGEST
  assert len(elements(root, 'strip', 'rect')) <= 4 * stroke_page.BINS
  assert path.stat().st_size < 400_000
  strokes.write_png(tmp_path / 'x.png', [line])


def test_too_many_lines_for_a_png_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='2000 lines are too many'):
    strokes.write_png(tmp_path / 'x.png', [LINE] * 2000)


def holed(value):
  line = LINE.copy()
  line[2, 1] = value
  return line


@pytest.mark.parametrize('write', [strokes.write_svg, strokes.write_png])
@pytest.mark.parametrize(
  ('lines', 'options', 'message'),
  [
    ([], {}, 'no lines'),
    ([LINE, holed(np.nan)], {}, 'line 2 has a number that is not finite'),
    ([LINE, holed(np.inf)], {}, 'line 2 has a number that is not finite'),
    ([LINE[:, :2]], {}, r'line 1 has the shape \(6, 2\)'),
    ([LINE[0]], {}, r'line 1 has the shape \(3,\)'),
    ([LINE], {'captions': ['a', 'b']}, '2 captions for 1 lines'),
    ([LINE], {'gates': ['i']}, 'gates without changes'),
    ([LINE], {'changes': []}, 'changes of 0 lines for 1 lines'),
    ([LINE], {'changes': [np.ones((5, 4))]}, r'line 1 .* \(5, 4\), not \(6, 4'),
    ([LINE], {'changes': [np.ones(6)]}, r'line 1 have the shape \(6,\)'),
    ([LINE], {'changes': [1.0]}, 'line 1 have the shape'),
    ([LINE], {'changes': [np.ones((6, 0))]}, 'line 1 have the shape'),
    (
      [LINE, LINE],
      {'changes': [np.ones((6, 4)), np.ones((6, 1))]},
      r'line 2 have the shape \(6, 1\), not \(6, 4\)',
    ),
    (
      [LINE],
      {'changes': [np.ones((6, 4))], 'gates': ['i', 'f']},
      r'\(6, 4\), not \(6, 2\)',
    ),
    ([LINE], {'changes': [-np.ones((6, 4))]}, 'line 1 are negative'),
    ([LINE], {'changes': [np.full((6, 1), np.nan)]}, 'line 1 are negative'),
  ],
)
def test_what_does_not_fit_is_an_error_of_one_line(
  tmp_path, write, lines, options, message
):
  with pytest.raises(ValueError, match=message) as error:
    write(tmp_path / 'x', lines, **options)
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'x').exists()
