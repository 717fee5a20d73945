import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from hyperjax.errors import UserError
from hyperjax.training import sharding
from hyperjax.training.sharding import Layout
from hyperjax.types import TrainState, Variables

PARAMS = {
  'head': {'kernel': jnp.zeros((6, 8)), 'bias': jnp.zeros(8)},
  'table': jnp.zeros((5, 4, 6)),
  'odd': {'kernel': jnp.zeros((4, 7))},
}


def layout(*rules, data=2, model=4):
  return Layout(AbstractMesh((data, model), ('data', 'model')), rules)


def specs(tree):
  return jax.tree.map(lambda x: x.spec, tree)


def stacked(num_seeds):
  if num_seeds == 1:
    return PARAMS
  return jax.tree.map(lambda x: jnp.stack([x] * num_seeds), PARAMS)


@pytest.mark.parametrize('num_seeds', [1, 3])
def test_rules_split_the_last_dimensions_that_divide(num_seeds):
  lead = (None,) * (num_seeds > 1)
  rules = ('*/kernel', ('model',)), ('table', (None, 'model', 'data'))
  found = specs(
    layout(*rules).of_variables(Variables(stacked(num_seeds), {}), num_seeds)
  ).params
  assert found['head'] == {'kernel': P(*lead, None, 'model'), 'bias': P()}
  assert found['table'] == P(*lead, None, 'model', 'data')
  assert found['odd']['kernel'] == P()  # 7 does not divide by 4


def test_the_first_rule_that_matches_counts():
  rules = ('head/kernel', ('data', None)), ('*', ('model',))
  found = specs(layout(*rules).of_variables(Variables(PARAMS, {}))).params
  assert found['head'] == {'kernel': P('data'), 'bias': P('model')}


def test_an_axis_of_one_device_splits_nothing():
  found = layout(('*', ('model',)), model=1)
  assert set(
    jax.tree.leaves(
      specs(found.of_variables(Variables(PARAMS, {})).params),
      is_leaf=lambda x: isinstance(x, P),
    )
  ) == {P()}


def test_what_the_optimizer_keeps_lies_as_its_parameter():
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
  state = TrainState(
    step=jnp.int32(0),
    params=PARAMS,
    state={'seen': jnp.zeros(8)},
    carry=[jnp.zeros((6, 8)), jnp.zeros((6, 3, 3))],
    opt_state=optimizer.init(PARAMS),
    broken=jnp.int32(-1),
  )
  found = specs(layout(('*/kernel', ('model',))).of_state(state))
  assert found.opt_state[1][0].mu == found.params
  assert found.opt_state[1][0].nu['head']['kernel'] == P(None, 'model')
  assert found.opt_state[1][0].count == P()
  assert found.carry == [P('data'), P('data')]
  assert found.state == {'seen': P()}


def test_rows_are_dealt_out_where_they_divide():
  batch = {'inputs': np.zeros((6, 4)), 'length': np.int32(3)}
  assert specs(layout().of_rows(batch, 6)) == {
    'inputs': P('data'),
    'length': P(),
  }
  assert set(specs(layout(data=4).of_rows(batch, 6)).values()) == {P()}
  carry = np.zeros((3, 6, 4))  # of three seeds
  assert layout().of_rows(carry, 6, stacked=True).spec == P(None, 'data')


def test_the_rows_of_a_batch():
  batch = {'a': np.float32(2.0), 'b': np.zeros((5, 2)), 'c': np.zeros(7)}
  assert sharding.num_rows(batch) == 5
  assert sharding.num_rows({'a': np.float32(2.0)}) == 0


@pytest.mark.parametrize(
  ('rules', 'message'),
  [
    ((('*/kernel', 'model'),), 'is no rule'),
    (('*/kernel',), 'is no rule'),
    (((1, ('model',)),), 'is no rule'),
    ((('*', ('modell',)),), "'modell'; known: data, model"),
    ((('*', ('model', 'model')),), 'names an axis twice'),
  ],
)
def test_a_rule_that_is_none_is_refused(rules, message):
  with pytest.raises(UserError, match=r'config\.mesh\.rules') as error:
    sharding.build({'data': 1, 'model': 1, 'rules': rules}, batch_size=4)
  assert message in str(error.value)


def test_rules_in_lists_as_json_has_them():
  config = {'data': 0, 'model': 1, 'rules': [['*/kernel', [None, 'model']]]}
  found = sharding.build(config, batch_size=4)
  assert found.rules == (('*/kernel', (None, 'model')),)
  assert found.mesh.size == 1


def test_parts_of_a_batch_must_divide():
  config = {'data': 1, 'model': 1, 'rules': ()}
  with pytest.raises(UserError, match='accumulate_steps 4 it must be'):
    sharding.build(config, batch_size=6, accumulate_steps=4)
