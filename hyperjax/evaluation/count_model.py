"""Count models of text: what a model without learning reaches, as a bar."""

import numpy as np


def unigram_bits(symbols: np.ndarray) -> float:
  """Entropy of the symbols' own frequencies, in bits per symbol."""
  counts = np.bincount(symbols)
  p = counts[counts > 0] / len(symbols)
  return float(-(p * np.log2(p)).sum())


def order_n_bits(
  train: np.ndarray, test: np.ndarray, vocab_size: int, order: int = 3
) -> float:
  """Bits per symbol of an order-n Markov model with Witten-Bell smoothing.

  With n(s) how often something follows a context s in the training text,
  n(s, a) how often that is symbol a, and t(s) the number of distinct symbols
  seen behind it,

      p(a | s) = (n(s, a) + t(s) p(a | s')) / (n(s) + t(s))

  where s' is s without its first symbol; below the empty context the
  distribution is uniform (Witten and Bell 1991, interpolated).

  Args:
    train: [N] symbols to count.
    test: [M] symbols to predict, each but the first, as a network does.
    vocab_size: number of symbols.
    order: length of the longest context.

  Returns:
    Mean of -log2 p over the M - 1 predictions.
  """
  p = np.full(len(test) - 1, 1.0 / vocab_size)
  for length in range(min(order + 1, len(train), len(test))):
    seen = _ngrams(train, length + 1, vocab_size)
    wanted = _ngrams(test, length + 1, vocab_size)[-len(p) :]
    rest = slice(len(p) - len(wanted), None)  # where the context is complete
    grams, counts = np.unique(seen, return_counts=True)
    contexts, first, distinct = np.unique(
      grams // vocab_size, return_index=True, return_counts=True
    )
    totals = np.add.reduceat(counts, first)
    n_gram = _look_up(grams, counts, wanted)
    n_context = _look_up(contexts, totals, wanted // vocab_size)
    t_context = _look_up(contexts, distinct, wanted // vocab_size)
    known = n_context > 0
    mixed = (n_gram + t_context * p[rest]) / np.maximum(
      n_context + t_context, 1
    )
    p[rest] = np.where(known, mixed, p[rest])
  return float(-np.log2(p).mean())


def _ngrams(symbols, n, vocab_size):
  """Each run of n symbols as one number, the last symbol least."""
  # enwik8 has 90 million to sort, so no more bytes than they need.
  dtype = np.uint32 if vocab_size**n <= 2**32 else np.int64
  grams = np.zeros(len(symbols) - n + 1, dtype)
  for k in range(n):
    grams = grams * vocab_size + symbols[k : len(symbols) - n + 1 + k]
  return grams


def _look_up(keys, values, wanted):
  """values[where keys == wanted], 0 where there is none; keys are sorted."""
  places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
  return np.where(keys[places] == wanted, values[places], 0)
