import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from hyperjax.nn.unroll import unroll
from hyperjax.ops.onehot import one_hot
from tests.nn import reference, small

# Of generated matrices, and a hyper cell of another kind than the main one.
MIXED = (*small.FULL, 'hyper_lstm/row_scaling/rnn')
every_cell = pytest.mark.parametrize('name', small.NAMES)
every_pairing = pytest.mark.parametrize(
  'name', small.some_of(small.NAMES + small.PAIRINGS, *small.NAMES, *MIXED)
)
every_hyper_cell = pytest.mark.parametrize(
  'name', small.HYPER_NAMES + small.PAIRINGS
)
each_kind = pytest.mark.parametrize(
  'name', small.some_of(('rnn', 'ln_hyper_lstm', *MIXED), 'lstm', *small.FULL)
)
every_lstm = pytest.mark.parametrize(
  'name',
  small.some_of(('lstm', small.FULL[1]), 'ln_lstm', 'hyper_lstm'),
)

run = jax.jit(
  lambda graph, params, carry, xs, key=None: unroll(
    nnx.merge(graph, params), carry, xs, key
  ),
  static_argnums=0,
)


# The equations.


@every_pairing
def test_forward_equals_the_reference(name):
  graph, params = small.split(name)
  carry, xs = small.carry(name), small.sequence()

  actual_carry, actual = run(graph, params, carry, xs)

  expected_carry, expected = reference.unroll(
    small.to_reference(nnx.to_pure_dict(params)),
    small.to_reference_carry(name, carry),
    xs,
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
  for a, b in zip(
    small.to_reference_carry(name, actual_carry), expected_carry, strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@every_pairing
def test_forward_from_the_initial_values_equals_the_reference(name):
  graph, params = small.initial(name, seed=0)
  carry = nnx.merge(graph, params).initial_carry(small.BATCH)
  assert all(not np.any(x) for x in jax.tree.leaves(carry))
  xs = small.sequence()

  _, actual = run(graph, params, carry, xs)

  _, expected = reference.unroll(
    small.to_reference(nnx.to_pure_dict(params)),
    small.to_reference_carry(name, carry),
    xs,
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  'name',
  small.some_of(
    small.NAMES + small.FULL, 'ln_rnn', 'lstm', 'ln_hyper_lstm', small.FULL[0]
  ),
)
def test_gradient_equals_finite_differences_of_the_reference(name):
  graph, params = small.split(name)
  at = (nnx.to_pure_dict(params), small.carry(name), small.sequence())
  shapes = jax.eval_shape(run, graph, params, *at[1:])
  weights = small.random_like(shapes, seed=3)

  @jax.jit
  def gradient(params, carry, xs):
    _, pull_back = jax.vjp(
      lambda *args: unroll(nnx.merge(graph, args[0]), *args[1:]),
      params,
      carry,
      xs,
    )
    return pull_back(weights)

  reference_weights = (
    *small.to_reference_carry(name, weights[0]),
    np.asarray(weights[1], np.float64),
  )

  def loss(params, carry, xs):
    carry, hs = reference.unroll(
      small.to_reference(params), small.to_reference_carry(name, carry), xs
    )
    terms = zip((*carry, hs), reference_weights, strict=True)
    return sum(np.sum(x * w) for x, w in terms)

  grads = gradient(params, *at[1:])
  grads = (nnx.to_pure_dict(grads[0]), *grads[1:])
  named, tree = jax.tree.flatten_with_path(at)
  leaves = [np.asarray(x, np.float64) for _, x in named]
  rng = np.random.default_rng(4)
  epsilon = 1e-5  # in float64: truncation and rounding are both near 1e-10

  for k, grad in enumerate(jax.tree.leaves(grads)):
    grad = np.asarray(grad, np.float64)
    # A direction that meets every entry, and a few entries by themselves.
    directions = [rng.normal(size=grad.shape)]
    for entry in rng.choice(grad.size, size=min(3, grad.size), replace=False):
      directions.append(np.eye(grad.size)[entry].reshape(grad.shape))
    assert np.linalg.norm(grad) > 1e-3, named[k][0]  # else this shows nothing
    for direction in directions:
      moved = [
        jax.tree.unflatten(
          tree, [*leaves[:k], leaves[k] + sign * direction, *leaves[k + 1 :]]
        )
        for sign in (epsilon, -epsilon)
      ]
      expected = (loss(*moved[0]) - loss(*moved[1])) / (2 * epsilon)
      # What is left is float32's rounding: up to 1e-5 when this was written,
      # for layer norms of few units amplify it. The package's own gradients in
      # float64, at the same point, came to 1e-7 of these.
      scale = np.linalg.norm(grad) * np.linalg.norm(direction)
      error = abs(np.sum(grad * direction) - expected) / scale
      assert error < 3e-5, (named[k][0], error)


@each_kind
def test_one_hot_input_equals_the_written_out_vectors(name):
  graph, params = small.split(name)
  carry = small.carry(name)
  index = jnp.asarray([[0, 2], [1, 1], [2, 0], [2, 1], [0, 0]])
  dense = jax.nn.one_hot(index, small.INPUT)

  def gradient(
    xs,
  ):  # one-hot or not, what `project` returns is all that differs
    inputs, pull_back = jax.vjp(
      lambda params: nnx.merge(graph, params).project(xs), params
    )
    return pull_back(small.random_like(inputs, seed=5))

  _, actual = run(graph, params, carry, one_hot(index))

  _, expected = run(graph, params, carry, dense)
  np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)
  for a, b in zip(
    *(jax.tree.leaves(gradient(xs)) for xs in (one_hot(index), dense)),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@each_kind
def test_gradient_is_causal_and_rows_do_not_mix(name):
  graph, params = small.split(name)
  carry, xs = small.carry(name), small.sequence(time=4)
  weights = small.random_like(np.zeros(small.HIDDEN), seed=5)

  def outputs(xs):
    _, hs = unroll(nnx.merge(graph, params), carry, xs)
    return hs @ weights

  jacobian = jax.jit(jax.jacrev(outputs))(xs)  # [T, B, T, B, input_size]

  size = np.abs(jacobian).max(axis=-1)
  for (t, b, s, b_x), value in np.ndenumerate(size):
    if s > t or b != b_x:
      assert value == 0, (t, b, s, b_x)
    else:
      assert value > 1e-5, (t, b, s, b_x)


# Recurrent dropout.


@every_lstm
def test_dropout_falls_on_the_candidate_of_the_main_cell_alone(name):
  batch = 8
  cell = small.cell(name, keep_prob=0.6)
  carry = small.carry(name, batch)
  x = small.sequence(1, batch)

  @jax.jit
  def step(carry, x, key):
    inputs = jax.tree.map(lambda y: y[0], cell.project(x))
    return cell.step(carry, inputs, key)

  new_carry, h = step(carry, x, jax.random.key(7))

  params = small.to_reference(nnx.to_pure_dict(nnx.state(cell)))
  start = small.to_reference_carry(name, carry)
  shape = (1, batch, small.HIDDEN)
  without, _ = reference.unroll(params, start, x, keep=np.zeros(shape))
  kept, _ = reference.unroll(params, start, x, keep=np.full(shape, 1 / 0.6))
  actual = small.to_reference_carry(name, new_carry)
  was_kept = np.abs(actual[1] - kept[1]) < np.abs(actual[1] - without[1])
  assert 0 < was_kept.sum() < was_kept.size
  keep = was_kept[None] / 0.6
  expected, hs = reference.unroll(params, start, x, keep=keep)
  np.testing.assert_allclose(h, hs[0], rtol=1e-5, atol=1e-6)
  for a, b in zip(actual, expected, strict=True):  # the hyper cell's too
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@every_lstm
def test_dropout_needs_a_key_and_a_keep_prob_below_one(name):
  carry, xs, key = small.carry(name), small.sequence(), jax.random.key(8)
  graph, params = small.split(name, keep_prob=0.7)
  always, _ = small.split(name)

  _, without = run(always, params, carry, xs)
  _, no_key = run(graph, params, carry, xs)
  _, dropped = run(graph, params, carry, xs, key)
  _, kept = run(always, params, carry, xs, key)

  np.testing.assert_array_equal(no_key, without)
  np.testing.assert_array_equal(kept, without)
  assert np.abs(dropped - without).max() > 1e-2


def mask_of_dropout(keep_prob, key):
  """Outputs of an LSTM without memory: zero where the candidate fell."""
  cell = small.memoryless_lstm(keep_prob=keep_prob)
  xs = jnp.ones((20, 20, small.INPUT))
  _, hs = run(*nnx.split(cell), cell.initial_carry(20), xs, key)
  return np.asarray(hs)


def assert_drawn_anew(mask, rate):
  """All elements of [T, B, H] independent, and true at this rate."""
  # Of 2,400 draws: the standard error of a share is 0.01.
  assert mask.shape == (20, 20, small.HIDDEN)
  assert abs(mask.mean() - rate) < 0.04
  agreement = rate**2 + (1 - rate) ** 2  # of neighbours
  for axis in range(3):
    first, second = (
      mask.take(range(a, mask.shape[axis] - 1 + a), axis) for a in (0, 1)
    )
    assert abs((first == second).mean() - agreement) < 0.06, axis


def test_dropout_draws_every_step_row_and_unit_anew():
  hs = mask_of_dropout(0.7, jax.random.key(9))

  kept = hs != 0
  assert_drawn_anew(kept, 0.7)
  candidate = np.tanh(3.0) / 0.7 / (1 + np.exp(-3.0))
  expected = np.tanh(candidate) / (1 + np.exp(-3.0))
  np.testing.assert_allclose(hs[kept], expected, rtol=1e-5)


def test_dropout_is_a_function_of_the_key():
  one, same, other = (
    mask_of_dropout(0.7, jax.random.key(seed)) for seed in (10, 10, 11)
  )

  np.testing.assert_array_equal(one, same)
  assert np.mean((one != 0) != (other != 0)) > 0.3  # 2 * 0.7 * 0.3 = 0.42


@functools.partial(jax.jit, static_argnums=0)
def states(graph, params, carry, xs, key=None):
  """The carries before and after every step, and the outputs."""
  cell = nnx.merge(graph, params)
  keys = None if key is None else jax.random.split(key, len(xs))

  def step(carry, x):
    after, h = cell.step(carry, *x)
    return after, (carry, after, h)

  return lax.scan(step, carry, (cell.project(xs), keys))[1]


lstm_makes_the_weights = pytest.mark.parametrize(
  'name', ['hyper_rnn/full/lstm', 'ln_hyper_lstm']
)


@lstm_makes_the_weights
def test_hyper_dropout_falls_on_the_candidate_of_the_hyper_cell(name):
  batch = 8
  graph, params = small.split(name, hyper_keep_prob=0.6)
  carry, xs = small.carry(name, batch), small.sequence(1, batch)

  _, after, hs = states(graph, params, carry, xs, jax.random.key(7))

  params = small.to_reference(nnx.to_pure_dict(params))
  start = small.to_reference_carry(name, carry)
  actual = [x[0] for x in small.to_reference_carry(name, after)]
  without, kept = (
    reference.unroll(params, start, xs, hyper_keep=keep)[0][-1]
    for keep in (0.0, 1 / 0.6)
  )
  was_kept = np.abs(actual[-1] - kept) < np.abs(actual[-1] - without)
  assert 0 < was_kept.sum() < was_kept.size
  expected, expected_hs = reference.unroll(
    params, start, xs, hyper_keep=was_kept[None] / 0.6
  )
  np.testing.assert_allclose(hs, expected_hs, rtol=1e-5, atol=1e-6)
  for a, b in zip(actual, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@lstm_makes_the_weights
def test_hyper_dropout_needs_a_key(name):
  graph, params = small.split(name, hyper_keep_prob=0.6)
  always, _ = small.split(name)
  carry, xs = small.carry(name), small.sequence()

  _, no_key = run(graph, params, carry, xs)
  _, dropped = run(graph, params, carry, xs, jax.random.key(8))

  np.testing.assert_array_equal(no_key, run(always, params, carry, xs)[1])
  assert np.abs(dropped - no_key).max() > 1e-3


def test_main_and_hyper_cell_have_masks_of_their_own():
  cell = small.build(
    'hyper_lstm', keep_prob=0.5, hyper_keep_prob=0.5, hyper_size=small.HIDDEN
  )
  xs = small.sequence(20, 20)
  # With nothing remembered c is zero exactly where the candidate fell.
  step = jax.jit(
    jax.vmap(
      lambda x, key: cell.step(cell.initial_carry(20), x, key), out_axes=0
    )
  )

  (main, hyper), _ = step(
    cell.project(xs), jax.random.split(jax.random.key(1), 20)
  )

  masks = [np.asarray(c == 0) for c, _ in (main, hyper)]
  for mask in masks:
    assert_drawn_anew(mask, 0.5)
  assert abs(np.mean(masks[0] == masks[1]) - 0.5) < 0.06


# Zoneout.

every_main_cell = pytest.mark.parametrize('name', ['rnn', 'lstm', *small.FULL])


def zoneout_of(name):
  options = {'zoneout_h': 0.3}
  return options | ({'zoneout_c': 0.4} if small.main_is_lstm(name) else {})


def zones(**rates):
  """Rates, or masks, under the reference's names."""
  return {option.replace('out', ''): rate for option, rate in rates.items()}


@every_main_cell
def test_zoneout_keeps_values_of_the_main_cell_as_they_were(name):
  batch, options = 8, zoneout_of(name)
  graph, params = small.split(name, **options)
  carry, xs = small.carry(name, batch), small.sequence(4, batch)
  key = jax.random.key(3)

  before, after, hs = states(graph, params, carry, xs, key)

  before, after = (small.to_reference_carry(name, x) for x in (before, after))
  stayed = [a == b for a, b in zip(before, after, strict=True)]
  masks = zones(**dict(zip(options, stayed, strict=False)))
  for mask, rate in zip(masks.values(), options.values(), strict=True):
    assert abs(mask.mean() - rate) < 0.14  # 192 draws: standard error 0.035
  assert not np.any(stayed[len(masks) :])  # none of the hyper cell
  np.testing.assert_array_equal(hs, after[0])
  expected, expected_hs = reference.unroll(
    small.to_reference(nnx.to_pure_dict(params)),
    small.to_reference_carry(name, carry),
    xs,
    **masks,
  )
  # Float32 against float64, over four steps.
  np.testing.assert_allclose(hs, expected_hs, rtol=1e-5, atol=1e-6)
  for a, b in zip(after, expected, strict=True):
    np.testing.assert_allclose(a[-1], b, rtol=1e-5, atol=1e-6)
  _, unrolled = run(graph, params, carry, xs, key)
  np.testing.assert_allclose(unrolled, hs, rtol=1e-5, atol=1e-6)


@every_main_cell
def test_zoneout_without_a_key_is_the_mean_over_masks(name):
  options = zoneout_of(name)
  graph, params = small.split(name, **options)
  carry, xs = small.carry(name), small.sequence()

  actual, hs = run(graph, params, carry, xs)

  expected, expected_hs = reference.unroll(
    small.to_reference(nnx.to_pure_dict(params)),
    small.to_reference_carry(name, carry),
    xs,
    **zones(**options),
  )
  np.testing.assert_allclose(hs, expected_hs, rtol=1e-5, atol=1e-6)
  for a, b in zip(
    small.to_reference_carry(name, actual), expected, strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', ['rnn', 'hyper_rnn'])
def test_a_key_changes_nothing_where_nothing_is_random(name):
  graph, params = small.split(name)
  carry, xs = small.carry(name), small.sequence()

  np.testing.assert_array_equal(
    run(graph, params, carry, xs, jax.random.key(0))[1],
    run(graph, params, carry, xs)[1],
  )


def test_zoneout_draws_every_step_row_and_unit_anew():
  graph, params = small.split('lstm', zoneout_c=0.3, zoneout_h=0.4)
  carry, xs = small.carry('lstm', 20), small.sequence(20, 20)

  def masks(seed):
    before, after, _ = states(graph, params, carry, xs, jax.random.key(seed))
    return [np.asarray(a == b) for a, b in zip(before, after, strict=True)]

  of_c, of_h = masks(0)

  assert_drawn_anew(of_c, 0.3)
  assert_drawn_anew(of_h, 0.4)
  # Independent of each other: 0.3 * 0.4 + 0.7 * 0.6.
  assert abs((of_c == of_h).mean() - 0.54) < 0.06
  for mask, same, other in zip((of_c, of_h), masks(0), masks(1), strict=True):
    np.testing.assert_array_equal(mask, same)
    assert np.mean(mask != other) > 0.3


def test_zoneout_and_dropout_have_masks_of_their_own():
  cell = small.memoryless_lstm(keep_prob=0.5, zoneout_c=0.5, zoneout_h=0.5)
  old = jnp.full((400, small.HIDDEN), 7.0)

  _, (c, h), _ = states(
    *nnx.split(cell),
    (old, old),
    jnp.ones((1, 400, small.INPUT)),
    jax.random.key(2),
  )

  # 2,400 draws: the standard error of a share is 0.01.
  for state in (c, h):
    assert abs(np.mean(state == 7) - 0.5) < 0.05
    assert abs(np.mean(state == 0) - 0.25) < 0.05  # the candidate fell
  assert abs(np.mean((c == 7) == (h == 7)) - 0.5) < 0.05


# Initial values (paper, A.2.3).


def initial(name):
  return nnx.merge(*small.initial(name, seed=0))


def blocks(kernel, num_gates):
  return np.split(np.asarray(kernel), num_gates, axis=1)


def assert_gates_are_orthogonal(kernel, num_gates):
  gates = blocks(kernel, num_gates)
  for block in gates:
    rows, columns = block.shape
    gram = block @ block.T if rows < columns else block.T @ block
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
  for first, second in itertools.pairwise(gates):
    assert np.abs(first - second).max() > 0.1  # drawn anew for each gate


def num_gates_of(name):
  return 4 if small.main_is_lstm(name) else 1


@every_cell
def test_main_kernels_start_orthogonal_in_each_gate(name):
  cell, num_gates = initial(name), num_gates_of(name)
  cell = cell.main if 'hyper' in name else cell

  width = num_gates * small.HIDDEN
  assert cell.input.kernel.shape == (small.INPUT, width)
  assert cell.recurrent.kernel.shape == (small.HIDDEN, width)
  assert_gates_are_orthogonal(cell.input.kernel[...], num_gates)
  assert_gates_are_orthogonal(cell.recurrent.kernel[...], num_gates)


@every_hyper_cell
def test_hyper_kernels_start_orthogonal_in_each_gate(name):
  cell = initial(name)
  num_gates = 4 if small.hyper_is_lstm(name) else 1
  # Of h and x together: the parts alone have no orthonormal columns.
  feedback, inputs = cell.feedback.kernel[...], cell.hyper.input.kernel[...]

  assert feedback.shape == (small.HIDDEN, num_gates * small.HYPER)
  assert_gates_are_orthogonal(jnp.concatenate([feedback, inputs]), num_gates)
  assert_gates_are_orthogonal(cell.hyper.recurrent.kernel[...], num_gates)
  part = blocks(feedback, num_gates)[0]
  assert np.abs(part.T @ part - np.eye(small.HYPER)).max() > 1e-2


@every_hyper_cell
def test_embeddings_start_at_one_whatever_the_hyper_cell_says(name):
  cell = initial(name)

  for weights in (cell.weights_h, cell.weights_x):
    weights = weights if 'full' in name else weights.vectors
    assert not np.any(weights.embedding.kernel[...])
    assert np.all(weights.embedding.bias[...] == 1)


@pytest.mark.parametrize('name', small.HYPER_NAMES)
def test_row_scales_start_at_a_tenth_whatever_the_hyper_cell_says(name):
  z_size = 4
  cell = small.build(name, z_size=z_size)
  h_hyper = small.random_like(np.zeros((3, small.HYPER)), seed=6)

  for scale in (cell.weights_h.vectors, cell.weights_x.vectors):
    assert np.all(scale.kernel[...] == np.float32(0.1 / z_size))
    assert scale.bias is None
    ds = scale(h_hyper)
    assert [d.shape for d in ds] == [(3, small.HIDDEN)] * num_gates_of(name)
    np.testing.assert_allclose(ds, 0.1, rtol=1e-6)


@pytest.mark.parametrize('name', ['hyper_rnn/full/rnn', 'hyper_lstm/full/lstm'])
def test_whole_generated_matrices_start_as_large_as_an_orthogonal_one(name):
  size, z_size, num_gates = 32, 4, num_gates_of(name)
  cell = small.build(name, hidden_size=size, z_size=z_size)
  kernels = {'h': cell.main.recurrent.kernel, 'x': cell.main.input.kernel}

  params = small.to_reference(nnx.to_pure_dict(nnx.state(cell)))

  matrices = []
  for v, rows in (('h', size), ('x', small.INPUT)):
    assert kernels[v].shape == (rows, z_size * num_gates * size)
    scaled = np.sqrt(z_size) * np.asarray(kernels[v][...])
    assert_gates_are_orthogonal(scaled, z_size * num_gates)
    for y, generator in params[f'W_{v}z'].items():
      z = params[f'b_hat_{v}'][y]  # for the rest of the embedding is zero
      matrices.append(generator @ z)
      # The squared norm of an orthogonal matrix is its rank. That of the sum
      # differs from it by the products of different terms, whose traces have
      # variance rank / size each: standard deviation 1.2 sqrt(rank / size).
      rank = min(matrices[-1].shape)
      off = np.sum(matrices[-1] ** 2) - rank
      assert abs(off) < 5 * np.sqrt(rank / size), (v, y)
  for first, second in itertools.pairwise(matrices):
    if first.shape == second.shape:
      assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize('name', small.HYPER_NAMES)
def test_shift_starts_at_zero_with_small_random_embeddings(name):
  num_gates, z_size = num_gates_of(name), 128
  cell = small.build(name, z_size=z_size, hyper_size=16 // num_gates)
  shift = cell.shift

  embedding = np.asarray(shift.embedding.kernel[...])  # 2,048 draws
  assert embedding.size == 2048
  assert abs(embedding.std() / 0.01 - 1) < 0.06
  assert abs(embedding.mean()) < 1e-3
  assert shift.embedding.bias is None
  assert not np.any(shift.kernel[...])
  assert not np.any(shift.bias[...])
  h_hyper = small.random_like(np.zeros((3, 16 // num_gates)), 6)
  assert not np.any(shift(h_hyper))


@every_cell
def test_biases_start_at_zero_and_layer_norms_at_the_identity(name):
  cell = initial(name)
  main, plain = (cell.main, cell.hyper) if 'hyper' in name else (None, cell)

  if name.startswith('ln'):
    for part in (plain, main) if main else (plain,):
      norms = [part.norm_gates]
      norms += [part.norm_cell] if hasattr(part, 'norm_cell') else []
      assert len(norms) == (2 if part.num_gates == 4 else 1)
      for norm in norms:
        assert np.all(norm.scale[...] == 1)
        assert not np.any(norm.bias[...])
      assert part.norm_gates.scale.shape[0] == part.num_gates
      assert part.bias is None
  else:
    assert plain.bias.bias.size
    assert not np.any(plain.bias.bias[...])
    assert plain.norm_gates is None
  if main:
    assert main.bias is None  # b_0 is in the shift


def test_keys_give_different_cells():
  one, same, other = (
    nnx.state(small.build('hyper_lstm', seed=seed)) for seed in (0, 0, 1)
  )

  assert jax.tree.all(jax.tree.map(np.array_equal, one, same))
  for state in (
    lambda s: s['main']['input'],
    lambda s: s['main']['recurrent'],
    lambda s: s['feedback'],
    lambda s: s['hyper']['recurrent'],
    lambda s: s['shift']['embedding'],
  ):
    assert not np.allclose(state(one).kernel[...], state(other).kernel[...])


# Numbers of parameters (paper, 4.3; x is 50 symbols): rows of the table less
# the softmax's 50,050.


@pytest.mark.parametrize(
  ('name', 'sizes', 'count'),
  [
    ('lstm', {}, 4_254_050),
    ('lstm', {'hidden_size': 1250}, 6_567_550 - 62_550 + 50_050),
    ('ln_lstm', {}, 4_260_050),
    ('hyper_lstm', {'hyper_size': 128, 'z_size': 4}, 4_911_874),
    ('ln_hyper_lstm', {'hyper_size': 128, 'z_size': 4}, 4_922_642),
  ],
)
def test_parameter_count(name, sizes, count):
  sizes = {'input_size': 50, 'hidden_size': 1000, **sizes}
  cell = nnx.eval_shape(lambda: small.build(name, **sizes))
  leaves = jax.tree.leaves(nnx.state(cell))
  assert sum(x.size for x in leaves) + 50_050 == count


@every_hyper_cell
def test_parameter_count_of_a_hyper_cell_is_that_of_its_equations(name):
  x, h, s, z = 50, 20, 7, 3
  sizes = dict(input_size=x, hidden_size=h, hyper_size=s, z_size=z)
  gates = num_gates_of(name)
  hyper_gates = 4 if small.hyper_is_lstm(name) else 1
  expected = hyper_gates * s * (h + x + s)
  expected += 2 * gates * (s * z + z) + gates * s * z  # z_h, z_x; z_b
  expected += gates * (h * z + h)  # W_bz, b_0
  matrices = gates * (h * h + h * x)
  if 'full' in name:
    expected += z * matrices
  else:
    expected += matrices + 2 * gates * h * z  # W_hz, W_xz
  if name.startswith('ln'):  # gains and biases, c's in an LSTM too
    for size, n in ((h, gates), (s, hyper_gates)):
      expected += 2 * size * (n + (n == 4))
  else:
    expected += hyper_gates * s

  cell = nnx.eval_shape(lambda: small.build(name, **sizes))

  leaves = jax.tree.leaves(nnx.state(cell))
  assert sum(leaf.size for leaf in leaves) == expected


@pytest.mark.parametrize(
  ('name', 'count'),
  [('rnn', 50 * 20 + 20 * 20 + 20), ('ln_rnn', 50 * 20 + 20 * 20 + 40)],
)
def test_parameter_count_of_a_basic_cell(name, count):
  leaves = jax.tree.leaves(
    nnx.state(small.build(name, input_size=50, hidden_size=20))
  )
  assert sum(leaf.size for leaf in leaves) == count


@every_pairing
def test_no_parameter_is_weakly_typed(name):
  """A weak type hardens in the first update, and the step compiles anew."""
  _, params = small.initial(name, seed=0)
  leaves = jax.tree.leaves(params)
  assert not any(leaf.aval.weak_type for leaf in leaves)
