import collections
import math

import pytest

from hyperjax.evaluation.bleu import corpus_bleu

REFERENCES = [
  'The cat sat on the mat in the old house .',
  'There is nothing new under the sun today .',
]
HYPOTHESES = [
  'The cat sat on a mat in the old house .',
  'There is nothing new under the moon .',
]


def slow_bleu(hypotheses, references):
  """Papineni et al. 2002: of words split at spaces, up to four in a row."""
  counts = collections.Counter()
  for pair in zip(hypotheses, references, strict=True):
    words = [text.split() for text in pair]
    for n in range(1, 5):
      hypothesis, reference = (
        collections.Counter(zip(*(w[k:] for k in range(n)), strict=False))
        for w in words
      )
      counts['right', n] += (hypothesis & reference).total()
      counts['all', n] += hypothesis.total()
    counts['hypotheses'] += len(words[0])
    counts['references'] += len(words[1])
  logs = [math.log(counts['right', n] / counts['all', n]) for n in range(1, 5)]
  brevity = min(0, 1 - counts['references'] / counts['hypotheses'])
  return 100 * math.exp(sum(logs) / 4 + brevity)


def test_agrees_with_the_formula():
  score, _ = corpus_bleu(HYPOTHESES, REFERENCES)
  assert score == pytest.approx(slow_bleu(HYPOTHESES, REFERENCES), rel=1e-9)
  assert 40 < score < 80


def test_the_signature_says_how():
  fields = corpus_bleu(HYPOTHESES, REFERENCES)[1].split('|')
  assert {'nrefs:1', 'case:mixed', 'tok:13a', 'smooth:exp'} <= set(fields)
  assert fields[-1].startswith('version:')


def test_the_same_text_has_a_hundred():
  assert corpus_bleu(REFERENCES, REFERENCES)[0] == pytest.approx(100)


def test_case_counts():
  lower = [text.lower() for text in REFERENCES]
  assert corpus_bleu(lower, REFERENCES)[0] < 99


def test_punctuation_is_split_off():
  joined = [text.replace(' .', '.') for text in REFERENCES]
  assert corpus_bleu(joined, REFERENCES)[0] == pytest.approx(100)


def test_is_not_the_mean_over_sentences():
  both = corpus_bleu(HYPOTHESES, REFERENCES)[0]
  each = [
    corpus_bleu([h], [r])[0]
    for h, r in zip(HYPOTHESES, REFERENCES, strict=True)
  ]
  assert min(each) < both < max(each)
  assert both != pytest.approx(sum(each) / 2, abs=0.1)


@pytest.mark.parametrize(
  ('hypotheses', 'references'), [([], []), (['a'], []), (['a'], ['a', 'b'])]
)
def test_refuses_what_does_not_pair(hypotheses, references):
  with pytest.raises(ValueError, match=f'{len(hypotheses)} hypotheses'):
    corpus_bleu(hypotheses, references)
