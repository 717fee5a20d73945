import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from hyperjax.evaluation.beam_search import beam_search
from tests.nn.small import slow, some_of

NUM_STATES = 997
BEGIN, END, PAD = 7, 2, -1
PENALTIES = [(0.0, 0.0), (0.6, 0.0), (1.5, 0.0), (0.0, 0.3), (1.0, 0.7)]


def follow(state, symbol):
  """The state of a prefix, by what it was and the symbol behind it."""
  return (state * 31 + symbol * 17 + 5) % NUM_STATES


def state_of(prefix):
  return functools.reduce(follow, (BEGIN, *prefix), 0)


class Tables:
  """Sentences whose next symbol depends on all symbols before it.

  Attributes:
    logits: [B, states, V].
    attention: [B, states, S], sums to 1 where the mask is true; elsewhere it
      is what nobody may look at.
    mask: [B, S].
    limits: [B].
  """

  def __init__(self, seed, limits, vocab_size, num_places=5, scale=2.0, end=0):
    rng = np.random.default_rng(seed)
    size, self.limits = len(limits), np.array(limits, np.int32)
    self.logits = scale * rng.normal(size=(size, NUM_STATES, vocab_size))
    self.logits[..., END] += end
    places = rng.integers(1, num_places + 1, size)
    self.mask = np.arange(num_places) < places[:, None]
    weights = rng.exponential(size=(size, NUM_STATES, num_places)) ** 3
    mask = self.mask[:, None]
    total = (weights * mask).sum(-1, keepdims=True)
    self.attention = np.where(mask, weights / total, weights)

  def rows(self, index):
    """The same sentences, others or in another order."""
    new = object.__new__(Tables)
    for name, value in vars(self).items():
      setattr(new, name, value[index])
    return new

  def log_probs(self, row, prefix):
    """ln p [V] of what comes after the prefix, and the attention [S]."""
    state = state_of(prefix)
    logits = self.logits[row, state]
    most = logits.max()
    total = most + np.log(np.exp(logits - most).sum())
    return logits - total, self.attention[row, state]

  def score(self, row, symbols, alpha, beta):
    """Score and log P of a sequence with END; the formula of the module."""
    log_prob, coverage = 0.0, 0.0
    for place, symbol in enumerate(symbols):
      log_probs, attention = self.log_probs(row, symbols[:place])
      log_prob += log_probs[symbol]
      coverage = coverage + attention
    seen = np.minimum(coverage[self.mask[row]], 1)
    penalty = ((5 + len(symbols)) / 6) ** alpha
    return log_prob / penalty + beta * np.log(seen).sum(), log_prob

  def model(self):
    """What `find` takes first: tables, the carry and the limits."""
    rows = jnp.arange(len(self.limits), dtype=jnp.int32)
    carry = {'row': rows, 'state': jnp.zeros_like(rows)}
    tables = jnp.array(self.logits), jnp.array(self.attention)
    return tables, carry, jnp.array(self.limits)

  def search(self, beam_size, alpha=0.0, beta=0.0, **options):
    options.setdefault('max_length', max(self.limits.max().item(), 1))
    options.setdefault('source_mask', jnp.array(self.mask))
    beams = find(
      *self.model(),
      beam_size=beam_size,
      length_penalty=alpha,
      coverage_penalty=beta,
      **options,
    )
    return jax.device_get(beams)

  def count(self, *args, **options):
    """What `search` gives, and its steps."""
    STEPS.clear()
    beams = self.search(*args, on_step=note_step, **options)
    jax.effects_barrier()
    return beams, len(STEPS)


STEPS = []


def note_step():
  STEPS.append(1)


def step_of(tables, on_step=None):
  """`step` of `beam_search`."""

  def step(carry, symbols):
    if on_step:
      jax.debug.callback(on_step)
    row, state = carry['row'], follow(carry['state'], symbols)
    logits, attention = (table[row, state] for table in tables)
    return {'row': row, 'state': state}, logits, attention

  return step


@functools.partial(
  jax.jit,
  static_argnames=[
    *('beam_size', 'max_length', 'begin', 'end', 'pad', 'keep_attention'),
    *('length_penalty', 'coverage_penalty', 'num_best', 'on_step'),
  ],
)
def find(tables, carry, limits, source_mask, on_step=None, **options):
  """`beam_search` of sentences as `Tables.model` gives them."""
  return beam_search(
    step_of(tables, on_step),
    carry,
    batch_size=len(carry['row']),
    max_lengths=limits,
    source_mask=source_mask,
    **{'begin': BEGIN, 'end': END, 'pad': PAD, **options},
  )


