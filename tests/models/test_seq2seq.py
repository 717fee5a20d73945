"""The encoder and decoder: what may depend on what, and how large they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.errors import UserError
from hyperjax.models import seq2seq
from tests.nn.small import slow

VOCAB, HIDDEN, EMBEDDING, ATTENTION = 11, 6, 4, 3
LENGTHS = np.array([7, 4, 1, 0])
BATCH, WIDTH, TIME = len(LENGTHS), 7, 5
KEY = jax.random.key(3)


def build(cell='lstm', **options):
  sizes = {
    'vocab_size': VOCAB,
    'hidden_size': HIDDEN,
    'embedding_size': EMBEDDING,
    'attention_size': ATTENTION,
  }
  if 'hyper' in cell:
    sizes |= {'hyper_size': 4, 'z_size': 2}
  return seq2seq.build(**(sizes | options), cell=cell, key=jax.random.key(0))


@functools.lru_cache
def split(cell='lstm', layers=1, **options):
  """The graph, the parameters, and a program that translates."""
  model = build(cell, num_layers=layers, num_encoder_layers=layers, **options)
  graph, params = nnx.split(model)

  @jax.jit
  def logits_of(params, source, mask, target, key=None):
    model = nnx.merge(graph, params)
    keys = (None, None) if key is None else jax.random.split(key)
    memory = model.encode(source, mask, keys[0])
    carry = model.initial_carry(len(source))
    return model.decode(carry, memory, target, keys[1])[1:]

  params = jax.tree.map(lambda x: 2 * x, params)
  return graph, params, functools.partial(logits_of, params)


def symbols(seed=0, shape=(BATCH, WIDTH)):
  return np.random.default_rng(seed).integers(4, VOCAB, shape, np.int32)


def mask(width=WIDTH):
  return np.arange(width) < LENGTHS[:, None]


SHAPES = pytest.mark.parametrize(
  ('cell', 'layers'),
  [
    ('lstm', 3),
    ('hyper_rnn', 1),
    slow('lstm', 1),
    slow('ln_hyper_lstm', 2),
  ],
)


@SHAPES
def test_padding_of_the_source_changes_nothing(cell, layers):
  _, _, logits_of = split(cell, layers)
  source, target = symbols(), symbols(1, (BATCH, TIME))
  expected, attention = logits_of(source, mask(), target)
  assert expected.shape == (BATCH, TIME, VOCAB)
  np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-5)
  other = np.where(mask(), source, 5)
  wide = np.pad(other, ((0, 0), (0, 2)), constant_values=9)
  found, again = logits_of(wide, mask(WIDTH + 2), target)
  # The last sentence is empty.
  np.testing.assert_allclose(found[:3], expected[:3], atol=2e-6)
  np.testing.assert_allclose(again[:3, :, :WIDTH], attention[:3], atol=2e-6)
  assert np.isfinite(found).all()


def test_other_sentences_change_nothing():
  _, _, logits_of = split('lstm', 3)
  source, target = symbols(), symbols(1, (BATCH, TIME))
  expected, _ = logits_of(source, mask(), target)
  other = source.copy()
  other[1] = symbols(5, (WIDTH,))
  found, _ = logits_of(other, mask(), target)
  changed = ~np.isclose(found, expected, atol=1e-6).all(axis=(1, 2))
  assert changed.tolist() == [False, True, False, False]


@SHAPES
def test_what_depends_on_what(cell, layers):
  """By gradient: each logit on the past of its target and all of its source."""
  graph, params, _ = split(cell, layers)
  source, target = symbols()[:1], symbols(1, (1, TIME))
  seen = np.arange(WIDTH)[None] < 5

  def second(scale_source, scale_target):
    model = nnx.merge(graph, params)
    from_source, from_target = model.source, model.target
    model.source = lambda s: from_source(s) * scale_source[:, None, None]
    model.target = lambda s: from_target(s) * scale_target[:, None, None]
    memory = model.encode(source, seen)
    _, logits, _ = model.decode(model.initial_carry(1), memory, target)
    return jnp.sum(logits[0, 2] * jnp.arange(VOCAB))

  by_source, by_target = jax.jit(jax.grad(second, (0, 1)))(
    jnp.ones(WIDTH), jnp.ones(TIME)
  )
  assert (np.asarray(by_source) != 0).tolist() == [True] * 5 + [False] * 2
  assert (np.asarray(by_target) != 0).tolist() == [True] * 3 + [False] * 2


def test_a_step_at_a_time_is_the_same():
  graph, params, logits_of = split('lstm', 3)
  source, target = symbols(), symbols(1, (BATCH, TIME))
  expected, attention = logits_of(source, mask(), target)
  model = nnx.merge(graph, params)
  memory = jax.jit(model.encode)(source, mask())
  carry = model.initial_carry(BATCH)
  step = jax.jit(lambda carry, x: model.decode(carry, memory, x))
  for t in range(TIME):
    carry, logits, seen = step(carry, target[:, t : t + 1])
    np.testing.assert_allclose(logits[:, 0], expected[:, t], atol=2e-5)
    np.testing.assert_allclose(seen[:, 0], attention[:, t], atol=2e-5)


def test_the_backward_layer_reads_from_the_end():
  """Swapping the directions' parameters and the words swaps the halves."""
  model = build()
  source = symbols()[:1]
  full = np.ones((1, WIDTH), bool)
  values = jax.jit(model.encode)(source, full).values
  encoder = model.encoder
  encoder.forward, encoder.backward = encoder.backward, encoder.forward
  turned = jax.jit(lambda *x: model.encode(*x))(source[:, ::-1], full)
  turned = turned.values[:, ::-1]
  np.testing.assert_allclose(turned[..., :HIDDEN], values[..., HIDDEN:])
  np.testing.assert_allclose(turned[..., HIDDEN:], values[..., :HIDDEN])


