"""Beam search for any model that writes one symbol after another.

A hypothesis Y of a source X is ranked by the score of Wu et al. 2016,
https://arxiv.org/abs/1609.08144, equation 14:

  s(Y, X) = log P(Y | X) / lp(Y) + cp(X; Y)
  lp(Y) = (5 + |Y|)^alpha / (5 + 1)^alpha
  cp(X; Y) = beta * sum_i log(min(sum_j p_ij, 1))

where p_ij is the attention to source place i while symbol j is written. END is
a symbol like others: it counts in |Y| and, with its attention, in the sum over
j. A sum of 0 counts as the least normal float32, 1.2e-38, so that its logarithm
is -87 and not -inf.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hyperjax.types import Carry, PyTree

Step = Callable[[Carry, Array], tuple[Carry, Array, Array]]


class Beams(NamedTuple):
  """The hypotheses of each sentence, the best first.

  Where there is no such hypothesis, its score and log_prob are -inf, its length
  is 0 and its symbols are PAD.
  """

  symbols: Array  # int32 [B, K, L], with END, PAD behind it
  scores: Array  # [B, K], s(Y, X)
  log_probs: Array  # [B, K], log P(Y | X) in nats
  lengths: Array  # int32 [B, K], |Y|, with END
  attention: Array | None  # [B, K, L, S], 0 behind END; only if asked for


class _Past(NamedTuple):
  """What the alive hypotheses have written, and where they looked for it."""

  symbols: Array  # int32 [B, K, L]
  coverage: Array  # [B, K, S], the sum over j of p_ij
  attention: Array | None  # [B, K, L, S]


class _Alive(NamedTuple):
  """Hypotheses without END; those of log_prob -inf are none."""

  carry: Carry  # leaves [B, K, ...]
  last: Array  # int32 [B, K], the symbol written last
  log_probs: Array  # [B, K]
  past: _Past


class _Score(NamedTuple):
  """The score of a hypothesis; see the module."""

  alpha: float
  beta: float
  mask: Array | None  # bool [B, S]

  def __call__(
    self, log_probs: Array, lengths: Array, coverage: Array
  ) -> Array:
    """s(Y, X) [B, K] of log P [B, K], |Y| and sum_j p_ij [B, K, S]."""
    scores = self.bound(log_probs, lengths)
    if not self.beta:
      return scores
    least = jnp.finfo(jnp.float32).tiny
    logs = jnp.log(jnp.clip(coverage, least, 1.0))
    if self.mask is not None:
      logs = jnp.where(self.mask[:, None], logs, 0.0)
    return scores + self.beta * jnp.sum(logs, -1)

  def bound(self, log_probs: Array, lengths: Array) -> Array:
    """The highest score that Y can reach as it grows to at most `lengths`.

    log P only falls, dividing by the greatest lp makes the least of it, and cp
    may yet rise to 0.
    """
    return log_probs / ((5.0 + lengths) / 6.0) ** self.alpha


def beam_search(
  step: Step,
  carry: Carry,
  *,
  batch_size: int,
  beam_size: int,
  max_lengths: Array,
  max_length: int,
  begin: int,
  end: int,
  pad: int,
  length_penalty: float = 0.0,
  coverage_penalty: float = 0.0,
  source_mask: Array | None = None,
  keep_attention: bool = False,
  num_best: int | None = None,
) -> Beams:
  """Looks for the hypotheses of highest score; call it within `jax.jit`.

  At each place the 2K most probable continuations of the K alive hypotheses
  are candidates. Those of the best K that are END finish, and the K best by s
  are kept of all that finished; the best K that are not END go on. So only an
  END among the best K finishes, and a beam of 1 without penalties is greedy
  search. Of equals, the one found earlier goes first, then that of the better
  parent, then that of the lower symbol.

  A sentence has a limit of its own, so that no translation depends on what
  else is in the batch or on padding: at place `max_lengths[b] - 1` END is the
  only choice, at the probability that the model gives it. A sentence is done
  before that once no alive hypothesis can score above its `num_best` finished
  ones, which changes none of those.

  BEGIN and PAD are never written; their probability is not shared out.

  Args:
    step: (carry, symbols int32 [B * K]) -> (carry, logits or log-probabilities
      [B * K, V], attention [B * K, S]). Rows b * K .. b * K + K - 1 are those
      of sentence b. V is at least 2. A model without attention returns S = 0.
    carry: of the sentences before BEGIN, leaves [B, ...]; repeated K times
      here. What all hypotheses of a sentence share is better kept out of it,
      within `step`, where it is not moved at each place.
    batch_size: B.
    beam_size: K.
    max_lengths: int32 [B], the most symbols with END, at most L. A sentence of
      0, as for an empty row, is done at once: its one hypothesis has length 0
      and score 0.
    max_length: L, the width of the arrays; no less than any limit, for greater
      limits are cut down to it.
    begin: the symbol that `step` is given first.
    end: END, the symbol that finishes a hypothesis.
    pad: what stands behind END.
    length_penalty: alpha, at least 0.
    coverage_penalty: beta, at least 0.
    source_mask: bool [B, S], which source places count in cp; None is all.
    keep_attention: whether to return the attention, at B * K * L * S floats.
    num_best: how many of the hypotheses are wanted; None is K. The others are
      the best that were found until these were certain.

  Returns:
    The K best hypotheses of each sentence.

  Raises:
    ValueError: a size, penalty or shape is not as said above.
  """
  if beam_size < 1 or max_length < 1:
    raise ValueError(f'{beam_size=} and {max_length=} must be at least 1')
  if not (length_penalty >= 0 and coverage_penalty >= 0):
    raise ValueError(
      f'{length_penalty=} and {coverage_penalty=} must be at least 0'
    )
  num_best = beam_size if num_best is None else num_best
  if not 1 <= num_best <= beam_size:
    raise ValueError(f'{num_best=} must be from 1 to {beam_size=}')
  if max_lengths.shape != (batch_size,):
    raise ValueError(f'max_lengths: {max_lengths.shape}, not {(batch_size,)}')
  limits = jnp.clip(max_lengths, 0, max_length)[:, None]
  score = _Score(length_penalty, coverage_penalty, source_mask)
  carry = jax.tree.map(lambda x: _repeat(x, beam_size), carry)
  alive, finished = _start(
    step, carry, limits, beam_size, max_length, begin, pad, keep_attention
  )

  def going_on(state):
    place, alive, _ = state
    return (place < max_length) & jnp.any(alive.log_probs > -jnp.inf)

  def advance(state):
    place, alive, finished = state
    alive, log_probs = _continue(step, alive, place)
    symbols = jnp.arange(log_probs.shape[-1])
    banned = ((symbols == begin) | (symbols == pad)) & (symbols != end)
    forced = (place == limits - 1)[..., None] & (symbols != end)
    log_probs = jnp.where(banned | forced, -jnp.inf, log_probs)
    candidates = _candidates(log_probs, 2 * beam_size)
    finished = _finish(alive, finished, candidates, place, end, score)
    alive = _go_on(alive, candidates, place, end, beam_size)
    # Without alive hypotheses a sentence stands still.
    best = score.bound(alive.log_probs[:, :1], limits)
    done = best <= finished.scores[:, num_best - 1 : num_best]
    log_probs = jnp.where(done, -jnp.inf, alive.log_probs)
    return place + 1, alive._replace(log_probs=log_probs), finished

  state = jnp.int32(0), alive, finished
  return jax.lax.while_loop(going_on, advance, state)[2]


def _repeat(x, times):
  return jnp.broadcast_to(x[:, None], (x.shape[0], times, *x.shape[1:]))


def _rows(tree):
  """Leaves [B, K, ...] as [B * K, ...]."""
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _take(tree: PyTree, index: Array) -> PyTree:
  """Of leaves [B, N, ...] those at `index` [B, M]: [B, M, ...]."""
  rows = jnp.arange(index.shape[0])[:, None]
  return jax.tree.map(lambda x: x[rows, index], tree)


def _start(step, carry, limits, beam_size, max_length, begin, pad, keep):
  """One alive hypothesis for each sentence, and none finished."""
  shape = limits.shape[0], beam_size
  last = jnp.full(shape, begin, jnp.int32)
  attention = jax.eval_shape(step, _rows(carry), _rows(last))[2]
  width = attention.shape[-1]
  past = _Past(
    symbols=jnp.full((*shape, max_length), pad, jnp.int32),
    coverage=jnp.zeros((*shape, width)),
    attention=jnp.zeros((*shape, max_length, width)) if keep else None,
  )
  first = jnp.arange(beam_size) == 0
  empty = jnp.where(first & (limits == 0), 0.0, -jnp.inf)
  finished = Beams(
    past.symbols, empty, empty, jnp.zeros(shape, jnp.int32), past.attention
  )
  log_probs = jnp.where(first & (limits > 0), 0.0, -jnp.inf)
  return _Alive(carry, last, log_probs, past), finished


def _continue(step, alive, place):
  """Adds the place to the past; log P of all continuations, [B, K, V]."""
  shape = alive.last.shape
  outputs = step(_rows(alive.carry), _rows(alive.last))
  carry, logits, attention = jax.tree.map(
    lambda x: x.reshape(*shape, *x.shape[1:]), outputs
  )
  attention = attention.astype(jnp.float32)
  past = alive.past._replace(coverage=alive.past.coverage + attention)
  if past.attention is not None:
    past = past._replace(
      attention=past.attention.at[:, :, place].set(attention)
    )
  before = alive.log_probs[..., None]
  log_probs = before + jax.nn.log_softmax(logits.astype(jnp.float32))
  return alive._replace(carry=carry, past=past), log_probs


def _candidates(log_probs, number):
  """The most probable continuations: log P, parent and symbol, each [B, N]."""
  # Those of each parent first: they are few, and the rows of top_k short.
  log_probs, symbols = jax.lax.top_k(
    log_probs, min(number, log_probs.shape[-1])
  )
  width = log_probs.shape[-1]
  log_probs, symbols = (x.reshape(x.shape[0], -1) for x in (log_probs, symbols))
  log_probs, index = jax.lax.top_k(log_probs, number)
  return log_probs, index // width, _take(symbols, index)


def _finish(alive, finished, candidates, place, end, score):
  """The best of what was finished and of the best K candidates with END."""
  beam_size = alive.last.shape[1]
  log_probs, parents, symbols = (x[:, :beam_size] for x in candidates)
  past = _take(alive.past, parents)
  scores = score(log_probs, place + 1, past.coverage)
  new = (symbols == end) & (log_probs > -jnp.inf)
  ended = Beams(
    symbols=past.symbols.at[:, :, place].set(symbols),
    scores=jnp.where(new, scores, -jnp.inf),
    log_probs=log_probs,
    lengths=jnp.full_like(symbols, place + 1),
    attention=past.attention,
  )
  # Of equals the first is taken: nothing new in place of nothing.
  both = jax.tree.map(lambda *x: jnp.concatenate(x, 1), finished, ended)
  return _take(both, jax.lax.top_k(both.scores, beam_size)[1])


def _go_on(alive, candidates, place, end, beam_size):
  """The best K candidates without END, the best first."""
  log_probs, parents, symbols = candidates
  log_probs = jnp.where(symbols == end, -jnp.inf, log_probs)
  log_probs, index = jax.lax.top_k(log_probs, beam_size)
  parents, last = _take((parents, symbols), index)
  carry, past = _take((alive.carry, alive.past), parents)
  past = past._replace(symbols=past.symbols.at[:, :, place].set(last))
  return _Alive(carry, last, log_probs, past)
