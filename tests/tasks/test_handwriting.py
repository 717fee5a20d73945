import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from hyperjax.data import pen_lines, stroke_files, strokes
from hyperjax.data.pen_lines import Line
from hyperjax.errors import UserError
from hyperjax.models.handwriting import build
from hyperjax.ops import mdn
from hyperjax.tasks import handwriting
from hyperjax.tasks.handwriting import START, Handwriting, Written, generate
from hyperjax.types import Variables
from tests.nn import small
from tests.nn.test_unroll import assert_close

ALPHABET = 'abc '
MIXTURES = 3
META = {'mean': [0.5, -0.25], 'std': [2.0, 1.5], 'alphabet': ''}
META_OF_READER = META | {'alphabet': ALPHABET}
REQUEST = {
  'text': '',
  'num_lines': 3,
  'length': 6,
  'bias': 0.0,
  'style': '',
  'style_line': 0,
  'animated': False,
  'seed': 3,
}
STYLE = np.float32([[0.3, -0.2, 0], [1.0, 0.5, 1], [-0.4, 0.1, 0]])


@functools.lru_cache
def make(cell='lstm', reads=False, scale=0.4, **options):
  """A task, and variables that are not special."""
  sizes = {'hyper_size': 4, 'z_size': 2} if 'hyper' in cell else {}
  task = Handwriting(
    lambda *, num_symbols, key: build(
      num_symbols=num_symbols,
      cell=cell,
      hidden_size=6,
      num_mixtures=MIXTURES,
      num_windows=2 if reads else 0,
      key=key,
      **sizes,
      **options,
    ),
    ALPHABET if reads else '',
  )
  shapes = jax.eval_shape(task.init, jax.random.key(0))
  params = jax.tree.map(np.array, small.random_like(shapes.params, 1, scale))
  if reads:  # about a symbol in two steps
    params['stack']['cells'][0]['head']['bias'][-2:] = -0.7
  return task, Variables(params, shapes.state)


def symbols(*texts, width=6):
  table = np.zeros((len(texts), width), np.int32)
  for row, text in zip(table, texts, strict=True):
    row[: len(text)] = strokes.encode(text, ALPHABET)
  return table


def batch_of(lengths, reads=False, num_steps=5):
  rng = np.random.default_rng(0)
  moves = rng.normal(size=(len(lengths), num_steps + 1, 3)).astype(np.float32)
  moves[..., 2] = rng.random(size=moves.shape[:2]) < 0.4
  mask = np.arange(num_steps) < np.asarray(lengths)[:, None]
  batch = {
    'inputs': np.where(mask[..., None], moves[:, :-1], 0),
    'targets': np.where(mask[..., None], moves[:, 1:], 0),
    'mask': mask,
    'length': np.int32(max(lengths)),
  }
  if reads:
    batch['text'] = symbols('ab', 'c ba', 'b', '')[: len(lengths)]
  return batch


def feeder(model):
  """(moves, text, carry) -> the carry and outputs; without a carry, anew."""
  graph, params = nnx.split(model)

  @small.jit
  def feed(moves, text=None, carry=None):
    model = nnx.merge(graph, params)
    if carry is None:
      carry = model.initial_carry(len(moves), text)
    return model(carry, moves)

  return feed


# Nats.


def nats_by_hand(outputs, targets):
  """Graves 2013, Eq. 18-26, point by point in float64."""
  total = 0.0
  for y, (x1, x2, end) in zip(
    np.asarray(outputs, np.float64),
    np.asarray(targets, np.float64),
    strict=True,
  ):
    weights, mean1, mean2, s1, s2, rho = (
      y[k * MIXTURES : (k + 1) * MIXTURES] for k in range(6)
    )
    weights = np.exp(weights) / np.exp(weights).sum()
    s1, s2, rho = np.exp(s1), np.exp(s2), np.tanh(rho)
    z1, z2 = (x1 - mean1) / s1, (x2 - mean2) / s2
    z = z1**2 + z2**2 - 2 * rho * z1 * z2
    density = np.exp(-z / (2 * (1 - rho**2)))
    density /= 2 * np.pi * s1 * s2 * np.sqrt(1 - rho**2)
    pen = 1 / (1 + np.exp(-y[-1]))
    total -= np.log(weights @ density) + np.log(pen if end else 1 - pen)
  return total


