"""Translation quality: sacreBLEU and chrF of detokenised text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Score:
    """One system's score on one test set; quote a figure together with its signature.

    Attributes:
      bleu: corpus BLEU, 0 to 100, mixed case, sacreBLEU's 13a tokens.
      chrf: character F-score (chrF2), 0 to 100.
      precisions: BLEU's modified precisions of 1- to 4-grams, 0 to 100.
      brevity_penalty: what BLEU was multiplied by, 0 to 1.
      hypothesis_length: in 13a tokens, as is `reference_length`.
      sentences: how many pairs were compared.
    """

    bleu: float
    bleu_signature: str
    chrf: float
    chrf_signature: str
    precisions: tuple[float, ...]
    brevity_penalty: float
    hypothesis_length: int
    reference_length: int
    sentences: int


def score(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Scores one translation of every sentence against one reference for each, in the same order.

    Both are plain text, not split into tokens. An empty hypothesis is a translation too, and counts
    against the score.

    Raises: ValueError if the lengths differ, or if the references hold nothing to compare with.
    """
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses cannot be scored against {len(references)} references. "
            f"Give one of each per sentence."
        )
    if not any(reference.strip() for reference in references):
        raise ValueError(
            f"There is nothing to score: {len(references)} references, none with any text. "
            f"Give a split that has references."
        )
    # Imported late: a third of a second that commands which score nothing need not wait for.
    from sacrebleu.metrics import BLEU, CHRF

    bleu, chrf = BLEU(), CHRF()
    by_words = bleu.corpus_score(hypotheses, [references])
    by_characters = chrf.corpus_score(hypotheses, [references])
    return Score(
        bleu=by_words.score,
        bleu_signature=str(bleu.get_signature()),
        chrf=by_characters.score,
        chrf_signature=str(chrf.get_signature()),
        precisions=tuple(by_words.precisions),
        brevity_penalty=by_words.bp,
        hypothesis_length=by_words.sys_len,
        reference_length=by_words.ref_len,
        sentences=len(references),
    )
