"""BLEU as published results count it: over Moses's tokens, by the rules of multi-bleu.

Such figures depend on how the reference was divided into tokens, so they compare with a published
figure of the same protocol only; sacreBLEU's compare with each other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

from jaxformer.moses import moses


@dataclasses.dataclass(frozen=True)
class ProtocolScore:
    """A figure, and all that it depends on.

    Attributes:
      protocol: a name of `PROTOCOLS`.
      bleu: corpus BLEU, 0 to 100, not smoothed.
      precisions: of 1- to 4-grams, 0 to 100.
      brevity_penalty: what BLEU was multiplied by, 0 to 1.
      description: of the tokens, in words.
    """

    protocol: str
    bleu: float
    precisions: tuple[float, ...]
    brevity_penalty: float
    description: str


def _multi_bleu_lc(text: str, language: str) -> str:
    return " ".join(moses(language).tokenise(text, lowercase=True, normalise=True))


def _paper(text: str, language: str) -> str:
    tokens = " ".join(moses(language).tokenise(text))
    # Both parts of a compound count, and so does the hyphen between them.
    return re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", tokens) if language == "de" else tokens


Prepare = Callable[[str, str], str]

PROTOCOLS: dict[str, tuple[Prepare, str]] = {
    "multi_bleu_lc": (
        _multi_bleu_lc,
        "letters small, punctuation normalised, Moses's tokens; as Wu et al. (2021) on Multi30k",
    ),
    "paper": (
        _paper,
        "Moses's tokens, case kept, German compounds split at hyphens; as Table 2 of the paper",
    ),
}


def check_protocol(protocol: str, language: str) -> None:
    """Finds what is wrong with a protocol before there is anything to score.

    Raises: ValueError for another name, or as `jaxformer.moses.Moses`.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {protocol!r}; there are {', '.join(PROTOCOLS)}.")
    moses(language)


def protocol_score(
    hypotheses: Sequence[str], references: Sequence[str], protocol: str, language: str
) -> ProtocolScore:
    """Scores plain text, one hypothesis and one reference a sentence, by a protocol.

    Args:
      language: code of the target language.

    Raises: ValueError if the lengths differ, or as `check_protocol`.
    """
    check_protocol(protocol, language)
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses cannot be scored against {len(references)} references. "
            "Give one of each per sentence."
        )
    # Imported late: it takes a third of a second.
    from sacrebleu.metrics import BLEU

    prepare, description = PROTOCOLS[protocol]
    # What is tokens already is not divided again; multi-bleu does not smooth.
    bleu = BLEU(tokenize="none", smooth_method="none", force=True)
    found = bleu.corpus_score(
        [prepare(line, language) for line in hypotheses],
        [[prepare(line, language) for line in references]],
    )
    return ProtocolScore(
        protocol=protocol,
        bleu=found.score,
        precisions=tuple(found.precisions),
        brevity_penalty=found.bp,
        description=description,
    )
