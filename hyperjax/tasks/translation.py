"""Translating sentences, in nats per word piece and in BLEU."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from hyperjax.data import translation
from hyperjax.data.files import find, read_bytes
from hyperjax.data.word_pieces import BEGIN, END, PAD
from hyperjax.errors import UserError
from hyperjax.evaluation.beam_search import Beams, beam_search
from hyperjax.evaluation.bleu import corpus_bleu
from hyperjax.evaluation.translate import translate
from hyperjax.pictures.attention import AttentionPictures
from hyperjax.tasks.functional import Functional
from hyperjax.training.metrics import mean_of
from hyperjax.types import Aux, Batch, Carry, Metrics, PyTree, Variables

STDIN = '-'
# A translation has at most so many pieces for each of the source, and more.
GROWTH, SPARE = 2, 10


class Translation:
  """The task: `loss` is the mean of -ln p over the pieces of the targets.

  Args:
    make_model: (vocab_size, key) -> a module like `models.seq2seq.Seq2Seq`.
    vocab_size: number of word pieces.
    label_smoothing: this share of the target is spread over all pieces; in
      training alone.
  """

  objective = 'nats_per_piece'

  def __init__(
    self,
    make_model: Callable[..., nnx.Module],
    vocab_size: int,
    label_smoothing: float = 0.0,
  ):
    self._model = Functional(
      lambda key: make_model(vocab_size=vocab_size, key=key)
    )
    self._smoothing = label_smoothing
    # So that all splits share what is compiled.
    self._make_search = functools.cache(
      functools.partial(make_search, self.merge)
    )

  def init(self, key: Array) -> Variables:
    """Fresh parameters."""
    return self._model.init(key)

  def merge(self, variables: Variables) -> nnx.Module:
    """The model as a Flax module."""
    return self._model.merge(*variables)

  def carry(self, batch_size: int) -> Carry:
    """Nothing is carried on from batch to batch: sentences are whole."""
    del batch_size
    return ()

  def loss(
    self,
    params: PyTree,
    state: PyTree,
    carry: Carry,
    batch: Batch,
    key: Array,
  ) -> tuple[Array, Aux]:
    """Nats per piece of sentences [B, S] and [B, T], with dropout."""
    model = self._model.merge(params, state)
    nats, spread, mask = _nats(model, batch, key)
    loss = mean_of(nats, mask)
    smooth = mean_of(spread, mask)
    share = self._smoothing
    scalar = (1 - share) * loss.total + share * smooth.total
    # A batch of padding alone is no batch.
    weight = jnp.maximum(loss.weight, 1.0)
    aux = Aux(self._model.state_of(model), carry, _metrics(loss), loss.weight)
    return scalar / weight, aux

  def metrics(
    self, params: PyTree, state: PyTree, carry: Carry, batch: Batch
  ) -> tuple[Carry, Metrics]:
    """Nats per piece, END among them, where the target is no padding."""
    nats, _, mask = _nats(self._model.merge(params, state), batch)
    return carry, _metrics(mean_of(nats, mask))

  def measure_generated(
    self,
    variables: Variables,
    source: Any,
    split: str,
    request: Mapping[str, Any],
  ) -> dict[str, float]:
    """BLEU of a split's translations, detokenised, in percent.

    Args:
      variables: of a trained model.
      source: whose `texts` gives the sentences.
      split: of the source.
      request: see `sample`.
    """
    sentences, references = zip(*source.texts(split), strict=True)
    found = self._translate(variables, sentences, request, source.meta, split)
    hypotheses = [translated.text for translated in found]
    return {'bleu': corpus_bleu(hypotheses, references)[0]}

  def generation_protocol(self, request: Mapping[str, Any]) -> str:
    """How `measure_generated` does it, in words."""
    return (
      f'BLEU by beam {request["beam_size"]}, length penalty '
      f'{request["length_penalty"]:g}, coverage penalty '
      f'{request["coverage_penalty"]:g}, sacrebleu {corpus_bleu([""], [""])[1]}'
    )

  def check_sample(
    self, request: Mapping[str, Any], meta: Mapping[str, Any]
  ) -> None:
    """Raises `UserError` where `sample` would; see there."""
    del meta
    if request['path'] == STDIN:
      raise UserError(
        "config.sample.path: '-' is for --mode=sample; a training run "
        'translates a file, or config.sample.text'
      )
    _sentences(request)

  def sample(
    self,
    variables: Variables,
    request: Mapping[str, Any],
    meta: Mapping[str, Any],
  ) -> 'str | AttentionPictures':
    """Translations, a line each.

    Args:
      variables: of a trained model.
      request: path (a file with a sentence a line; '-' is standard input; ''
        takes text instead), text (a sentence a line), beam_size,
        length_penalty and coverage_penalty (of `evaluation.beam_search`),
        batch_size (sentences side by side), attention (whether to draw it).
      meta: of the data: its pieces.

    Returns:
      The translations; with attention, what draws them.

    Raises:
      UserError: the file is missing or no text.
    """
    sentences = _sentences(request)
    found = self._translate(
      variables, sentences, request, meta, keep_attention=request['attention']
    )
    if not request['attention']:
      return '\n'.join(translated.text for translated in found)
    return AttentionPictures('translation', found)

  def _translate(
    self, variables, sentences, request, meta, unit='', keep_attention=False
  ):
    search = self._make_search(
      beam_size=request['beam_size'],
      length_penalty=request['length_penalty'],
      coverage_penalty=request['coverage_penalty'],
      keep_attention=keep_attention,
    )
    pieces = translation.pieces_of(meta)
    return translate(
      functools.partial(search, variables),
      pieces,
      sentences,
      request['batch_size'],
      unit=unit,
    )


def make_search(
  merge: Callable[[Variables], nnx.Module], *, beam_size: int, **options: Any
) -> Callable[[Variables, np.ndarray], Beams]:
  """Builds `search(variables, source)`: int32 [B, S] -> `Beams`; jitted.

  PAD stands behind the END of a sentence. What else is in a batch, and padding,
  change nothing of a translation.

  Args:
    merge: variables -> a module like `models.seq2seq.Seq2Seq`.
    beam_size: hypotheses of each sentence, see `beam_search`.
    **options: length_penalty, coverage_penalty and keep_attention of it.
  """

  @jax.jit
  def search(variables, source):
    model = merge(variables)
    mask = source != PAD
    rows, width = source.shape
    # The hypotheses of a sentence read the same.
    memory = jax.tree.map(
      lambda x: jnp.repeat(x, beam_size, axis=0), model.encode(source, mask)
    )

    def step(carry, symbols):
      carry, logits, attention = model.decode(carry, memory, symbols[:, None])
      return carry, logits[:, 0], attention[:, 0]

    lengths = jnp.sum(mask, axis=1)
    return beam_search(
      step,
      model.initial_carry(rows),
      batch_size=rows,
      beam_size=beam_size,
      max_lengths=jnp.where(lengths > 0, GROWTH * lengths + SPARE, 0),
      max_length=GROWTH * width + SPARE,
      begin=BEGIN,
      end=END,
      pad=PAD,
      source_mask=mask,
      num_best=1,
      **options,
    )

  return search


def _nats(model, batch, key=None):
  """-ln p of each piece, its mean over the vocabulary, and what counts."""
  source, target = batch['source'], batch['target']
  encode_key, decode_key = (
    (None, None) if key is None else jax.random.split(key)
  )
  memory = model.encode(source, source != PAD, encode_key)
  begun = jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=BEGIN)
  _, logits, _ = model.decode(
    model.initial_carry(len(target)), memory, begun, decode_key
  )
  nats = optax.softmax_cross_entropy_with_integer_labels(logits, target)
  spread = jax.nn.logsumexp(logits, -1) - jnp.mean(logits, -1)
  return nats, spread, target != PAD


def _metrics(loss) -> Metrics:
  return {'nats_per_piece': loss}


def _sentences(request) -> Sequence[str]:
  """The lines to translate."""
  path = request['path']
  if path == STDIN:
    content = sys.stdin.buffer.read()
  elif path:
    content = read_bytes(find('config.sample.path', path))
  else:
    content = request['text'].encode('utf-8', 'surrogateescape')
  try:
    text = content.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    line = content[: error.start].count(b'\n') + 1
    raise UserError(
      f'{path or "config.sample.text"}: line {line} is not UTF-8; convert it'
    ) from error
  if not text.strip():
    raise UserError(
      f'{path or "config.sample.text"}: there is no text to translate'
    )
  lines = text.split('\n')
  lines = lines[:-1] if lines[-1] == '' else lines
  return [line.removesuffix('\r') for line in lines]


def build(
  *,
  make_model: Callable[..., nnx.Module],
  data: Mapping[str, Any],
  label_smoothing: float = 0.0,
) -> Translation:
  """The task for `config.data.vocab_size` word pieces.

  Args:
    make_model: see `Translation`.
    data: `config.data`.
    label_smoothing: see `Translation`.
  """
  if not isinstance(data.get('vocab_size'), int):
    raise UserError('config.data.vocab_size: translation needs this')
  if not 0 <= label_smoothing < 1:
    raise UserError(
      f'config.task.label_smoothing is {label_smoothing}; it must be at least '
      f'0 and below 1'
    )
  return Translation(make_model, data['vocab_size'], label_smoothing)
