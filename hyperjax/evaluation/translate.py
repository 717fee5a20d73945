"""Sentences into sentences, by beam search."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hyperjax.evaluation.beam_search import beam_search
from hyperjax.training.progress import track

WIDTH = 8  # sentences are padded to multiples of it, so that few shapes occur
# A translation has at most so many pieces for each of the source, and more.
GROWTH, SPARE = 2, 10


class Pieces(Protocol):
  """What cuts texts into pieces; like `data.word_pieces.WordPieces`."""

  PAD: int
  BEGIN: int
  END: int

  def encode(self, texts: Sequence[str]) -> list[list[int]]:
    """The pieces of each text."""

  def decode(self, ids: Sequence[int]) -> str:
    """The text of pieces."""

  def names(self, ids: Sequence[int]) -> list[str]:
    """Each piece as people read it."""


class Translated(NamedTuple):
  """A translation.

  Attributes:
    text: of the best hypothesis.
    score: its score, see `beam_search`.
    source: the pieces of the sentence, END at the end.
    target: those of the translation.
    attention: float32 [T, S], over the source as each is written; or None.
  """

  text: str
  score: float
  source: list[str]
  target: list[str]
  attention: np.ndarray | None


def translate(
  model: nnx.Module,
  pieces: Pieces,
  sentences: Sequence[str],
  *,
  batch_size: int,
  beam_size: int,
  length_penalty: float,
  coverage_penalty: float,
  keep_attention: bool = False,
  unit: str = '',
) -> list[Translated]:
  """Translates sentences, those of about equal length side by side.

  Which others a sentence stands beside changes nothing. A sentence without a
  piece becomes an empty one.

  Args:
    model: like `models.seq2seq.Seq2Seq`.
    pieces: of both languages.
    sentences: any number.
    batch_size: how many side by side.
    beam_size: hypotheses of each, see `beam_search`.
    length_penalty: its alpha.
    coverage_penalty: its beta.
    keep_attention: whether the attention is wanted.
    unit: what the progress bar calls a batch; '' for no bar.

  Returns:
    The translations, in the order of the sentences.
  """
  encoded = [ids and [*ids, pieces.END] for ids in pieces.encode(sentences)]
  order = sorted(range(len(encoded)), key=lambda k: (len(encoded[k]), k))
  batches = [
    order[start : start + batch_size]
    for start in range(0, len(order), batch_size)
  ]
  graph, variables = nnx.split(model)
  search = jax.jit(
    functools.partial(
      _search,
      graph,
      special=(pieces.PAD, pieces.BEGIN, pieces.END),
      beam_size=beam_size,
      length_penalty=length_penalty,
      coverage_penalty=coverage_penalty,
      keep_attention=keep_attention,
    )
  )
  found: dict[int, Translated] = {}
  for places in track(batches, unit=f'{unit} batch') if unit else batches:
    longest = max(len(encoded[k]) for k in places)
    width = max(-(-longest // WIDTH) * WIDTH, WIDTH)
    source = np.full((batch_size, width), pieces.PAD, np.int32)
    for row, k in zip(source, places, strict=False):
      row[: len(encoded[k])] = encoded[k]
    best = jax.device_get(search(variables, source))
    for row, k in enumerate(places):
      found[k] = _read(best, row, encoded[k], pieces)
  return [found[k] for k in range(len(encoded))]


def _search(
  graph, variables, source, *, special, beam_size, keep_attention, **penalties
):
  """The best hypothesis of each row [B, S], as `Beams` without the axis K."""
  pad, begin, end = special
  model = nnx.merge(graph, variables)
  mask = source != pad
  rows, width = source.shape
  memory = model.encode(source, mask)
  # The hypotheses of a sentence read the same.
  memory = jax.tree.map(lambda x: jnp.repeat(x, beam_size, axis=0), memory)

  def step(carry, symbols):
    carry, logits, attention = model.decode(carry, memory, symbols[:, None])
    return carry, logits[:, 0], attention[:, 0]

  lengths = jnp.sum(mask, axis=1)
  beams = beam_search(
    step,
    model.initial_carry(rows),
    batch_size=rows,
    beam_size=beam_size,
    max_lengths=jnp.where(lengths > 0, GROWTH * lengths + SPARE, 0),
    max_length=GROWTH * width + SPARE,
    begin=begin,
    end=end,
    pad=pad,
    source_mask=mask,
    keep_attention=keep_attention,
    **penalties,
  )
  return jax.tree.map(lambda x: x[:, 0], beams)


def _read(best: Any, row: int, source: list[int], pieces: Pieces) -> Translated:
  length = int(best.lengths[row])
  target = best.symbols[row, :length].tolist()
  attention = best.attention
  if attention is not None:
    attention = attention[row, :length, : len(source)]
  return Translated(
    text=pieces.decode(target),
    score=float(best.scores[row]),
    source=pieces.names(source),
    target=pieces.names(target),
    attention=attention,
  )
