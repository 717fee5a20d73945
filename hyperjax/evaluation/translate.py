"""Sentences into sentences, by beam search."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np

from hyperjax.evaluation.beam_search import Beams
from hyperjax.training.progress import track

WIDTH = 8  # sentences are padded to multiples of it, so that few shapes occur
# Pieces of sentences, int32 [B, S], PAD behind END -> their hypotheses.
Search = Callable[[np.ndarray], Beams]


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
  search: Search,
  pieces: Pieces,
  sentences: Sequence[str],
  batch_size: int,
  *,
  unit: str = '',
) -> list[Translated]:
  """Translates sentences, those of about equal length side by side.

  A sentence without a piece becomes an empty one.

  Args:
    search: finds the hypotheses; called with a few widths S.
    pieces: of both languages.
    sentences: any number.
    batch_size: how many side by side, B.
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
  found: dict[int, Translated] = {}
  for places in track(batches, unit=f'{unit} batch') if unit else batches:
    longest = max(len(encoded[k]) for k in places)
    width = max(-(-longest // WIDTH) * WIDTH, WIDTH)
    source = np.full((batch_size, width), pieces.PAD, np.int32)
    for row, k in zip(source, places, strict=False):
      row[: len(encoded[k])] = encoded[k]
    beams = jax.device_get(search(source))
    for row, k in enumerate(places):
      found[k] = _read(beams, row, encoded[k], pieces)
  return [found[k] for k in range(len(encoded))]


def _read(
  beams: Beams, row: int, source: list[int], pieces: Pieces
) -> Translated:
  """The best hypothesis of a row."""
  length = int(beams.lengths[row, 0])
  target = beams.symbols[row, 0, :length].tolist()
  attention = beams.attention
  if attention is not None:
    attention = attention[row, 0, :length, : len(source)]
  return Translated(
    text=pieces.decode(target),
    score=float(beams.scores[row, 0]),
    source=pieces.names(source),
    target=pieces.names(target),
    attention=attention,
  )