def exhaustive(tables, row, alpha, beta, vocab_size):
  """(score, log P, symbols) of all sequences within the limit, best first."""
  others = [symbol for symbol in range(vocab_size) if symbol != END]
  found = []
  for length in range(tables.limits[row]):
    for symbols in itertools.product(others, repeat=length):
      symbols = (*symbols, END)
      found.append((*tables.score(row, symbols, alpha, beta), symbols))
  return sorted(found, reverse=True)


def slow_search(tables, row, beam_size, alpha, beta, banned=()):
  """Beam search with lists, always to the limit; like `exhaustive`."""
  limit = int(tables.limits[row])
  alive, finished = [(0.0, ())], []
  for place in range(limit):
    candidates = []
    for before, prefix in alive:
      for symbol, log_prob in enumerate(tables.log_probs(row, prefix)[0]):
        if symbol in banned or (place == limit - 1 and symbol != END):
          continue
        candidates.append((before + log_prob, (*prefix, symbol)))
    candidates.sort(reverse=True)
    for _, symbols in candidates[:beam_size]:
      if symbols[-1] == END:
        scores = tables.score(row, symbols, alpha, beta)
        finished.append((*scores, symbols))
    alive = [c for c in candidates if c[1][-1] != END][:beam_size]
  return sorted(finished, reverse=True)[:beam_size]


def greedy(tables, row):
  symbols = ()
  while len(symbols) < tables.limits[row] - 1:
    symbols += (int(np.argmax(tables.log_probs(row, symbols)[0])),)
    if symbols[-1] == END:
      return symbols
  return (*symbols, END)


def assert_beams(beams, row, expected):
  """Compares what was found for a row with [(score, log P, symbols)]."""
  beam_size, width = beams.symbols[row].shape
  for k in range(beam_size):
    if k >= len(expected):
      assert beams.scores[row, k] == beams.log_probs[row, k] == -np.inf
      assert beams.lengths[row, k] == 0
      assert set(beams.symbols[row, k].tolist()) == {PAD}
      continue
    score, log_prob, symbols = expected[k]
    padding = (PAD,) * (width - len(symbols))
    assert tuple(beams.symbols[row, k].tolist()) == symbols + padding
    assert beams.lengths[row, k] == len(symbols)
    assert beams.scores[row, k] == pytest.approx(score, rel=1e-5, abs=1e-5)
    assert beams.log_probs[row, k] == pytest.approx(
      log_prob, rel=1e-5, abs=1e-5
    )


def assert_same(got, expected):
  """The same hypotheses, though the arrays may have another width."""
  width = min(got.symbols.shape[-1], expected.symbols.shape[-1])
  for beams in (got, expected):
    assert (beams.symbols[..., width:] == PAD).all()
  np.testing.assert_array_equal(
    got.symbols[..., :width], expected.symbols[..., :width]
  )
  np.testing.assert_array_equal(got.lengths, expected.lengths)
  np.testing.assert_allclose(got.scores, expected.scores, 1e-6, 1e-6)
  np.testing.assert_allclose(got.log_probs, expected.log_probs, 1e-6, 1e-6)


@pytest.mark.parametrize(
  ('alpha', 'beta'), some_of(PENALTIES, (1.5, 0.0), (1.0, 0.7))
)
def test_a_wide_beam_finds_the_best_of_all_sequences(alpha, beta):
  tables = Tables(0, limits=[4, 1, 3, 2, 4], vocab_size=4)
  beams = tables.search(4**3, alpha, beta)
  for row in range(5):
    expected = exhaustive(tables, row, alpha, beta, 4)
    assert len(expected) == sum(3**n for n in range(tables.limits[row]))
    assert_beams(beams, row, expected)


@pytest.mark.parametrize(
  ('beam_size', 'alpha', 'beta'),
  some_of(
    [(size, *penalties) for size in (1, 2, 5) for penalties in PENALTIES],
    *[(1, 0.6, 0.0), (2, 0.0, 0.0), (2, 0.0, 0.3), (5, 1.5, 0.0)],
    (5, 1.0, 0.7),
  ),
)
def test_agrees_with_a_search_that_never_stops_early(alpha, beta, beam_size):
  limits = np.random.default_rng(1).integers(1, 12, 30)
  tables = Tables(beam_size, limits, vocab_size=7, scale=1.5)
  # From sentences that seldom end to those that do at once.
  tables.logits[..., END] += np.linspace(-1, 3, 30)[:, None]
  beams = tables.search(beam_size, alpha, beta)
  for row in range(30):
    expected = slow_search(tables, row, beam_size, alpha, beta)
    assert_beams(beams, row, expected)


