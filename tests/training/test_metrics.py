import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.training.metrics import Mean, mean_of, merge, read


def test_a_mean_is_total_over_weight():
  mean = mean_of(jnp.array([[1.0, 2.0], [3.0, 6.0]]))
  assert (float(mean.total), float(mean.weight)) == (12.0, 4.0)
  assert mean.read() == 3.0


def test_a_mask_leaves_values_out():
  values = jnp.array([[1.0, 2.0], [3.0, 6.0]])
  mean = mean_of(values, jnp.array([[True, False], [False, True]]))
  assert (float(mean.total), float(mean.weight)) == (7.0, 2.0)
  assert mean.read() == 3.5


def test_a_mask_may_be_of_integers():
  assert mean_of(jnp.array([1.0, 2.0, 9.0]), jnp.array([1, 1, 0])).read() == 1.5


def test_what_the_mask_leaves_out_may_be_anything():
  values = jnp.array([1.0, 2.0, 99.0, -99.0])
  assert mean_of(values, jnp.array([True, True, False, False])).read() == 1.5


def test_a_mean_of_nothing_is_nan():
  mean = mean_of(jnp.ones(3), jnp.zeros(3, bool))
  assert float(mean.weight) == 0
  assert math.isnan(mean.read())


def test_a_nan_among_the_values_shows():
  assert math.isnan(mean_of(jnp.array([1.0, jnp.nan])).read())


@pytest.mark.parametrize('cuts', [(), (1,), (9,), (3, 4, 8), (2, 2, 5)])
def test_merging_parts_gives_the_mean_of_the_whole(cuts):
  # Parts of unequal sizes, so that a mean of means would be another number.
  values = np.array([5, 1, 4, 1, 7, 2, 8, 0, 9, 30], np.float32)
  mask = np.array([1, 1, 0, 1, 1, 0, 1, 1, 1, 1], bool)
  parts = zip(np.split(values, cuts), np.split(mask, cuts), strict=True)
  means = [mean_of(jnp.array(v), jnp.array(m)) for v, m in parts]
  total = means[0]
  for mean in means[1:]:
    total = total.merge(mean)
  assert float(total.weight) == 8
  assert total.read() == pytest.approx(values[mask].mean())


def test_a_merge_with_nothing_changes_nothing():
  mean = mean_of(jnp.array([1.0, 2.0]))
  nothing = mean_of(jnp.ones(2), jnp.zeros(2, bool))
  assert mean.merge(nothing).read() == nothing.merge(mean).read() == 1.5


def test_means_pass_through_jit_and_scan():
  values = jnp.arange(12.0).reshape(4, 3)
  mask = values % 2 == 0

  @jax.jit
  def total(values, mask):
    def add(mean, row):
      return mean.merge(mean_of(*row)), None

    zero = Mean(jnp.float32(0), jnp.float32(0))
    return jax.lax.scan(add, zero, (values, mask))[0]

  mean = total(values, mask)
  assert isinstance(mean, Mean)
  assert mean.read() == 5.0


def test_dictionaries_are_merged_and_read_by_name():
  first = {'a_nats': Mean(2.0, 1.0), 'b_bits': Mean(3.0, 3.0)}
  second = {'a_nats': Mean(4.0, 2.0), 'b_bits': Mean(9.0, 1.0)}
  both = merge(first, second)
  assert read(both, 'valid') == {'valid/a_nats': 2.0, 'valid/b_bits': 3.0}
  assert read(first, 'train')['train/a_nats'] == 2.0  # left as it was