@pytest.mark.parametrize(
  ('cell', 'reads'),
  [('lstm', False), ('hyper_lstm', True), small.slow('hyper_lstm', False)],
)
def test_nats_are_sums_over_single_lines(cell, reads):
  task, variables = make(cell, reads)
  lengths = 4, 5, 1
  batch = batch_of(lengths, reads)

  _, found = small.jit(task.metrics)(*variables, task.carry(3), batch)

  feed, total = feeder(task.merge(variables)), 0.0
  for row, length in enumerate(lengths):
    text = batch['text'][row : row + 1] if reads else None
    _, outputs = feed(batch['inputs'][row : row + 1], text)
    total += nats_by_hand(outputs[0, :length], batch['targets'][row, :length])
  assert found['nats_per_sequence'].read() == pytest.approx(total / 3, rel=1e-5)
  assert found['nats_per_point'].read() == pytest.approx(total / 10, rel=1e-5)
  loss, aux = small.jit(task.loss)(*variables, (), batch, jax.random.key(0))
  assert float(loss) == pytest.approx(total / 10, rel=1e-5)
  assert aux.carry == ()
  assert_close(aux.metrics, found)


def test_rows_without_a_line_do_not_count():
  task, variables = make('lstm', True)
  batch = batch_of((4, 5, 1, 0), reads=True)
  lines = {k: v[:3] if np.ndim(v) else v for k, v in batch.items()}

  _, found = small.jit(task.metrics)(*variables, (), batch)

  _, expected = small.jit(task.metrics)(*variables, (), lines)
  assert_close(found, expected)
  assert float(found['nats_per_sequence'].weight) == 3
  assert float(found['nats_per_point'].weight) == 10


def test_the_loss_has_dropout_and_the_metrics_have_none():
  task, variables = make('lstm', output_keep_prob=0.5)
  batch = batch_of((4, 5))

  loss = small.jit(task.loss)
  first, second = (
    float(loss(*variables, (), batch, jax.random.key(k))[0]) for k in range(2)
  )

  _, metrics = small.jit(task.metrics)(*variables, (), batch)
  quiet = float(metrics['nats_per_point'].read())
  assert len({first, second, quiet}) == 3
  _, again = small.jit(task.metrics)(*make('lstm')[1], (), batch)
  assert_close(again, metrics)


@pytest.mark.parametrize('reads', [True, small.slow(False)])
def test_two_lines_are_learnt_by_heart(reads):
  task, _ = make('lstm', reads)
  batch = jax.tree.map(jnp.asarray, batch_of((5, 4), reads))
  optimizer = optax.adam(3e-2)

  @small.jit
  def fit(key):
    params, state = task.init(key)

    def step(carry, _):
      params, opt_state = carry
      loss, grads = jax.value_and_grad(
        lambda p: task.loss(p, state, (), batch, jax.random.key(0))[0]
      )(params)
      updates, opt_state = optimizer.update(grads, opt_state)
      return (optax.apply_updates(params, updates), opt_state), loss

    return jax.lax.scan(step, (params, optimizer.init(params)), None, 60)[1]

  losses = fit(jax.random.key(0))

  assert np.isfinite(losses).all()
  assert losses[-1] < losses[0] - 2


# Writing.


@functools.lru_cache
def writer(task):
  """`generate` of a task's models, which compiles once for a shape."""

  @functools.partial(jax.jit, static_argnums=(1, 2))
  def run(variables, num_lines, length, seed, text, style, bias):
    return generate(
      task.merge(variables),
      *(num_lines, length, jax.random.key(seed)),
      **{'text': text, 'style': style, 'bias': bias},
    )

  return run


def write(task, variables, num_lines=3, length=6, seed=3, **options):
  given = {'text': None, 'style': None, 'bias': 0.0} | options
  return writer(task)(variables, num_lines, length, seed, **given)


@pytest.mark.parametrize('cell', ['lstm', 'hyper_lstm', 'hyper_rnn'])
def test_lines_have_their_shapes(cell):
  found = write(*make(cell))

  assert found.moves.shape == (3, 6, 3) and found.moves.dtype == jnp.float32
  assert set(np.unique(found.moves[..., 2])) <= {0.0, 1.0}
  np.testing.assert_array_equal(found.length, [6, 6, 6])
  if cell == 'lstm':
    assert found.changes is None
  else:
    assert found.changes.shape == (3, 6, 4 if cell == 'hyper_lstm' else 1)
    assert (found.changes > 0).all()