@pytest.mark.parametrize('alpha', [0.0, 1.0])
def test_stops_early_where_nothing_can_change(alpha):
  # END is so likely that not even lp of the limit, 105 / 6, helps the rest.
  tables = Tables(2, [100, 100, 90, 80], 5, scale=1, end=4)
  beams, num_steps = tables.count(2, alpha, 0.1)
  assert 2 <= num_steps < 79
  for row in range(4):
    assert_beams(beams, row, slow_search(tables, row, 2, alpha, 0.1))


def test_those_that_are_wanted_are_found_sooner():
  limits = np.random.default_rng(1).integers(1, 12, 30)
  tables = Tables(4, limits, vocab_size=7, scale=1.5)
  tables.logits[..., END] += np.linspace(-1, 3, 30)[:, None]
  beams, most = tables.count(4, 0.2, 0.2)
  for num_best in (1, 2):
    found, num_steps = tables.count(4, 0.2, 0.2, num_best=num_best)
    for x, y in zip(found[:4], beams[:4], strict=True):
      np.testing.assert_array_equal(x[:, :num_best], y[:, :num_best])
    assert num_steps <= most


def test_one_that_is_wanted_ends_the_search():
  # END is certain enough at once, but a second hypothesis takes its time.
  tables = Tables(0, [50], vocab_size=4)
  tables.logits[0] = np.log([0.01, 0.01, 0.97, 0.01])
  counts = [tables.count(2, num_best=wanted)[1] for wanted in (1, 2)]
  assert counts[0] == 1 < counts[1]


@pytest.mark.parametrize('num_best', [0, 3])
def test_more_than_there_are_can_not_be_wanted(num_best):
  with pytest.raises(ValueError, match='num_best'):
    Tables(0, [5], vocab_size=4).search(2, num_best=num_best)


@pytest.mark.parametrize(('alpha', 'best'), [(0.0, 1), (0.5, 5)])
def test_goes_on_while_a_longer_one_may_win(alpha, best):
  # END has -0.92 at once, '1 1 1 1 END' has -1.11 / (10 / 6)^alpha; with the
  # penalty of the places so far it would look worse.
  tables = Tables(0, [5], vocab_size=4)
  tables.logits[0, state_of(())] = np.log([0.135, 0.33, 0.4, 0.135])
  for length in range(1, 5):
    tables.logits[0, state_of((1,) * length)] = [-30, 0, -30, -30]
  tables.logits[0, state_of((1,) * 4)] = [-30, -30, 0, -30]
  beams = tables.search(1, alpha)
  assert beams.lengths.tolist() == [[best]]
  assert_beams(beams, 0, slow_search(tables, 0, 1, alpha, 0))


def test_goes_on_while_the_source_may_yet_be_covered():
  # What END leaves unseen costs more than the symbol that looks there.
  tables = Tables(0, [2], vocab_size=4, num_places=2)
  tables.mask[:] = True
  tables.logits[0, state_of(())] = np.log([0.1, 0.2, 0.6, 0.1])
  tables.logits[0, state_of((1,))] = [-30, -30, 0, -30]
  tables.attention[0, state_of(())] = [0.99, 0.01]
  tables.attention[0, state_of((1,))] = [0.01, 0.99]
  beams = tables.search(1, 0.0, 1.0)
  assert beams.symbols.tolist() == [[[1, END]]]
  assert beams.scores[0, 0] == pytest.approx(np.log(0.2), abs=1e-5)


@pytest.mark.parametrize('seed', range(3))
def test_a_beam_of_one_is_greedy(seed):
  limits = np.random.default_rng(seed).integers(1, 15, 40)
  tables = Tables(seed, limits, vocab_size=6, end=1)
  beams = tables.search(1)
  lengths = set()
  for row in range(40):
    symbols = greedy(tables, row)
    assert_beams(beams, row, [(*tables.score(row, symbols, 0, 0), symbols)])
    lengths.add(len(symbols))
  assert len(lengths) > 4


def test_an_end_out_of_the_beam_does_not_finish():
  # END is second best everywhere: greedy search never meets it.
  tables = Tables(0, [6], vocab_size=4)
  tables.logits[:] = [0.0, 2.0, 1.9, 0.0]
  one = tables.search(1)
  assert one.symbols[0, 0].tolist() == [1, 1, 1, 1, 1, END]
  # A beam of two does, and finds that it is better.
  two = tables.search(2)
  assert two.symbols[0, 0].tolist() == [END] + [PAD] * 5


