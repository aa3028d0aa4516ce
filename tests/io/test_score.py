import math
from collections import Counter

import pytest

from jaxformer.io.score import score

HYPOTHESES = [
    "The cat sat on the mat, and the dog slept.",
    "It was raining all day long in the city.",
    "",
]
REFERENCES = [
    "The cat sat on the mat while the dog slept.",
    "It rained all day in the old city.",
    "Nobody knew why.",
]


def grams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu_by_hand(hypotheses, references):
    """BLEU of Papineni et al. (2002); these sentences' 13a tokens are words and , and ."""
    split = [
        [text.replace(",", " ,").replace(".", " .").split() for text in side]
        for side in (hypotheses, references)
    ]
    precisions = []
    for n in range(1, 5):
        matched = total = 0
        for hypothesis, reference in zip(*split, strict=True):
            found = grams(hypothesis, n)
            matched += (found & grams(reference, n)).total()
            total += found.total()
        precisions.append(100 * matched / total)
    lengths = [sum(map(len, side)) for side in split]
    penalty = min(1.0, math.exp(1 - lengths[1] / lengths[0]))
    bleu = penalty * math.exp(sum(map(math.log, precisions)) / 4)
    return bleu, precisions, penalty, lengths


def test_bleu_is_that_of_its_definition():
    found = score(HYPOTHESES, REFERENCES)
    bleu, precisions, penalty, lengths = bleu_by_hand(HYPOTHESES, REFERENCES)
    assert 0 < bleu < 60
    assert penalty < 1
    assert found.bleu == pytest.approx(bleu)
    assert found.precisions == pytest.approx(precisions)
    assert found.brevity_penalty == pytest.approx(penalty)
    assert [found.hypothesis_length, found.reference_length] == lengths
    assert found.sentences == 3


def test_a_perfect_translation_scores_100_and_order_matters():
    found = score(REFERENCES, REFERENCES)
    assert found.bleu == pytest.approx(100)
    assert found.chrf == pytest.approx(100)
    swapped = score(REFERENCES[::-1], REFERENCES)
    assert swapped.bleu < 50
    assert swapped.chrf < 60
    assert score([text.lower() for text in REFERENCES], REFERENCES).bleu < 90


def test_chrf_counts_characters():
    nearly = score(["unbelievably"], ["unbelievable"])
    wrong = score(["mountain"], ["unbelievable"])
    assert nearly.chrf > 80 > 20 > wrong.chrf


def test_signatures_say_how():
    found = score(HYPOTHESES, REFERENCES)
    assert "nrefs:1|case:mixed" in found.bleu_signature
    assert "tok:13a|smooth:exp|version:" in found.bleu_signature
    assert "nrefs:1|case:mixed" in found.chrf_signature
    assert "nc:6|nw:0" in found.chrf_signature


def test_what_cannot_be_scored_is_told():
    with pytest.raises(ValueError, match="2 hypotheses cannot be scored against 3 references"):
        score(HYPOTHESES[:2], REFERENCES)
    for references in ([], ["", " "]):
        with pytest.raises(ValueError, match=f"nothing to score: {len(references)} references"):
            score(["a"] * len(references), references)
