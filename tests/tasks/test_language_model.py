import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import parts
from hyperjax.errors import UserError
from hyperjax.tasks.language_model import generate


@pytest.fixture(scope='module')
def lm(make_tiny_config):
  config = make_tiny_config()
  config.model.cell = 'ln_lstm'
  config.data.vocab_size = 11
  task = parts.build_task(config)
  params, state = jax.jit(task.init)(jax.random.key(0))
  params = jax.tree.map(lambda x: 2 * np.asarray(x), params)
  return task, params, state


def window(shape=(3, 5)):
  inputs, targets = np.random.default_rng(0).integers(11, size=(2, *shape))
  return {'inputs': inputs.astype(np.int32), 'targets': targets}


@functools.lru_cache
def logits_of(task):
  """(params, state, symbols) -> logits; compiled once for a shape."""

  @jax.jit
  def run(params, state, symbols):
    return task.merge((params, state))(task.carry(len(symbols)), symbols)[1]

  return run


def test_the_loss_is_the_mean_of_minus_log_p(lm):
  task, params, state = lm
  batch = window()
  loss, aux = jax.jit(task.loss)(
    params, state, task.carry(3), batch, jax.random.key(0)
  )
  logits = logits_of(task)(params, state, batch['inputs'])
  logits = np.asarray(logits, np.float64)
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  nats = -np.log(np.take_along_axis(p, batch['targets'][..., None], -1))
  assert float(loss) == pytest.approx(nats.mean(), rel=1e-5)
  assert aux.metrics['loss_nats'].read() == pytest.approx(float(loss))
  assert aux.metrics['bits_per_char'].read() == pytest.approx(
    float(loss) / np.log(2), rel=1e-6
  )


def test_a_mask_leaves_predictions_out(lm):
  task, params, state = lm
  batch = window() | {'mask': np.arange(5) < np.array([[5], [2], [0]])}
  measure = jax.jit(task.metrics)
  _, metrics = measure(params, state, task.carry(3), batch)
  mean = metrics['bits_per_char']
  assert float(mean.weight) == 7
  changed = batch | {'targets': np.where(batch['mask'], batch['targets'], 0)}
  _, again = measure(params, state, task.carry(3), changed)
  assert float(again['bits_per_char'].total) == float(mean.total)


def test_the_carry_is_made_without_weights(lm):
  task, _, _ = lm
  shapes = jax.eval_shape(lambda: task.carry(4))
  assert [leaf.shape for leaf in jax.tree.leaves(shapes)] == [(4, 12)] * 2


def test_logits_know_no_future(lm):
  task, params, state = lm
  symbols = window()['inputs']
  logits = logits_of(task)(params, state, symbols)
  changed = symbols.copy()
  changed[:, 3] = (changed[:, 3] + 1) % 11
  other = logits_of(task)(params, state, changed)
  np.testing.assert_array_equal(logits[:, :3], other[:, :3])
  assert not np.allclose(logits[:, 3], other[:, 3])


def test_greedy_text_is_the_argmax_again_and_again(lm):
  task, params, state = lm
  model = task.merge((params, state))
  prompt, text = np.array([1, 2, 3]), np.zeros(9, int)
  text[:3] = prompt
  for place in range(3, 9):
    logits = logits_of(task)(params, state, text[None])
    text[place] = np.argmax(logits[0, place - 1])
  found = generate(model, prompt, 6, jax.random.key(0), temperature=0)
  np.testing.assert_array_equal(found, text[3:])
  found = generate(model, prompt, 6, jax.random.key(5), top_k=1)
  np.testing.assert_array_equal(found, text[3:])


def test_symbols_are_drawn_as_often_as_is_probable(lm):
  task, params, state = lm
  model = task.merge((params, state))
  prompt = jnp.array([4, 5])
  logits = logits_of(task)(params, state, prompt[None])
  for temperature, top_k in ((1.0, 0), (0.5, 0), (1.0, 3)):
    scaled = np.asarray(logits[0, -1], np.float64) / temperature
    if top_k:
      scaled[np.argsort(scaled)[:-top_k]] = -np.inf
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    draw = jax.vmap(
      lambda key, t=temperature, k=top_k: generate(
        model, prompt, 1, key, temperature=t, top_k=k
      )[0]
    )
    drawn = draw(jax.random.split(jax.random.key(0), 4000))
    share = np.bincount(drawn, minlength=11) / 4000
    # Four standard deviations of a share, and none where p is zero.
    assert (np.abs(share - p) <= 4 * np.sqrt(p * (1 - p) / 4000)).all()


def test_text_that_is_no_utf8_can_be_shown(lm):
  task, params, state = lm
  request = {
    'prompt': 'a',
    'length': 30,
    'temperature': 1.0,
    'top_k': 0,
    'seed': 0,
  }
  alphabet = [*b'a', *range(200, 210)]
  variables = (params, state)
  text = task.sample(variables, request, {'alphabet': alphabet})
  assert text.startswith('a')
  with pytest.raises(UserError, match=r"config\.sample\.prompt.*'z'"):
    task.sample(variables, request | {'prompt': 'az'}, {'alphabet': alphabet})
