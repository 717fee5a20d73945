"""BLEU as others report it, by sacrebleu."""

from collections.abc import Sequence

import sacrebleu


def corpus_bleu(
  hypotheses: Sequence[str], references: Sequence[str]
) -> tuple[float, str]:
  """BLEU of translations against one reference each.

  Of detokenised text in mixed case, which sacrebleu splits by its rule 13a
  (Post 2018, https://arxiv.org/abs/1804.08771).

  Args:
    hypotheses: the translation of each sentence.
    references: the true one of each.

  Returns:
    The score, 0 to 100, and sacrebleu's signature, which says how it was
    computed.

  Raises:
    ValueError: there are no sentences, or not as many of both.
  """
  if len(hypotheses) != len(references) or not hypotheses:
    raise ValueError(
      f'BLEU of {len(hypotheses)} hypotheses and {len(references)} references'
    )
  metric = sacrebleu.BLEU(tokenize='13a', lowercase=False)
  score = metric.corpus_score(list(hypotheses), [list(references)]).score
  return score, str(metric.get_signature())
