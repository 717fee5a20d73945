"""Predicting the next symbol of a text, in bits per character."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from hyperjax.errors import UserError
from hyperjax.evaluation import count_model
from hyperjax.tasks.functional import Functional
from hyperjax.training.metrics import Mean, mean_of
from hyperjax.types import Aux, Batch, Carry, Metrics, PyTree, Variables


class LanguageModel:
  """The task: `loss` is the mean of -ln p over the window's predictions.

  Args:
    make_model: (vocab_size, key) -> a module like `models.char_lm.CharLM`.
    vocab_size: number of symbols.
  """

  objective = 'bits_per_char'

  def __init__(self, make_model: Callable[..., nnx.Module], vocab_size: int):
    self._model = Functional(
      lambda key: make_model(vocab_size=vocab_size, key=key)
    )
    self._vocab_size = vocab_size

  def init(self, key: Array) -> Variables:
    """Fresh parameters."""
    return self._model.init(key)

  def merge(self, variables: Variables) -> nnx.Module:
    """The model as a Flax module."""
    return self._model.merge(*variables)

  def carry(self, batch_size: int) -> Carry:
    """The zero carry of `batch_size` streams; made without weights."""
    return self._model.abstract.initial_carry(batch_size)

  def loss(
    self,
    params: PyTree,
    state: PyTree,
    carry: Carry,
    batch: Batch,
    key: Array,
  ) -> tuple[Array, Aux]:
    """Nats per symbol of a window [B, T], with dropout."""
    model = self._model.merge(params, state)
    carry, logits = model(carry, batch['inputs'], key)
    nats = optax.softmax_cross_entropy_with_integer_labels(
      logits, batch['targets']
    )
    loss = mean_of(nats)
    aux = Aux(
      self._model.state_of(model),
      carry,
      {'loss_nats': loss, 'bits_per_char': _bits(loss)},
      loss.weight,
    )
    return loss.total / loss.weight, aux

  def metrics(
    self, params: PyTree, state: PyTree, carry: Carry, batch: Batch
  ) -> tuple[Carry, Metrics]:
    """Bits per character over the window, where the mask is true."""
    model = self._model.merge(params, state)
    carry, logits = model(carry, batch['inputs'])
    nats = optax.softmax_cross_entropy_with_integer_labels(
      logits, batch['targets']
    )
    return carry, {'bits_per_char': _bits(mean_of(nats, batch['mask']))}

  def references(self, source: Any, split: str) -> dict[str, float]:
    """What count models reach on the same split, in bits per character."""
    symbols = source.symbols
    return {
      'unigram entropy': count_model.unigram_bits(symbols[split]),
      'order-3 count model': count_model.order_n_bits(
        symbols['train'], symbols[split], self._vocab_size, order=3
      ),
    }

  def sample(
    self,
    variables: Variables,
    request: Mapping[str, Any],
    meta: Mapping[str, Any],
  ) -> str:
    """Text behind a prompt.

    Args:
      variables: of a trained model.
      request: prompt (str), length (symbols to draw), temperature (0 takes
        the most probable symbol), top_k (0 for all symbols), seed.
      meta: of the data: its alphabet.

    Returns:
      The prompt and what the model wrote behind it.
    """
    alphabet = bytes(meta['alphabet'])
    prompt = _encode(request['prompt'], alphabet)
    symbols = generate(
      self.merge(variables),
      prompt,
      request['length'],
      jax.random.key(request['seed']),
      temperature=request['temperature'],
      top_k=request['top_k'],
    )
    text = bytes(alphabet[s] for s in symbols.tolist())
    return request['prompt'] + text.decode('utf-8', errors='replace')


def generate(
  model: nnx.Module,
  prompt: Array,
  length: int,
  key: Array,
  *,
  temperature: float = 1.0,
  top_k: int = 0,
) -> Array:
  """Draws `length` symbols after the prompt [P]; returns them, int32 [length].

  Args:
    model: a language model like `models.char_lm.CharLM`.
    prompt: at least one symbol.
    length: how many to draw.
    key: PRNG key.
    temperature: divides the logits; 0 takes the most probable symbol.
    top_k: draw from the k most probable symbols; 0 means from all.
  """
  graph, variables = nnx.split(model)

  @jax.jit
  def run(variables, prompt, key):
    def draw(state, key):
      carry, logits = state
      symbol = _draw(logits, key, temperature, top_k)
      carry, logits = nnx.merge(graph, variables)(carry, symbol[None, None])
      return (carry, logits[0, -1]), symbol

    model = nnx.merge(graph, variables)
    carry, logits = model(model.initial_carry(1), prompt[None])
    state = carry, logits[0, -1]
    return jax.lax.scan(draw, state, jax.random.split(key, length))[1]

  return run(variables, prompt, key)


def _draw(logits, key, temperature, top_k):
  if temperature == 0:
    return jnp.argmax(logits)
  if top_k:
    least = jnp.sort(logits)[-min(top_k, logits.shape[-1])]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  return jax.random.categorical(key, logits / temperature)


def _bits(nats: Mean) -> Mean:
  return Mean(nats.total / math.log(2), nats.weight)


def _encode(prompt, alphabet):
  if not isinstance(prompt, str):  # of a model's folder, which anyone may edit
    raise UserError(f'config.sample.prompt is {prompt!r}; it must be text')
  text = prompt.encode('utf-8', errors='surrogateescape')
  if not text:
    raise UserError('config.sample.prompt is empty; give at least a character')
  unknown = sorted({bytes([b]) for b in text if b not in alphabet})
  if unknown:
    raise UserError(
      f'config.sample.prompt: the model knows no '
      f'{b" ".join(unknown).decode(errors="replace")!r}; its symbols are '
      f'{alphabet.decode(errors="replace")!r}'
    )
  return jnp.array([alphabet.index(b) for b in text], jnp.int32)


def build(
  *, make_model: Callable[..., nnx.Module], data: Mapping[str, Any]
) -> LanguageModel:
  """The task for `config.data.vocab_size` symbols."""
  if not isinstance(data.get('vocab_size'), int):
    raise UserError('config.data.vocab_size: the language model needs this')
  return LanguageModel(make_model, data['vocab_size'])
