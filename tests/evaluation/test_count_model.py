import collections
import math

import numpy as np
import pytest
import scipy.stats

from hyperjax.evaluation.count_model import order_n_bits, unigram_bits


class Slow:
  """The formula in the docstring of `order_n_bits`, with dictionaries."""

  def __init__(self, train, vocab_size, order):
    self.vocab_size, self.order = vocab_size, order
    self.followers = collections.defaultdict(collections.Counter)
    for length in range(order + 1):
      for place in range(length, len(train)):
        context = tuple(train[place - length : place])
        self.followers[context][train[place]] += 1

  def probability(self, symbol, context):
    """p(symbol | context), the context a tuple of up to `order` symbols."""
    shorter = (
      self.probability(symbol, context[1:]) if context else 1 / self.vocab_size
    )
    if context not in self.followers:
      return shorter
    counts = self.followers[context]
    n, t = sum(counts.values()), len(counts)
    return (counts[symbol] + t * shorter) / (n + t)

  def bits(self, test):
    total = 0.0
    for place in range(1, len(test)):
      context = tuple(test[max(place - self.order, 0) : place])
      total -= math.log2(self.probability(test[place], context))
    return total / (len(test) - 1)


def markov_text(rng, size, vocab_size):
  """Symbols that depend on the one before, so that contexts come again."""
  symbols = [int(rng.integers(vocab_size))]
  while len(symbols) < size:
    step = int(rng.choice([0, 1, vocab_size // 2], p=[0.2, 0.6, 0.2]))
    symbols.append((symbols[-1] + step) % vocab_size)
  return np.array(symbols, np.uint8)


@pytest.mark.parametrize('order', range(5))
@pytest.mark.parametrize(
  ('vocab_size', 'train_size', 'test_size'),
  [
    (1, 20, 10),
    (2, 5, 30),
    (2, 300, 100),
    (5, 200, 100),
    (7, 40, 60),
    (50, 500, 100),
    (256, 400, 100),
  ],
)
def test_agrees_with_the_formula(order, vocab_size, train_size, test_size):
  rng = np.random.default_rng(train_size + order)
  train = markov_text(rng, train_size, vocab_size)
  test = markov_text(rng, test_size, vocab_size)
  expected = Slow(train.tolist(), vocab_size, order).bits(test.tolist())
  got = order_n_bits(train, test, vocab_size, order)
  assert got == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize('order', range(5))
def test_agrees_where_no_context_was_seen(order):
  rng = np.random.default_rng(order)
  train = rng.integers(0, 8, 200).astype(np.uint8)
  test = rng.integers(4, 16, 100).astype(np.uint8)
  expected = Slow(train.tolist(), 16, order).bits(test.tolist())
  got = order_n_bits(train, test, 16, order)
  assert got == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('order', range(4))
@pytest.mark.parametrize('vocab_size', [2, 3, 11])
def test_probabilities_of_the_next_symbol_sum_to_one(order, vocab_size):
  # Read from `order_n_bits` itself: a text of context and symbol, less the
  # same text without the symbol, leaves -log2 p(symbol | context).
  rng = np.random.default_rng(order)
  train = markov_text(rng, 60, vocab_size)
  slow = Slow(train.tolist(), vocab_size, order)
  for _ in range(3):
    context = rng.integers(0, vocab_size, order + 5)
    before = order_n_bits(train, context, vocab_size, order)
    probabilities = []
    for symbol in range(vocab_size):
      text = np.append(context, symbol)
      bits = order_n_bits(train, text, vocab_size, order)
      last = bits * (len(text) - 1) - before * (len(context) - 1)
      probabilities.append(2**-last)
    assert sum(probabilities) == pytest.approx(1, abs=1e-12)
    known = tuple(context[len(context) - order :].tolist())
    expected = [slow.probability(a, known) for a in range(vocab_size)]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-9)
    assert sum(expected) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize('order', range(5))
@pytest.mark.parametrize('test_size', [2, 3, 4, 5, 6])
def test_the_shortest_texts_to_predict(order, test_size):
  rng = np.random.default_rng(test_size)
  train = markov_text(rng, 100, 4)
  test = train[20 : 20 + test_size]
  expected = Slow(train.tolist(), 4, order).bits(test.tolist())
  assert order_n_bits(train, test, 4, order) == pytest.approx(expected)


@pytest.mark.parametrize('order', range(5))
@pytest.mark.parametrize('train_size', [1, 2, 3, 4])
def test_the_shortest_texts_to_count(order, train_size):
  train = np.array([0, 1, 1, 0][:train_size], np.uint8)
  test = np.array([0, 1, 0, 1, 1, 0, 0], np.uint8)
  expected = Slow(train.tolist(), 2, order).bits(test.tolist())
  assert order_n_bits(train, test, 2, order) == pytest.approx(expected)


def test_an_unseen_symbol_costs_finitely_many_bits():
  train = np.zeros(1_000, np.uint8)
  test = np.array([0, 9, 9, 9], np.uint8)
  bits = order_n_bits(train, test, 10)
  assert math.isfinite(bits)
  # Order 0 leaves the uniform distribution 1 / (1000 + 1), longer contexts
  # of zeros, seen 1000 - length times, the same of what is left.
  first = math.log2(10) + math.log2(1_001) + math.log2(1_000)
  others = math.log2(10) + math.log2(1_001)
  assert bits == pytest.approx((first + 2 * others) / 3)


def test_symbols_may_be_bytes_of_any_value():
  rng = np.random.default_rng(0)
  train = rng.integers(250, 256, 2_000).astype(np.uint8)
  bits = order_n_bits(train, train, 256, 3)
  assert bits == pytest.approx(
    Slow(train.tolist(), 256, 3).bits(train.tolist())
  )
  assert bits == order_n_bits(train.astype(np.int64), train, 256, 3)


def test_order_three_is_the_default():
  rng = np.random.default_rng(0)
  train, test = markov_text(rng, 300, 6), markov_text(rng, 100, 6)
  assert order_n_bits(train, test, 6) == order_n_bits(train, test, 6, 3)
  assert order_n_bits(train, test, 6) != order_n_bits(train, test, 6, 2)


def test_more_context_helps_where_the_text_has_some():
  rng = np.random.default_rng(0)
  train, test = markov_text(rng, 20_000, 20), markov_text(rng, 5_000, 20)
  by_order = [order_n_bits(train, test, 20, order) for order in (0, 1)]
  entropy = scipy.stats.entropy([0.2, 0.6, 0.2], base=2)
  assert by_order[0] == pytest.approx(math.log2(20), abs=0.02)
  assert by_order[1] == pytest.approx(entropy, abs=0.05)


@pytest.mark.parametrize('vocab_size', [1, 2, 30, 256])
def test_unigram_bits_are_the_entropy_of_the_frequencies(vocab_size):
  rng = np.random.default_rng(vocab_size)
  symbols = (rng.random(1_000) ** 2 * vocab_size).astype(np.uint8)
  counts = list(collections.Counter(symbols.tolist()).values())
  expected = scipy.stats.entropy(counts, base=2)
  assert unigram_bits(symbols) == pytest.approx(expected, abs=1e-12)


def test_unigram_bits_by_hand():
  assert unigram_bits(np.array([3, 3, 3])) == 0
  assert unigram_bits(np.array([0, 7])) == 1
  assert unigram_bits(np.array([0, 1, 2, 2])) == 1.5