def test_of_equals_the_first_is_taken():
  tables = Tables(0, [3], vocab_size=4)
  tables.logits[:] = 0
  beams = tables.search(2)
  # 0 and 1 go before END; then '0 END' is the third of its place.
  assert beams.symbols[0].tolist() == [[0, 0, END], [0, 1, END]]


def test_the_last_place_is_end_at_its_probability():
  tables = Tables(3, [1, 2], vocab_size=5, end=-6)
  beams = tables.search(2)
  log_probs, _ = tables.log_probs(0, ())
  assert beams.symbols[0, 0].tolist() == [END, PAD]
  assert beams.log_probs[0, 0] == pytest.approx(log_probs[END], rel=1e-5)
  assert beams.scores[0, 1] == -np.inf
  assert beams.symbols[1, :, 1].tolist() == [END, END]


def test_begin_and_pad_are_never_written():
  tables = Tables(4, [6] * 10, vocab_size=6, end=1)
  tables.logits[..., [0, 1]] += 2
  beams = tables.search(3, 0.8, begin=1, pad=0)
  assert not (beams.symbols == 1).any()
  behind = np.arange(6) >= beams.lengths[..., None]
  np.testing.assert_array_equal(beams.symbols == 0, behind)


@pytest.mark.parametrize('begin', [END, 1])
def test_probability_of_what_is_banned_is_lost(begin):
  # Symbols 0 (PAD), 1, END and 3, alike: log P is that of a quarter each.
  tables = Tables(0, [3], vocab_size=4)
  tables.logits[:] = [0.0, 0.0, 0.0, 0.0]
  beams = tables.search(16, begin=begin, pad=0)
  found = int((beams.scores[0] > -np.inf).sum())
  free = 2 if begin == END else 1
  assert found == 1 + free + free**2
  expected = beams.lengths[0, :found] * np.log(0.25)
  np.testing.assert_allclose(beams.log_probs[0, :found], expected, 1e-5)


@pytest.mark.parametrize(('alpha', 'beta'), [slow(0.0, 0.0), (0.9, 0.4)])
def test_what_else_is_in_the_batch_changes_nothing(alpha, beta):
  tables = Tables(5, [9, 1, 5, 0, 12, 3, 7], vocab_size=8, end=1)
  search = functools.partial(
    Tables.search, beam_size=4, alpha=alpha, beta=beta, max_length=12
  )
  beams = search(tables)
  for index in ([3, 0, 5, 6, 4, 2, 1], [6, 6, 0], *([k] for k in range(7))):
    got = search(tables.rows(index))
    assert_same(got, jax.tree.map(lambda x, index=index: x[index], beams))


@pytest.mark.parametrize('junk', [0.5, np.nan])
@pytest.mark.parametrize('max_length', [12, slow(13), 40])
def test_padding_changes_nothing(max_length, junk):
  tables = Tables(5, [9, 1, 5, 0, 12, 3, 7], vocab_size=8, end=1)
  beams = tables.search(4, 0.9, 0.4)
  wide = ((0, 0), (0, 0), (0, 9))
  tables.attention = np.pad(tables.attention, wide, constant_values=junk)
  tables.mask = np.pad(tables.mask, wide[1:])
  got = tables.search(4, 0.9, 0.4, max_length=max_length)
  assert got.symbols.shape == (7, 4, max_length)
  assert_same(got, beams)


@pytest.mark.parametrize('junk', [0.0, np.nan])
def test_empty_rows_are_done_at_once(junk):
  tables = Tables(5, [9, 0, 5], vocab_size=8, end=1)
  expected = tables.rows([0, 2, 2]).search(4, 0.9, 0.4)
  tables.mask[1] = False
  tables.attention[1] = tables.logits[1] = junk
  beams = tables.search(4, 0.9, 0.4)
  assert_same(jax.tree.map(lambda x: x[[0, 2, 2]], beams), expected)
  assert_beams(beams, 1, [(0, 0, ())])
  _, num_steps = tables.rows([1, 1]).count(4, 0.9, 0.4, max_length=9)
  assert num_steps == 0


def test_limits_beyond_the_width_are_cut():
  tables = Tables(5, [9, 2], vocab_size=6, end=-3)
  got = tables.search(3, max_length=4)
  tables.limits[0] = 4
  assert_same(got, tables.search(3))


def test_scores_are_sorted_numbers_where_probabilities_underflow():
  tables = Tables(6, [15] * 10, vocab_size=6, scale=100)
  tables.attention[..., 0] = 0  # nobody ever looks at the first place
  beams = tables.search(5, 0.6, 0.2)
  assert (beams.log_probs[:, 1] < -104).any()  # e^-104 is 0 in float32
  assert np.isfinite(beams.scores).all()
  assert (np.diff(beams.scores) <= 0).all()
  assert (beams.log_probs <= 0).all()


