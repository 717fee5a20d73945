"""Pieces of words: the vocabulary that two languages share (sentencepiece).

A model is its serialized bytes, so that it can lie in a checkpoint. Texts are
normalized as sentencepiece does by default (NFKC and single spaces); a
character that training did not see is `UNKNOWN`.
"""

import io
import random
import re
from collections.abc import Iterable, Sequence

import sentencepiece

from hyperjax.errors import UserError

PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
NUM_SPECIAL = 4
VERSION = (
  f'sentencepiece {sentencepiece.__version__}, 1'  # of what `train` does
)
MOST_LINES = 2_000_000  # that training reads; of more, a sample
# Of the characters in running text, the share that become pieces. A large
# corpus from the web has thousands that come a few times, which would take the
# places of words.
COVERAGE, COVERAGE_OF_MANY = 1.0, 0.9995
MANY_LINES = 1_000_000
SILENT = 3  # below it sentencepiece writes to stderr

sentencepiece.set_min_log_level(SILENT)


class WordPieces:
  """A model that cuts texts into pieces, and puts them together again.

  Args:
    model: sentencepiece's, serialized.
    origin: of the model, for messages.

  Raises:
    UserError: it is no such model, or its special pieces are others than ours.
  """

  PAD, UNKNOWN, BEGIN, END = PAD, UNKNOWN, BEGIN, END

  def __init__(self, model: bytes, origin: str = 'the model of pieces'):
    try:
      if not model:  # of which sentencepiece makes an empty model
        raise RuntimeError
      self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
      raise UserError(
        f'{origin}: not a sentencepiece model; give one, or leave '
        f'config.data.pieces empty to train one'
      ) from error
    found = [
      getattr(self._processor, f'{name}_id')()
      for name in ('pad', 'unk', 'bos', 'eos')
    ]
    if found != [PAD, UNKNOWN, BEGIN, END]:
      raise UserError(
        f'{origin}: the pieces of padding, unknown, begin and end are {found}; '
        f'train it with pad_id=0, unk_id=1, bos_id=2 and eos_id=3'
      )
    self.model = model
    self.vocab_size = self._processor.vocab_size()

  def encode(self, texts: Sequence[str]) -> list[list[int]]:
    """The pieces of each text, without `BEGIN` and `END`."""
    return self._processor.encode(list(texts))

  def decode(self, ids: Iterable[int]) -> str:
    """The text of pieces up to the first `END`; `PAD` and `BEGIN` are none.

    Raises:
      ValueError: a number is that of no piece.
    """
    kept = []
    for piece in map(int, ids):
      if piece == END:
        break
      if not 0 <= piece < self.vocab_size:
        raise ValueError(f'{piece} is not one of {self.vocab_size:,} pieces')
      if piece not in (PAD, BEGIN):
        kept.append(piece)
    return self._processor.decode(kept)

  def names(self, ids: Iterable[int]) -> list[str]:
    """Each piece as people read it; a blank before a word is an underline."""
    return [self._processor.id_to_piece(int(piece)) for piece in ids]


def train(lines: Iterable[str], vocab_size: int) -> WordPieces:
  """Trains a unigram model; the same lines give the same bytes.

  Of more than `MOST_LINES` lines it reads a sample, the same each time. Lines
  of more than 4,192 bytes are passed over. From `MANY_LINES` on, the rarest
  characters (5 of 10,000 in running text) become no pieces.

  Args:
    lines: of both languages.
    vocab_size: pieces, with the four special ones.

  Raises:
    UserError: the lines can not give that many pieces, or need more.
  """
  sample = _sample(lines, MOST_LINES)
  model = io.BytesIO()
  try:
    if vocab_size <= NUM_SPECIAL:
      raise UserError(
        f'config.data.vocab_size is {vocab_size:,}; it must be at least '
        f'{NUM_SPECIAL + 1}'
      )
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(sample),
      model_writer=model,
      model_type='unigram',
      vocab_size=vocab_size,
      character_coverage=(
        COVERAGE if len(sample) < MANY_LINES else COVERAGE_OF_MANY
      ),
      pad_id=PAD,
      unk_id=UNKNOWN,
      bos_id=BEGIN,
      eos_id=END,
      num_threads=1,  # sums in another order would be others
      minloglevel=SILENT,
    )
  except RuntimeError as error:
    raise UserError(_explain(str(error), vocab_size)) from error
  return WordPieces(model.getvalue())


def _sample(lines, most):
  """All lines, or as many as `most`, each as likely as any other."""
  draws, sample = random.Random(0), []
  for count, line in enumerate(lines, 1):
    if count <= most:
      sample.append(line)
    elif (place := int(draws.random() * count)) < most:
      sample[place] = line
  return sample


def _explain(message, vocab_size):
  """What a refusal of sentencepiece means for the config."""
  field = f'config.data.vocab_size is {vocab_size:,}'
  if most := re.search(r'set it to a value <= (\d+)', message):
    return (
      f'{field}, but the training text gives at most {int(most[1]):,} pieces; '
      f'make it smaller or the text longer'
    )
  if least := re.search(r'required_chars\. \d+ vs (\d+)', message):
    return (
      f'{field}, but the characters of the training text alone need '
      f'{int(least[1]):,} pieces; make it larger'
    )
  return f'{field}: sentencepiece can not train on this text ({message})'
