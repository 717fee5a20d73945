import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hyperjax.nn import weight_changes
from tests.nn import small

NAMES = [
  'hyper_rnn',
  'hyper_rnn/full/lstm',
  'hyper_lstm',
  'ln_hyper_lstm/row_scaling/rnn',
  'ln_hyper_lstm/full/lstm',
  'hyper_lstm/full/rnn',
]
each = pytest.mark.parametrize('name', NAMES)


def by_hand(name, params, hyper_h):
  """What makes W_h of each gate of a row: d (Eq. 8), or z (Eq. 5)."""
  p = small.to_reference(params)
  found = []
  for gate in p['b_0']:
    z = p['W_hat_h'][gate] @ hyper_h + p['b_hat_h'][gate]
    found.append(z if '/full' in name else p['W_hz'][gate] @ z)
  return found


def matrices(name, params, vectors):
  """W_h of each gate, of what makes it."""
  p = small.to_reference(params)
  if '/full' in name:
    return [
      p['W_hz'][gate] @ z for gate, z in zip(p['b_0'], vectors, strict=True)
    ]
  return [
    np.diag(d) @ p['W_h'][gate]
    for gate, d in zip(p['b_0'], vectors, strict=True)
  ]


def step(name):
  """A cell, its carry before a step, and the one after."""
  cell, before = small.cell(name), small.carry(name)
  x = jax.tree.map(lambda x: x[0], cell.project(small.sequence()))
  after, _ = cell.step(before, x)
  return cell, before, after


def hyper_output(name, carry):
  h = carry[1][1] if small.hyper_is_lstm(name) else carry[1]
  return np.asarray(h, np.float64)


@each
def test_changes_are_norms_of_what_the_matrices_change_by(name):
  cell, before, after = step(name)
  params = nnx.to_pure_dict(small.split(name)[1])

  found = weight_changes.change(cell, before, after)

  num_gates = 4 if small.main_is_lstm(name) else 1
  assert found.shape == (small.BATCH, num_gates)
  for row in range(small.BATCH):
    first, second = (
      matrices(name, params, by_hand(name, params, hidden[row]))
      for hidden in (hyper_output(name, carry) for carry in (before, after))
    )
    expected = [
      np.sqrt(((b - a) ** 2).sum()) for a, b in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(found[row], expected, rtol=1e-4)
  # So that gates and rows can not be taken for each other.
  assert len(np.unique(np.round(np.asarray(found), 5))) == found.size


@each
def test_what_makes_the_weights_is_that_of_the_equations(name):
  cell, _, after = step(name)
  _, params = small.split(name)

  found = weight_changes.generated(cell, after[1])

  for row in range(small.BATCH):
    expected = by_hand(
      name, nnx.to_pure_dict(params), hyper_output(name, after)[row]
    )
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_allclose(a[row], b, rtol=1e-4, atol=1e-6)


@each
def test_nothing_changes_while_the_hyper_cell_stands_still(name):
  cell, before, after = step(name)

  assert not np.any(weight_changes.change(cell, before, before))
  main_alone = after[0], before[1]
  assert not np.any(weight_changes.change(cell, before, main_alone))
  assert np.all(weight_changes.change(cell, before, after) > 0)


def test_weights_that_are_not_generated_do_not_change():
  # As it is initialised, a hyper cell's embedding is a bias alone.
  cell, carry = small.build('hyper_lstm'), small.carry('hyper_lstm')
  other = jax.tree.map(jnp.ones_like, carry)

  assert not np.any(weight_changes.change(cell, carry, other))
