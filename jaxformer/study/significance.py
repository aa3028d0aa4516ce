"""Whether a row translates better or worse than base: sacreBLEU's paired bootstrap."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import types
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from jaxformer.study.rows import Row, Spread, base_of, spread

SAMPLES = 1000
SEED = 12345
# Of BLEU: what a score of the same text may differ by when it is computed again.
_TOLERANCE = 0.005


class NoReferences(Exception):
    """References, or translations, are not on this machine; says why."""


class OtherText(NoReferences):
    """They are, and cannot be those that were scored; says why."""


FindReferences = Callable[[Mapping[str, Any]], Sequence[str]]
"""Settings of a member -> the references of its split, in order; raises NoReferences."""

EarlierP = Mapping[tuple[str, str, int], tuple[float, float, float]]
"""(group, label, seed) -> BLEU of the row, BLEU of base and p, as an earlier report has them."""
_NONE: EarlierP = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A row beside base, over the seeds that both have finished.

    Attributes:
      difference: BLEU of the row minus BLEU of base.
      p_values: seed -> p of that seed's two sets of translations, where it could be computed.
      why_not: why a seed has none; "" if all have.
      earlier: the seeds whose p is that of an earlier report.
    """

    difference: Spread
    p_values: Mapping[int, float]
    why_not: str
    earlier: tuple[int, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether no two seeds differ in which of the two is better."""
        values = self.difference.values.values()
        return not (min(values) < 0 < max(values))

    @property
    def p(self) -> float | None:
        """The largest of the p-values; None if a seed has none, or if the seeds disagree."""
        is_whole = self.p_values and not self.why_not
        return max(self.p_values.values()) if is_whole and self.agrees else None


def compare(
    rows: Sequence[Row], find_references: FindReferences, earlier: EarlierP = _NONE
) -> dict[int, Comparison]:
    """Compares every row with its base.

    Args:
      earlier: stands in where texts are lost, if both scores are still the same.

    Returns: index of the row -> comparison, of rows that have a seed in common with their base.
    """
    pairs = {}
    for index, row in enumerate(rows):
        base = base_of(row, rows)
        if base is not None and base is not row and row.scores.keys() & base.scores.keys():
            pairs[index] = (row, base)
    texts = _Texts(find_references)
    return {index: _compare(row, base, texts, earlier) for index, (row, base) in pairs.items()}


class _Texts:
    """References by settings, each read once."""

    def __init__(self, find: FindReferences) -> None:
        self._find = find
        self._found: dict[str, tuple[list[str], str]] = {}

    def of(self, row: Row) -> list[str]:
        """Raises: NoReferences."""
        config = row.members[0].config
        key = repr(config["data"]) if "data" in config else ""
        if key not in self._found:
            try:
                self._found[key] = (list(self._find(config)), "")
            except NoReferences as error:
                self._found[key] = ([], str(error))
        lines, why_not = self._found[key]
        if why_not:
            raise NoReferences(why_not)
        return lines


def _compare(row: Row, base: Row, texts: _Texts, earlier: EarlierP) -> Comparison:
    scores = {
        seed: (row.scores[seed].bleu, base.scores[seed].bleu)
        for seed in row.scores
        if seed in base.scores
    }
    difference = spread({seed: of_row - of_base for seed, (of_row, of_base) in scores.items()})
    p_values, taken, why_not = {}, [], ""
    for seed in scores:
        try:
            p_values[seed] = _p_value(row, base, seed, texts)
        except NoReferences as error:
            known = earlier.get((row.group, row.label, seed))
            if isinstance(error, OtherText) or known is None or known[:2] != scores[seed]:
                why_not = why_not or str(error)
            else:
                p_values[seed] = known[2]
                taken.append(seed)
    return Comparison(difference, p_values, why_not, tuple(taken))


def _p_value(row: Row, base: Row, seed: int, texts: _Texts) -> float:
    """Raises: NoReferences if a text has not been kept, or is another than was scored."""
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    references = texts.of(row)
    if references != texts.of(base):
        raise OtherText("its references are not those of base")
    systems: list[tuple[str, Sequence[str]]] = []
    for name, scores in (("base", base.scores[seed]), ("row", row.scores[seed])):
        if scores.translations is None:
            raise NoReferences("the translations have not been kept")
        if len(scores.translations) != len(references):
            raise OtherText(
                f"the corpus has {len(references):,} references on this machine, where "
                f"{len(scores.translations):,} sentences were scored"
            )
        systems.append((name, list(scores.translations)))
    with _fixed_seed():
        test = PairedTest(systems, {"BLEU": BLEU()}, [references], "bs", SAMPLES)
        found: list[Any] = test()[1]["BLEU"]
    for result, scores in zip(found, (base.scores[seed], row.scores[seed]), strict=True):
        if abs(result.score - scores.bleu) > _TOLERANCE:
            raise OtherText(
                f"on this machine's corpus the translations score {result.score:.2f}, where "
                f"{scores.bleu:.2f} is on record"
            )
    # Resamples that never differ from each other look to sacreBLEU like the surest of differences.
    return found[1].p_value if found[0].score != found[1].score else 1.0


@contextlib.contextmanager
def _fixed_seed() -> Generator[None]:
    """Sets the variable that sacreBLEU reads its seed from, whatever the user's is."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(SEED)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