def test_residuals_begin_at_the_third_layer():
  model = build(num_layers=3, num_encoder_layers=3)
  encoder = model.encoder
  xs = np.random.default_rng(0).normal(size=(WIDTH, 2, EMBEDDING))
  xs, full = np.float32(xs), np.ones((WIDTH, 2), bool)
  # A cell of zeros gives nothing, so what comes out is what is added.
  silent = encoder.above[1]
  nnx.update(silent, jax.tree.map(jnp.zeros_like, nnx.state(silent)))
  below = seq2seq.Encoder(encoder.forward, encoder.backward, [encoder.above[0]])
  np.testing.assert_allclose(
    jax.jit(encoder)(xs, full), jax.jit(below)(xs, full), atol=1e-6
  )


def lstm_size(inputs, hidden=HIDDEN):
  return 4 * hidden * (inputs + hidden + 1)


def test_parameters_are_as_many_as_the_equations_have():
  model = build(num_layers=3, num_encoder_layers=2)
  memory = HIDDEN
  expected = (
    2 * VOCAB * EMBEDDING
    + 2 * lstm_size(EMBEDDING)
    + lstm_size(2 * HIDDEN)
    + lstm_size(EMBEDDING + memory)
    + 2 * lstm_size(HIDDEN + memory)
    + HIDDEN * ATTENTION
    + (memory + 1) * ATTENTION
    + ATTENTION
    + (HIDDEN + 1) * VOCAB
  )
  params = nnx.state(model, nnx.Param)
  assert sum(x.size for x in jax.tree.leaves(params)) == expected


def test_dropout_falls_where_it_is_asked_for():
  _, _, logits_of = split(input_keep_prob=0.5, output_keep_prob=0.5)
  args = symbols(), mask(), symbols(1, (BATCH, TIME))
  plain, _ = logits_of(*args)
  noisy, _ = logits_of(*args, KEY)
  again, _ = logits_of(*args, KEY)
  assert not np.allclose(plain, noisy)
  np.testing.assert_array_equal(noisy, again)


def test_an_unknown_option_is_named():
  with pytest.raises(UserError, match=r'config\.model\.hiden'):
    build(hiden=3)


@pytest.mark.parametrize('part', ['encoder', 'decoder'])
def test_from_the_third_layer_on_inputs_are_added_to_outputs(part):
  """What reads a layer that says nothing still finds what is below it."""
  graph, params, _ = split('lstm', 3)
  model = nnx.merge(graph, params)
  above = getattr(model, part).above
  nnx.update(above[-1], jax.tree.map(jnp.zeros_like, nnx.state(above[-1])))

  @jax.jit
  def logits_of(source, target):
    memory = model.encode(source, mask())
    return model.decode(model.initial_carry(BATCH), memory, target)[1]

  source, target = symbols(), symbols(1, (BATCH, TIME))
  expected = logits_of(source, target)
  if part == 'encoder':
    source = symbols(2)
  else:
    target = symbols(2, (BATCH, TIME))
  assert not np.allclose(logits_of(source, target)[0], expected[0], atol=1e-5)