def test_a_seed_gives_the_same_lines_and_another_others():
  task, variables = make()

  first, again, other = (write(task, variables, seed=k) for k in (0, 0, 1))

  np.testing.assert_array_equal(first.moves, again.moves)
  assert not np.any(first.moves[..., :2] == other.moves[..., :2])
  # Lines side by side are different ones.
  assert len(np.unique(first.moves[:, 0, 0])) == 3


@pytest.mark.parametrize(
  ('reads', 'style'),
  [
    (False, None),
    (True, STYLE),
    small.slow(True, None),
    small.slow(False, STYLE),
  ],
)
def test_each_move_is_drawn_after_all_before(reads, style):
  task, variables = make('hyper_lstm', reads)
  model = task.merge(variables)
  text = symbols('abcabc')[0] if reads else None
  begun = np.float32([START, *([] if style is None else style)])
  key = jax.random.key(5)

  found = generate(model, 2, 2, key, text=text, style=style, bias=0.3)

  seen, feed = np.zeros((2, len(begun) + 2, 3), np.float32), feeder(model)
  seen[:, : len(begun)] = begun
  texts = np.stack([text, text]) if reads else None
  for k, step_key in enumerate(jax.random.split(key, 2)):
    _, outputs = feed(seen, texts)
    move = mdn.sample(step_key, outputs[:, len(begun) + k - 1], 0.3)
    np.testing.assert_allclose(found.moves[:, k], move, rtol=1e-4, atol=1e-5)
    seen[:, len(begun) + k] = move


def test_changes_are_those_of_the_steps():
  task, variables = make('hyper_lstm')
  model = task.merge(variables)

  found = write(task, variables, num_lines=1)

  moves = jnp.concatenate([jnp.asarray([[START]]), found.moves], axis=1)
  carry, feed = model.initial_carry(1), feeder(model)
  for k in range(6):
    after, _ = feed(moves[:, k : k + 1], carry=carry)
    np.testing.assert_allclose(
      found.changes[:, k], model.weight_changes(carry, after), rtol=1e-4
    )
    carry = after


def test_a_style_changes_the_first_move():
  task, variables = make()

  first, second, none = (
    write(task, variables, length=1, style=style)
    for style in (STYLE, -STYLE, None)
  )

  assert np.abs(first.moves - second.moves).max() > 1e-3
  assert np.abs(first.moves - none.moves).max() > 1e-3


def test_bias_makes_writing_neater():
  task, variables = make()

  spread = [
    write(task, variables, num_lines=200, length=1, bias=bias)
    .moves[:, 0, :2]
    .std(axis=0)
    for bias in (0.0, 1.0, 20.0)
  ]

  assert (spread[0] > 1.2 * spread[1]).all()
  assert (spread[1] > 1.2 * spread[2]).all()


def test_a_line_ends_when_its_text_is_written():
  task, variables = make('lstm', True, scale=0.8)
  model = task.merge(variables)
  text = symbols('abca')[0]

  found = write(task, variables, num_lines=4, length=12, text=text)

  moves = jnp.concatenate(
    [jnp.broadcast_to(jnp.asarray(START), (4, 1, 3)), found.moves], axis=1
  )
  written, feed = [], feeder(model)
  carry = model.initial_carry(4, jnp.broadcast_to(text, (4, len(text))))
  for k in range(12):
    carry, _ = feed(moves[:, k : k + 1], carry=carry)
    written.append(np.asarray(model.has_written(carry)))
  expected = [
    next((k + 1 for k in range(12) if written[k][row]), 12) for row in range(4)
  ]
  np.testing.assert_array_equal(found.length, expected)
  assert 1 < min(expected) < 12 and len(set(expected)) > 1
  # A text that is too long for the length is cut off.
  long = symbols('abcabc' * 5, width=30)[0]
  found = write(task, variables, num_lines=2, length=3, text=long)
  np.testing.assert_array_equal(found.length, [3, 3])


# Samples.


def stored(path):
  """All lines of a file of strokes."""
  return [line for lines in stroke_files.read(path).values() for line in lines]


@pytest.fixture
def style_file(tmp_path):
  points = np.cumsum(np.float32([[0, 0], [2, 1], [3, -2], [1, 1]]), axis=0)
  path = tmp_path / 'style.json'
  stroke_files.write(
    path,
    [
      pen_lines.from_strokes('first', 'cab', [points]),
      pen_lines.from_strokes('second', '', [points[:2], -points]),
    ],
  )
  return str(path)


