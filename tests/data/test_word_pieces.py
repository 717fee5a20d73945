import io
import os

import pytest
import sentencepiece

from hyperjax.data import word_pieces
from hyperjax.data.word_pieces import BEGIN, END, PAD, UNKNOWN, WordPieces
from hyperjax.errors import UserError

WORDS = [
  *('the', 'cat', 'sat', 'on', 'a', 'mat', 'dogs', 'were', 'running', 'home'),
  *('le', 'chat', 'est', 'assis', 'sur', 'un', 'tapis', 'rouge', 'maison'),
]
LINES = [
  ' '.join(WORDS[k * m % 19] for m in (1, k, 7, 11)) + '.' for k in range(300)
]


@pytest.fixture(scope='module')
def pieces():
  return word_pieces.train(LINES, 38)


def refusal(call, *arguments):
  with pytest.raises(UserError) as error:
    call(*arguments)
  message = str(error.value)
  assert message and '\n' not in message
  return message


def test_a_text_comes_back(pieces):
  assert pieces.vocab_size == 38
  encoded = pieces.encode(['the cat sat.', '', '  un   chat '])
  assert all(isinstance(piece, int) for piece in encoded[0])
  assert encoded[1] == []
  assert all(BEGIN < piece < 38 for piece in encoded[0] + encoded[2])
  assert [pieces.decode(ids) for ids in encoded] == [
    *('the cat sat.', '', 'un chat'),
  ]


def test_decoding_ends_at_the_end_and_passes_over_padding(pieces):
  [ids] = pieces.encode(['the cat'])
  [more] = pieces.encode(['on'])
  assert pieces.decode([BEGIN, PAD, *ids, END, *more]) == 'the cat'
  assert pieces.decode([END, *ids]) == pieces.decode([]) == ''
  with pytest.raises(ValueError, match='38 is not one of 38'):
    pieces.decode([38])
  with pytest.raises(ValueError, match='-1'):
    pieces.decode([-1])


def test_special_pieces_are_not_written_in_texts(pieces):
  assert (pieces.PAD, pieces.UNKNOWN, pieces.BEGIN, pieces.END) == (0, 1, 2, 3)
  found = {
    piece for ids in pieces.encode(['</s><pad> <s>', '日']) for piece in ids
  }
  assert UNKNOWN in found
  assert not found & {PAD, BEGIN, END}
  assert pieces.names([PAD, BEGIN, END]) == ['<pad>', '<s>', '</s>']


def test_the_same_lines_give_the_same_bytes(pieces, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  again = word_pieces.train(iter(LINES), 38)
  assert again.model == pieces.model
  assert word_pieces.train(LINES[:-9], 38).model != pieces.model
  assert word_pieces.train(LINES, 37).model != pieces.model
  assert os.fsencode(tmp_path) not in again.model
  assert not list(tmp_path.iterdir())


def test_a_model_is_its_bytes(pieces):
  copy = WordPieces(pieces.model)
  assert copy.encode(LINES) == pieces.encode(LINES)
  assert copy.vocab_size == 38


def test_training_is_silent(capfd):
  word_pieces.train(LINES, 38)
  refusal(word_pieces.train, LINES, 6000)
  refusal(WordPieces, b'no model')
  refusal(WordPieces, b'')
  assert capfd.readouterr() == ('', '')


def test_vocabularies_out_of_reach_are_refused():
  message = refusal(word_pieces.train, LINES, 6_000)
  assert message.startswith('config.data.vocab_size is 6,000, but the training')
  most = int(message.split('at most ')[1].split()[0].replace(',', ''))
  assert word_pieces.train(LINES, most).vocab_size == most
  message = refusal(word_pieces.train, LINES, 10)
  assert message.startswith('config.data.vocab_size is 10, but the characters')
  least = int(message.split('alone need ')[1].split()[0])
  assert word_pieces.train(LINES, least).vocab_size == least
  for size in (4, 0, -1):
    assert f'vocab_size is {size}; it must' in refusal(
      word_pieces.train, LINES, size
    )


def test_every_character_of_a_small_text_is_a_piece():
  lines = [*LINES, 'ß']
  [ids] = word_pieces.train(lines, 38).encode(['ß'])
  assert UNKNOWN not in ids


def test_a_large_corpus_is_sampled(monkeypatch):
  whole = word_pieces.train(LINES, 32).model
  monkeypatch.setattr(word_pieces, 'MOST_LINES', 150)
  first, second = (word_pieces.train(iter(LINES), 32).model for _ in range(2))
  assert first == second != whole
  # From all of it, not the beginning alone.
  assert first != word_pieces.train(LINES[:150], 32).model
  sample = word_pieces._sample(map(str, range(10_000)), 1_000)
  assert len(set(sample)) == 1_000
  assert 4_500 < sum(map(int, sample)) / 1_000 < 5_500


def test_what_is_no_model_of_ours_is_named():
  for content in (b'', b'garbage', b'\x00' * 30):
    message = refusal(WordPieces, content, 'a.model')
    assert message.startswith('a.model: not a sentencepiece model')
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(LINES),
    model_writer=model,
    vocab_size=36,
    minloglevel=3,
  )
  message = refusal(WordPieces, model.getvalue(), 'a.model')
  assert '[-1, 0, 1, 2]' in message
  assert 'pad_id=0' in message
