"""The encoder and decoder: what may depend on what, and how large they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.errors import UserError
from hyperjax.models import seq2seq
from tests.nn.small import jit

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
def split(cell='lstm', **options):
  graph, params = nnx.split(build(cell, **options))
  return graph, jax.tree.map(lambda x: 2 * x, params)


def symbols(seed=0, shape=(BATCH, WIDTH)):
  return jax.random.randint(jax.random.key(seed), shape, 4, VOCAB)


def mask(width=WIDTH):
  return jnp.arange(width) < LENGTHS[:, None]


def logits_of(graph, params, *args):
  return runner(graph)(params, *args)


def runner(graph):
  def run(params, source, mask, target, key=None):
    model = nnx.merge(graph, params)
    keys = (None, None) if key is None else jax.random.split(key)
    memory = model.encode(source, mask, keys[0])
    carry = model.initial_carry(len(source))
    return model.decode(carry, memory, target, keys[1])[1:]

  return jit(run)


SHAPES = pytest.mark.parametrize(
  ('cell', 'layers'),
  [('lstm', 1), ('lstm', 3), ('ln_hyper_lstm', 2), ('hyper_rnn', 1)],
)


def variant(cell, layers):
  return split(cell, num_layers=layers, num_encoder_layers=layers)


@SHAPES
def test_padding_of_the_source_changes_nothing(cell, layers):
  graph, params = variant(cell, layers)
  source, target = symbols(), symbols(1, (BATCH, TIME))
  expected, attention = logits_of(graph, params, source, mask(), target)
  assert expected.shape == (BATCH, TIME, VOCAB)
  np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-5)
  other = jnp.where(mask(), source, 5)
  wide = jnp.pad(other, ((0, 0), (0, 2)), constant_values=9)
  found, again = logits_of(graph, params, wide, mask(WIDTH + 2), target)
  # The last sentence is empty.
  np.testing.assert_allclose(found[:3], expected[:3], atol=2e-6)
  np.testing.assert_allclose(again[:3, :, :WIDTH], attention[:3], atol=2e-6)
  assert np.isfinite(found).all()


def test_other_sentences_change_nothing():
  graph, params = variant('lstm', 2)
  source, target = symbols(), symbols(1, (BATCH, TIME))
  expected, _ = logits_of(graph, params, source, mask(), target)
  other = source.at[1].set(symbols(5, (WIDTH,)))
  found, _ = logits_of(graph, params, other, mask(), target)
  changed = ~np.isclose(found, expected, atol=1e-6).all(axis=(1, 2))
  assert changed.tolist() == [False, True, False, False]


@SHAPES
def test_what_depends_on_what(cell, layers):
  """By gradient: each logit on the past of its target and all of its source."""
  graph, params = variant(cell, layers)
  source, target = symbols()[:1], symbols(1, (1, TIME))
  seen = jnp.arange(WIDTH)[None] < 5

  def at(t, scale_source, scale_target):
    model = nnx.merge(graph, params)
    from_source, from_target = model.source, model.target
    model.source = lambda s: from_source(s) * scale_source[:, None, None]
    model.target = lambda s: from_target(s) * scale_target[:, None, None]
    memory = model.encode(source, seen)
    _, logits, _ = model.decode(model.initial_carry(1), memory, target)
    return jnp.sum(logits[0, t] * jnp.arange(VOCAB))

  ones = jnp.ones(WIDTH), jnp.ones(TIME)
  by_source, by_target = jit(jax.jacrev(lambda *x: at(2, *x), argnums=(0, 1)))(
    *ones
  )
  assert (np.asarray(by_source) != 0).tolist() == [True] * 5 + [False] * 2
  assert (np.asarray(by_target) != 0).tolist() == [True] * 3 + [False] * 2


def test_a_step_at_a_time_is_the_same():
  graph, params = variant('ln_hyper_lstm', 2)
  source, target = symbols(), symbols(1, (BATCH, TIME))
  expected, attention = logits_of(graph, params, source, mask(), target)
  model = nnx.merge(graph, params)
  memory, carry = model.encode(source, mask()), model.initial_carry(BATCH)
  step = jit(lambda carry, x: model.decode(carry, memory, x))
  for t in range(TIME):
    carry, logits, seen = step(carry, target[:, t : t + 1])
    np.testing.assert_allclose(logits[:, 0], expected[:, t], atol=2e-5)
    np.testing.assert_allclose(seen[:, 0], attention[:, t], atol=2e-5)


def test_the_backward_layer_reads_from_the_end():
  """Swapping the directions' parameters and the words swaps the halves."""
  model = build()
  source = symbols()[:1]
  full = jnp.ones((1, WIDTH), bool)
  values = model.encode(source, full).values
  encoder = model.encoder
  encoder.forward, encoder.backward = encoder.backward, encoder.forward
  turned = model.encode(source[:, ::-1], full).values[:, ::-1]
  np.testing.assert_allclose(turned[..., :HIDDEN], values[..., HIDDEN:])
  np.testing.assert_allclose(turned[..., HIDDEN:], values[..., :HIDDEN])


def test_residuals_begin_at_the_third_layer():
  model = build(num_layers=3, num_encoder_layers=3)
  encoder = model.encoder
  xs = jax.random.normal(KEY, (WIDTH, 2, EMBEDDING))
  full = jnp.ones((WIDTH, 2), bool)
  # A cell of zeros gives nothing, so what comes out is what is added.
  silent = encoder.above[1]
  for leaf in jax.tree.leaves(nnx.state(silent)):
    assert leaf.size
  nnx.update(silent, jax.tree.map(jnp.zeros_like, nnx.state(silent)))
  below = seq2seq.Encoder(
    encoder.forward, encoder.backward, [encoder.above[0]]
  )(xs, full)
  np.testing.assert_allclose(encoder(xs, full), below, atol=1e-6)


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
  graph, params = split(input_keep_prob=0.5, output_keep_prob=0.5)
  args = symbols(), mask(), symbols(1, (BATCH, TIME))
  plain, _ = logits_of(graph, params, *args)
  noisy, _ = logits_of(graph, params, *args, KEY)
  again, _ = logits_of(graph, params, *args, KEY)
  assert not np.allclose(plain, noisy)
  np.testing.assert_array_equal(noisy, again)


def test_an_unknown_option_is_named():
  with pytest.raises(UserError, match=r'config\.model\.hiden'):
    build(hiden=3)