@pytest.mark.parametrize(
  ('cell', 'gates'),
  [('hyper_lstm', 'igfo'), ('hyper_rnn', 'h'), ('lstm', '')],
)
def test_a_sample_is_drawn_and_read_back(cell, gates, tmp_path):
  task, variables = make(cell)

  writing = task.sample(variables, REQUEST, META)
  paths = writing.draw(tmp_path, 'pen')

  endings = ['svg', 'png', 'json'] + ['npz'] * bool(gates)
  assert paths == [tmp_path / f'pen.{ending}' for ending in endings]
  assert sorted(tmp_path.iterdir()) == sorted(paths)
  assert all(path.stat().st_size > 100 for path in paths)
  assert writing.name == 'writing-seed-3'
  lines = sorted(stored(paths[2]))
  assert [line.name for line in lines] == [
    f'writing-seed-3-{k}' for k in range(3)
  ]
  expected = write(task, variables)
  for line, points, moves in zip(
    lines, writing.lines, np.asarray(expected.moves), strict=True
  ):
    np.testing.assert_allclose(line.points, points, rtol=1e-5, atol=1e-5)
    assert len(points) == 7 and points[-1, 2] == 1
    found = strokes.normalize(Line('', '', points), META)
    np.testing.assert_allclose(found[:, :2], moves[:, :2], atol=1e-5)
    np.testing.assert_array_equal(points[1:-1, 2], moves[:-1, 2])
  # Changes of weights are drawn by gate.
  labels = re.findall(r'<text[^>]*>([^<]*)</text>', paths[0].read_text())
  assert [text for text in labels if len(text) == 1] == 3 * list(gates)
  if not gates:
    assert writing.changes is None
    return
  with np.load(paths[-1]) as arrays:
    assert [*arrays['gates']] == list(gates)
    for k, (found, of_line) in enumerate(
      zip(writing.changes, np.asarray(expected.changes), strict=True)
    ):
      assert_close(found[1:], of_line)
      np.testing.assert_array_equal(found[0], found[1])
      np.testing.assert_array_equal(arrays[f'changes_{k}'], found)


def test_an_animation_is_drawn_when_asked_for(tmp_path):
  task, variables = make()

  writing = task.sample(variables, REQUEST | {'animated': True}, META)
  *_, animated = paths = writing.draw(tmp_path, 'pen')

  assert animated == tmp_path / 'pen-animated.svg' and len(paths) == 4
  assert '@keyframes' in animated.read_text()
  assert '@keyframes' not in paths[0].read_text()


def test_a_given_text_is_written_and_said(tmp_path):
  task, variables = make('hyper_lstm', True, scale=0.8)
  request = REQUEST | {'text': 'ab ca', 'length': 15}

  writing = task.sample(variables, request, META_OF_READER)

  assert writing.name == 'ab-ca-seed-3'
  assert writing.captions == ['ab ca'] * 3
  # With a blank behind it, up to where the pen is lifted last.
  text = strokes.encode('ab ca ', ALPHABET)
  expected = write(task, variables, length=15, text=text)
  counts = [len(points) for points in writing.lines]
  assert min(counts) < 16
  for count, length, moves in zip(
    counts, np.asarray(expected.length), expected.moves, strict=True
  ):
    lifts = np.flatnonzero(moves[:length, 2])
    is_cut = length < 15 and len(lifts)
    assert count == 1 + (lifts[-1] + 1 if is_cut else length)
  assert [len(changes) for changes in writing.changes] == counts
  lines = stored(writing.draw(tmp_path, writing.name)[2])
  assert {line.text for line in lines} == {'ab ca'}


@pytest.mark.parametrize('reads', [False, True])
def test_a_style_is_gone_on_from(reads, style_file, monkeypatch):
  task, variables = make('lstm', reads)
  given = {}

  def spy(*args, **options):
    given.update(options)
    return generate(*args, **options)

  monkeypatch.setattr(handwriting, 'generate', spy)
  text = {'text': 'b'} if reads else {}
  request = REQUEST | {'style': style_file, 'bias': 0.5, **text}

  writing = task.sample(variables, request, META_OF_READER if reads else META)

  moves = [[2, 1, 0], [3, -2, 0], [1, 1, 1]]
  expected = (np.array(moves) - [0.5, -0.25, 0]) / [2.0, 1.5, 1]
  np.testing.assert_allclose(given['style'], expected, rtol=1e-5)
  assert given['bias'] == 0.5
  if reads:
    whole = strokes.encode('cab b ', ALPHABET)
    np.testing.assert_array_equal(given['text'], whole)
    assert writing.captions == ['b'] * 3
  else:
    assert given['text'] is None
  if not reads:
    other = task.sample(variables, request | {'style_line': 1}, META)
    assert np.abs(writing.lines[0] - other.lines[0]).max() > 1e-3


