"""Published protocols: what they count as tokens, and BLEU over those by hand."""

import pytest

from jaxformer.io.protocol import PROTOCOLS, protocol_score
from tests.io.test_score import bleu_by_hand

HYPOTHESES = [
    "Ein Mann mit „Hut“ sieht sich das an.",
    "Die Frau geht über die Straße, schnell und leise.",
]
REFERENCES = [
    'ein Mann mit "Hut" sieht sich etwas an.',
    "Die Frau geht über die breite Straße, schnell und leise.",
]


def test_bleu_is_that_of_multi_bleu_over_the_tokens():
    found = protocol_score(HYPOTHESES, REFERENCES, "multi_bleu_lc", "de")
    tokens = [
        [line.lower().replace("„", '"').replace("“", '"').replace('"', ' " ') for line in side]
        for side in (HYPOTHESES, REFERENCES)
    ]
    bleu, precisions, penalty, _ = bleu_by_hand(*tokens)
    assert found.bleu == pytest.approx(bleu)
    assert found.precisions == pytest.approx(precisions)
    assert found.brevity_penalty == pytest.approx(penalty)
    assert penalty < 1
    assert (found.protocol, found.description) == ("multi_bleu_lc", PROTOCOLS["multi_bleu_lc"][1])


def test_it_is_not_smoothed():
    assert protocol_score(["a b c"], ["a b c"], "multi_bleu_lc", "en").bleu == 0.0


def test_the_papers_keeps_case_and_splits_german_compounds():
    def score(hypothesis, reference, language="de"):
        return protocol_score([hypothesis], [reference], "paper", language).precisions[0]

    assert score("Das E-Mail-Programm geht.", "das E-Mail-Programm geht.") == pytest.approx(87.5)
    # E, Programm and the hyphens are right.
    assert score("Das E-Post-Programm geht.", "Das E-Mail-Programm geht.") == pytest.approx(87.5)
    assert score("Le rendez-vous est là.", "Le rendez-nous est là.", "fr") == pytest.approx(80.0)
    assert score("Er - nicht ich - geht.", "Er - nicht ich - geht.") == 100.0


def test_its_tokens_are_those_of_the_scripts():
    prepare = PROTOCOLS["paper"][0]
    assert prepare("Das E-Mail-Programm, z.B. hier.", "de") == (
        "Das E ##AT##-##AT## Mail ##AT##-##AT## Programm , z.B. hier ."
    )
    assert prepare("Isn't it well-known?", "en") == "Isn 't it well-known ?"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_does_not_fit(protocol):
    with pytest.raises(ValueError, match="1 hypotheses cannot be scored against 2"):
        protocol_score(["a"], ["a", "b"], protocol, "de")
    with pytest.raises(ValueError, match="Unknown protocol 'bleu'; there are multi_bleu_lc, paper"):
        protocol_score(["a"], ["a"], "bleu", "de")
