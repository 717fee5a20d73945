"""Properties of the parsers, for whatever hypothesis thinks of."""

import json
import math
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from hyperjax import config as configs
from hyperjax.data import (
  mnist,
  parallel_text,
  pen_lines,
  records,
  stroke_files,
  whiteboard,
)
from hyperjax.data import text as texts
from hyperjax.errors import UserError
from hyperjax.training import writers

settings.register_profile(
  'suite', derandomize=True, deadline=None, max_examples=25, database=None
)
settings.load_profile('suite')

NAMES = st.text('abcdefgh_', min_size=1, max_size=8)
COORDINATES = st.floats(-1e6, 1e6, width=32)
STROKES = st.lists(
  st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=3),
  min_size=1,
  max_size=3,
)
JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=8) | NAMES, inner, max_size=4)
  ),
  max_leaves=12,
)


@pytest.fixture(scope='module')
def folder():
  # Of the module, since hypothesis has a function's fixtures but once.
  with tempfile.TemporaryDirectory() as name:
    yield pathlib.Path(name)


@given(st.data(), st.integers(1, 9))
def test_labelled_images_come_back_from_records(data, count):
  shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
  size = count * math.prod(shape)
  pixels = np.frombuffer(
    data.draw(st.binary(min_size=size, max_size=size)), 'u1'
  )
  labels = data.draw(
    st.lists(st.integers(0, 255), min_size=count, max_size=count)
  )
  images = pixels.reshape(count, *shape)
  found = records.unpack(records.pack(images, np.array(labels)), shape)
  np.testing.assert_array_equal(found[0], images)
  assert found[1].tolist() == labels


@given(content=st.binary(max_size=60), head=st.booleans())
def test_an_idx_file_has_the_size_of_its_header_or_is_refused(
  folder, content, head
):
  sizes, check = mnist.SIZES, mnist.check_exactly
  mnist.SIZES = {'train': 3}
  mnist.check_exactly = lambda *arguments: None  # a hash that fits
  try:
    header = mnist._header('train', (2, 4))
    content = (header if head else b'') + content
    (folder / 'idx').write_bytes(content)
    array = mnist._read_idx(folder, ('idx', ''), 'train', (2, 4))
    assert array.shape == (3, 2, 4)
    assert header + array.tobytes() == content
  except UserError as error:
    assert len(content) != len(header) + 24 or not content.startswith(header)
    assert 'idx' in str(error)
  finally:
    mnist.SIZES, mnist.check_exactly = sizes, check


@given(
  strokes=st.lists(STROKES, min_size=1, max_size=3),
  text=st.text(max_size=9),
  y_axis=st.sampled_from(stroke_files.Y_AXES),
)
def test_lines_of_strokes_come_back(folder, strokes, text, y_axis):
  lines = [
    pen_lines.from_strokes(f'{k}', text, [np.array(s) for s in each])
    for k, each in enumerate(strokes)
  ]
  stroke_files.write(folder / 'a.json', {'train': lines}, y_axis)
  found = stroke_files.read(folder / 'a.json')['train']
  for line, same in zip(lines, found, strict=True):
    assert (line.name, line.text) == (same.name, same.text)
    np.testing.assert_array_equal(line.points, same.points)


@given(document=JSON)
def test_any_json_is_strokes_or_is_refused_in_one_line(folder, document):
  (folder / 'a.json').write_text(json.dumps(document))
  with pytest.raises(UserError) as error:
    stroke_files.read(folder / 'a.json')
  assert str(error.value).startswith(f'{folder}/a.json')
  assert len(str(error.value).splitlines()) == 1


@given(st.binary(min_size=1, max_size=50))
def test_a_text_comes_back_from_its_symbols(text):
  alphabet = texts.alphabet_of(text)
  symbols = texts.encode(text, alphabet)
  assert bytes(alphabet[symbol] for symbol in symbols) == text
  assert b''.join(texts.split_in_order(text).values()) == text


@given(st.binary(max_size=80))
def test_any_bytes_are_a_recording_or_damage(content):
  for xml in (content, b'<WhiteboardCaptureSession>' + content):
    assert '\n' not in whiteboard.parse(xml).reason


@given(content=st.binary(max_size=60))
def test_any_bytes_are_pairs_or_are_refused(folder, content):
  (folder / 'a.tsv').write_bytes(content)
  try:
    pairs = list(parallel_text.tab_separated(folder / 'a.tsv'))
  except UserError as error:
    assert str(error).startswith(f'{folder}/a.tsv')
  else:
    content.decode()
    assert len(pairs) <= content.count(b'\n') + 1


VALUES = st.one_of(
  st.integers(), st.booleans(), st.text(max_size=5), st.floats(allow_nan=False)
)
TREES = st.recursive(
  st.dictionaries(NAMES, VALUES, min_size=1, max_size=3),
  lambda inner: st.dictionaries(NAMES, inner | VALUES, min_size=1, max_size=3),
  max_leaves=8,
)


@given(TREES)
def test_a_config_comes_back_from_its_fields(tree):
  # `items` and the like are methods of ConfigDict, but not of these letters.
  config = ConfigDict(tree)
  fields = dict(configs.flatten(config))
  other = ConfigDict(tree)
  for name in fields:
    assert '.' not in name.rpartition('.')[2]
  other.update_from_flattened_dict(fields)
  assert dict(configs.flatten(other)) == fields
  assert other.to_dict() == tree


@given(stored=JSON, section=st.sampled_from(['model', 'train', 'eval', 'seed']))
def test_a_stored_config_is_one_or_is_refused(stored, section):
  tree = configs.language_model_config().to_dict()
  tree[section] = stored
  try:
    configs.validate(configs.restore(tree, 'config.json'))
  except UserError as error:
    assert 'config.' in str(error)


@given(words=st.text(max_size=20))
def test_what_follows_the_colon_is_a_row_or_is_refused(words):
  try:
    row, options = configs.parse_argument(words, ['a', 'b'], ['smoke'])
  except UserError as error:
    assert str(error).startswith('--config: ')
  else:
    assert row in ('a', 'b')
    assert options <= {'smoke'}


METRICS = st.dictionaries(NAMES, st.floats(width=64), max_size=4)


@given(lines=st.lists(METRICS, max_size=5), cut=st.integers(0, 30))
def test_metrics_come_back_but_for_a_line_that_is_cut(folder, lines, cut):
  expected = [
    {'step': k} | {n: v if math.isfinite(v) else None for n, v in line.items()}
    for k, line in enumerate(lines)
  ]
  content = b''.join(json.dumps(e).encode() + b'\n' for e in expected)
  last = json.dumps({'step': 99, 'x': 1.5}).encode()
  (folder / 'metrics.jsonl').write_bytes(content + last[:cut])
  assert writers.read_metrics(folder) == expected