def test_no_stroke_joins_a_style_and_what_follows(style_file, monkeypatch):
  task, variables = make('hyper_lstm')
  moves = jnp.ones((1, 6, 3)).at[0, 1, 2].set(0)
  changes = jnp.arange(6.0)[None, :, None]
  monkeypatch.setattr(
    handwriting,
    'generate',
    lambda *args, **options: Written(moves, jnp.array([6]), changes),
  )

  writing = task.sample(variables, REQUEST | {'style': style_file}, META)

  # The style ends at the origin, with the pen lifted.
  (points,), (of_line,) = writing.lines, writing.changes
  np.testing.assert_allclose(points[:, 0], 2.5 * np.arange(1, 7))
  np.testing.assert_array_equal(points[:, 2], [1, 0, 1, 1, 1, 1])
  np.testing.assert_array_equal(of_line[:, 0], np.arange(6))


@pytest.mark.parametrize(
  ('text', 'name'),
  [
    ('Ab, C!', 'ab-c'),
    ('../a b', 'a-b'),
    ('éè', 'writing'),
    ('word ' * 20, 'word-' * 7 + 'word'),
  ],
)
def test_names_of_files_are_plain(text, name):
  assert handwriting._name(text, REQUEST) == f'{name}-seed-3'


def test_what_makes_another_sample_is_in_its_name():
  like = REQUEST | {'style': 'pens/My style.json', 'style_line': 2}
  assert handwriting._name('ab', like) == 'ab-like-my-style-2-seed-3'
  biased = REQUEST | {'bias': 0.5, 'seed': 4}
  assert handwriting._name('ab', biased) == 'ab-bias-0.5-seed-4'


@pytest.mark.parametrize(
  ('lifts', 'count'),
  [([0, 1, 0, 0, 1], 5), ([0, 1, 0, 0], 2), ([0, 0, 0], 3), ([], 0)],
)
def test_a_line_ends_where_the_pen_is_lifted_last(lifts, count):
  moves = np.ones((len(lifts), 3))
  moves[:, 2] = lifts
  assert handwriting._last_lift(moves) == count


def test_a_style_in_other_units_is_told(caplog):
  handwriting._warn_of_scale('mine.json', 2.5 * np.ones((9, 3)))
  assert not caplog.text
  handwriting._warn_of_scale('mine.json', 40 * np.ones((9, 3)))
  assert 'mine.json: its moves are 40 times as large' in caplog.text


# What is wrong.


def message_of(task, variables, meta, **request):
  with pytest.raises(UserError) as error:
    task.sample(variables, REQUEST | request, meta)
  assert '\n' not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize(
  ('reads', 'text', 'words'),
  [
    (False, 'abc', 'config.sample.text: this model writes what it likes'),
    (True, '', 'config.sample.text is empty; say what to write'),
    (True, '  ', 'config.sample.text is empty; say what to write'),
    (True, 'a?b!', "config.sample.text: the model knows no '!?'; its char"),
  ],
)
def test_a_text_that_can_not_be_written_is_named(reads, text, words):
  meta = META_OF_READER if reads else META

  assert message_of(*make('lstm', reads), meta, text=text).startswith(words)


def test_more_lines_than_a_picture_holds_are_refused(tmp_path):
  writing = handwriting.Writing(
    'pen', [np.float32([[0, 0, 1]])] * 1_700, [''] * 1_700, None, False
  )
  with pytest.raises(UserError, match='num_lines: 1700 lines are too many'):
    writing.draw(tmp_path, 'pen')


def test_a_wrong_style_is_named(style_file, tmp_path):
  missing = str(tmp_path / 'none.json')
  blind, reader = make('lstm'), make('lstm', True)

  assert missing in message_of(*blind, META, style=missing)
  assert message_of(*blind, META, style='~no-such-user/x').startswith(
    "config.sample.style: '~no-such-user/x'"
  )
  assert 'no line 2; the index must be from 0 to 1' in message_of(
    *blind, META, style=style_file, style_line=2
  )
  assert message_of(
    *reader, META_OF_READER, style=style_file, style_line=1, text='b'
  ).startswith(f'{style_file}: line 1 has no text')
