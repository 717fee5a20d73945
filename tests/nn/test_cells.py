import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.nn.unroll import unroll
from hyperjax.ops.onehot import one_hot
from tests.nn import reference, small

every_cell = pytest.mark.parametrize('name', small.NAMES)
every_hyper_cell = pytest.mark.parametrize('name', small.NAMES[2:])

run = small.jit(
  lambda graph, params, carry, xs, key=None: unroll(
    nnx.merge(graph, params), carry, xs, key
  ),
  static_argnums=0,
)


# The equations.


@every_cell
def test_forward_equals_the_reference(name):
  graph, params = small.split(name)
  carry, xs = small.carry(name), small.sequence()

  actual_carry, actual = run(graph, params, carry, xs)

  expected_carry, expected = reference.unroll(
    small.to_reference(nnx.to_pure_dict(params)),
    small.to_reference_carry(carry),
    xs,
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
  for a, b in zip(
    small.to_reference_carry(actual_carry), expected_carry, strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@every_cell
def test_forward_from_the_initial_values_equals_the_reference(name):
  graph, params = nnx.split(small.build(name))
  carry = nnx.merge(graph, params).initial_carry(small.BATCH)
  assert all(not np.any(x) for x in jax.tree.leaves(carry))
  xs = small.sequence()

  _, actual = run(graph, params, carry, xs)

  _, expected = reference.unroll(
    small.to_reference(nnx.to_pure_dict(params)),
    small.to_reference_carry(carry),
    xs,
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@every_cell
def test_gradient_equals_finite_differences_of_the_reference(name):
  graph, params = small.split(name)
  at = (nnx.to_pure_dict(params), small.carry(name), small.sequence())
  shapes = jax.eval_shape(run, graph, params, *at[1:])
  weights = small.random_like(shapes, seed=3)

  @small.jit
  def gradient(params, carry, xs):
    _, pull_back = jax.vjp(
      lambda *args: unroll(nnx.merge(graph, args[0]), *args[1:]),
      params,
      carry,
      xs,
    )
    return pull_back(weights)

  reference_weights = (
    *small.to_reference_carry(weights[0]),
    np.asarray(weights[1], np.float64),
  )

  def loss(params, carry, xs):
    carry, hs = reference.unroll(
      small.to_reference(params), small.to_reference_carry(carry), xs
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
    # A direction that meets every entry, and three entries by themselves.
    directions = [rng.normal(size=grad.shape)]
    for entry in rng.choice(grad.size, size=3, replace=False):
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
      # What is left is float32's rounding: 4e-7 when this was written.
      scale = np.linalg.norm(grad) * np.linalg.norm(direction)
      error = abs(np.sum(grad * direction) - expected) / scale
      assert error < 5e-6, (named[k][0], error)


@every_cell
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


@every_cell
def test_gradient_is_causal_and_rows_do_not_mix(name):
  graph, params = small.split(name)
  carry, xs = small.carry(name), small.sequence(time=4)
  weights = small.random_like(np.zeros(small.HIDDEN), seed=5)

  def outputs(xs):
    _, hs = unroll(nnx.merge(graph, params), carry, xs)
    return hs @ weights

  jacobian = small.jit(jax.jacrev(outputs))(xs)  # [T, B, T, B, input_size]

  size = np.abs(jacobian).max(axis=-1)
  for (t, b, s, b_x), value in np.ndenumerate(size):
    if s > t or b != b_x:
      assert value == 0, (t, b, s, b_x)
    else:
      assert value > 1e-5, (t, b, s, b_x)


# Recurrent dropout.


@every_cell
def test_dropout_falls_on_the_candidate_of_the_main_cell_alone(name):
  batch = 8
  cell = small.cell(name, keep_prob=0.6)
  carry = small.carry(name, batch)
  x = small.sequence(1, batch)

  @small.jit
  def step(carry, x, key):
    inputs = jax.tree.map(lambda y: y[0], cell.project(x))
    return cell.step(carry, inputs, key)

  new_carry, h = step(carry, x, jax.random.key(7))

  params = small.to_reference(nnx.to_pure_dict(nnx.state(cell)))
  start = small.to_reference_carry(carry)
  shape = (1, batch, small.HIDDEN)
  without, _ = reference.unroll(params, start, x, np.zeros(shape))
  kept, _ = reference.unroll(params, start, x, np.full(shape, 1 / 0.6))
  actual = small.to_reference_carry(new_carry)
  was_kept = np.abs(actual[1] - kept[1]) < np.abs(actual[1] - without[1])
  assert 0 < was_kept.sum() < was_kept.size
  keep = was_kept[None] / 0.6
  expected, hs = reference.unroll(params, start, x, keep)
  np.testing.assert_allclose(h, hs[0], rtol=1e-5, atol=1e-6)
  for a, b in zip(actual, expected, strict=True):  # the hyper cell's too
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@every_cell
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
  cell = small.build('lstm', keep_prob=keep_prob)
  cell.recurrent.kernel[...] = jnp.zeros_like(cell.recurrent.kernel)
  cell.input.kernel[...] = jnp.ones_like(cell.input.kernel)
  cell.gates.bias[...] = np.array([[0], [0], [-1e3], [0]]) * np.ones(
    (4, small.HIDDEN)
  )
  xs = jnp.ones((20, 20, small.INPUT))
  _, hs = run(*nnx.split(cell), cell.initial_carry(20), xs, key)
  return np.asarray(hs)


def test_dropout_draws_every_step_row_and_unit_anew():
  hs = mask_of_dropout(0.7, jax.random.key(9))

  kept = hs != 0
  # 2,400 draws: the standard error of the share is 0.009.
  assert abs(kept.mean() - 0.7) < 0.04
  for axis in range(3):  # neighbours agree with probability 0.7^2 + 0.3^2
    first, second = (
      kept.take(range(a, kept.shape[axis] - 1 + a), axis) for a in (0, 1)
    )
    assert abs((first == second).mean() - 0.58) < 0.06, axis
  candidate = np.tanh(3.0) / 0.7 / (1 + np.exp(-3.0))
  expected = np.tanh(candidate) / (1 + np.exp(-3.0))
  np.testing.assert_allclose(hs[kept], expected, rtol=1e-5)


def test_dropout_is_a_function_of_the_key():
  one, same, other = (
    mask_of_dropout(0.7, jax.random.key(seed)) for seed in (10, 10, 11)
  )

  np.testing.assert_array_equal(one, same)
  assert np.mean((one != 0) != (other != 0)) > 0.3  # 2 * 0.7 * 0.3 = 0.42


# Initial values (paper, A.2.3).


def blocks(kernel):
  return np.split(np.asarray(kernel), 4, axis=1)


def assert_gates_are_orthogonal(kernel):
  for block in blocks(kernel):
    rows, columns = block.shape
    gram = block @ block.T if rows < columns else block.T @ block
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
  for k in range(3):  # drawn anew for each gate
    assert np.abs(blocks(kernel)[k] - blocks(kernel)[k + 1]).max() > 0.1


@every_cell
def test_main_kernels_start_orthogonal_in_each_gate(name):
  cell = small.build(name)

  assert cell.input.kernel.shape == (small.INPUT, 4 * small.HIDDEN)
  assert cell.recurrent.kernel.shape == (small.HIDDEN, 4 * small.HIDDEN)
  assert_gates_are_orthogonal(cell.input.kernel[...])
  assert_gates_are_orthogonal(cell.recurrent.kernel[...])


@every_hyper_cell
def test_hyper_kernels_start_orthogonal_in_each_gate(name):
  cell = small.build(name)
  # Of h and x together: the parts alone have no orthonormal columns.
  feedback, inputs = cell.feedback.kernel[...], cell.hyper.input.kernel[...]

  assert_gates_are_orthogonal(jnp.concatenate([feedback, inputs]))
  assert_gates_are_orthogonal(cell.hyper.recurrent.kernel[...])
  part = blocks(feedback)[0]
  assert np.abs(part.T @ part - np.eye(small.HYPER)).max() > 1e-2


@every_hyper_cell
def test_row_scales_start_at_a_tenth_whatever_the_hyper_cell_says(name):
  z_size = 4
  cell = small.build(name, z_size=z_size)
  h_hyper = small.random_like(np.zeros((3, small.HYPER)), seed=6)

  for scale in (cell.scale_h, cell.scale_x):
    assert not np.any(scale.embedding.kernel[...])
    assert np.all(scale.embedding.bias[...] == 1)
    assert np.all(scale.kernel[...] == np.float32(0.1 / z_size))
    assert scale.bias is None
    d = scale(h_hyper)
    assert d.shape == (3, 4, small.HIDDEN)
    np.testing.assert_allclose(d, 0.1, rtol=1e-6)


@every_hyper_cell
def test_shift_starts_at_zero_with_small_random_embeddings(name):
  cell = small.build(name, z_size=128)
  shift = cell.shift

  embedding = np.asarray(shift.embedding.kernel[...])  # 2,048 draws
  assert abs(embedding.std() / 0.01 - 1) < 0.06
  assert abs(embedding.mean()) < 1e-3
  assert shift.embedding.bias is None
  assert not np.any(shift.kernel[...])
  assert not np.any(shift.bias[...])
  assert not np.any(shift(small.random_like(np.zeros((3, small.HYPER)), 6)))


@every_cell
def test_biases_start_at_zero_and_layer_norms_at_the_identity(name):
  cell = small.build(name)
  lstms = [cell.hyper] if 'hyper' in name else [cell]

  if name.startswith('ln'):
    norms = [n for lstm in lstms for n in (lstm.gates, lstm.norm_cell)]
    norms += [cell.norm_gates, cell.norm_cell] if 'hyper' in name else []
    for norm in norms:
      assert np.all(norm.scale[...] == 1)
      assert not np.any(norm.bias[...])
  else:
    assert all(not np.any(lstm.gates.bias[...]) for lstm in lstms)
    assert cell.norm_cell is None


def test_keys_give_different_cells():
  one, same, other = (
    nnx.state(small.build('hyper_lstm', seed=seed)) for seed in (0, 0, 1)
  )

  assert jax.tree.all(jax.tree.map(np.array_equal, one, same))
  for cell in ('input', 'recurrent', 'feedback'):
    assert not np.allclose(one[cell].kernel[...], other[cell].kernel[...])


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


@every_cell
def test_no_parameter_is_weakly_typed(name):
  """A weak type hardens in the first update, and the step compiles anew."""
  leaves = jax.tree.leaves(nnx.state(small.build(name)))
  assert not any(leaf.aval.weak_type for leaf in leaves)