def test_what_is_impossible_is_no_hypothesis():
  tables = Tables(6, [3], vocab_size=4)
  tables.logits[..., [0, 3]] = -np.inf
  beams = tables.search(5, 0.6, 0.2)
  assert [y[y != PAD].tolist() for y in beams.symbols[0]].count([]) == 2
  assert (beams.scores[0] > -np.inf).tolist() == [True] * 3 + [False] * 2
  tables.logits[..., END] = -np.inf
  beams = tables.search(5, 0.6, 0.2)
  assert (beams.scores == -np.inf).all()
  assert (beams.symbols == PAD).all()
  assert not beams.lengths.any()


def test_attention_is_that_of_the_symbols():
  tables = Tables(7, [9, 0, 7], vocab_size=8, end=1)
  beams = tables.search(4, 0.9, 0.4, keep_attention=True)
  assert beams.attention.shape == (3, 4, 9, 5)
  for row, k in np.ndindex(3, 4):
    length = beams.lengths[row, k]
    symbols = beams.symbols[row, k, :length].tolist()
    expected = np.zeros((9, 5))
    for place in range(length):
      expected[place] = tables.log_probs(row, symbols[:place])[1]
    np.testing.assert_allclose(beams.attention[row, k], expected, 1e-6)
  without = tables.search(4, 0.9, 0.4)
  assert without.attention is None
  assert_same(beams._replace(attention=None), without)


def test_a_model_without_attention():
  tables = Tables(8, [9, 4, 7], vocab_size=8, end=1)
  expected = tables.search(4, 0.9)
  tables.attention, tables.mask = tables.attention[..., :0], tables.mask[:, :0]
  assert_same(tables.search(4, 0.9), expected)
  assert_same(tables.search(4, 0.9, 0.4, source_mask=None), expected)


def test_without_a_mask_all_places_count():
  tables = Tables(8, [9, 4, 7], vocab_size=8, end=1)
  tables.mask[:] = True
  expected = tables.search(4, 0.9, 0.4)
  assert_same(tables.search(4, 0.9, 0.4, source_mask=None), expected)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_log_probabilities_and_half_precision_will_do(dtype):
  # Of logits that are exact in half precision.
  tables = Tables(9, [9, 4, 7], vocab_size=8, end=1)
  tables.logits = np.round(8 * tables.logits) / 8
  expected = tables.search(4, 0.9)
  if dtype == jnp.bfloat16:
    tables.logits = tables.logits.astype(dtype)
    tables.attention = tables.attention.astype(dtype)
  else:
    tables.logits = special.log_softmax(tables.logits, axis=-1)
  beams = tables.search(4, 0.9, keep_attention=True)
  assert {x.dtype.name for x in beams} == {'int32', 'float32'}
  assert_same(beams, expected)


def test_compiles_once_for_a_shape():
  tables = Tables(9, [9, 4, 7], vocab_size=8)
  find.clear_cache()
  for limits in ([9, 4, 7], [0, 20, 1]):
    tables.limits = np.array(limits, np.int32)
    tables.mask = np.arange(5) < tables.limits[:, None]
    tables.search(4, beta=0.1, max_length=20)
  assert find._cache_size() == 1


def test_shapes_are_known_without_running():
  options = dict(beam_size=4, max_length=20, keep_attention=True)
  tables = Tables(9, [9, 4, 7], vocab_size=8)
  shapes = jax.eval_shape(
    functools.partial(find, source_mask=None, **options), *tables.model()
  )
  assert {name: (x.shape, x.dtype) for name, x in shapes._asdict().items()} == {
    'symbols': ((3, 4, 20), jnp.int32),
    'scores': ((3, 4), jnp.float32),
    'log_probs': ((3, 4), jnp.float32),
    'lengths': ((3, 4), jnp.int32),
    'attention': ((3, 4, 20, 5), jnp.float32),
  }


@pytest.mark.parametrize(
  'options',
  [
    {'beam_size': 0},
    {'max_length': 0},
    {'alpha': -0.1},
    {'beta': -0.1},
    {'beta': float('nan')},
  ],
)
def test_refuses(options):
  tables = Tables(0, [3, 2], vocab_size=4)
  with pytest.raises(ValueError, match='must be at least'):
    tables.search(**{'beam_size': 2, **options})
  tables.limits = tables.limits[:, None]
  with pytest.raises(ValueError, match='max_lengths'):
    tables.search(2, max_length=3)
