"""Tables that set the differences of a smaller study beside those of the paper's Table 3."""

import math
import statistics
from collections.abc import Sequence

from experiments.shared.pages import table
from experiments.table3.order import (
    AGAINST,
    AS_PAPER,
    BLEU,
    LEVEL,
    MEASURES,
    PERPLEXITY,
    Difference,
    Measure,
    Row,
    compare,
    find_spread,
    pairs_of_groups,
)

_ORDERS = ("as in the paper", "the other way")
NAMES = {PERPLEXITY.key: "perplexity", BLEU.key: "BLEU"}


def tables(rows: Sequence[Row]) -> str:
    """Returns, for each score, the rows beside base; then how many pairs are in the paper's order.

    Args:
      rows: base first.
    """
    parts = [rows_table(rows, measure) for measure in MEASURES]
    return "\n".join([*parts, pairs_table(rows)])


def rows_table(rows: Sequence[Row], measure: Measure) -> str:
    """Returns a table of one score, with a sentence on its spread."""
    base, *others = rows
    spread = find_spread(rows, measure)
    header = [
        *("group", "row", "here", "trainings", NAMES[measure.key]),
        *("beside base, here", "beside base, paper", "the sign"),
    ]
    lines = [["", "base", "", *_scores(base, measure), "", "", ""]]
    for row in others:
        difference = compare(row, base, measure, spread)
        lines.append(
            [
                letter(row.group),
                row.label,
                show_settings(row),
                *_scores(row, measure),
                show(difference.measured, measure, difference.margin),
                "" if difference.paper is None else show(difference.paper, measure),
                difference.verdict,
            ]
        )
    if spread is None:
        about = "No row has two trainings, and so nothing is said of how far chance goes."
    else:
        size = (
            f"{spread.deviation:.2f} BLEU"
            if measure is BLEU
            else f"{100 * math.expm1(spread.deviation):.1f}%"
        )
        about = (
            f"The ± is that of {LEVEL:.0%} (Student's t, {spread.freedom} degrees of freedom): "
            f"trainings of one row have a standard deviation of {size}, pooled over the rows with "
            "two or more."
        )
    return f"{table(header, lines)}\n{about}\n"


def pairs_table(rows: Sequence[Row]) -> str:
    """Returns how many pairs of rows of a group, base among them, have the paper's order.

    A pair that is equal in the paper, or not in it, is not counted.
    """
    header = ["pairs in", *(f"{NAMES[m.key]}, {each}" for m in MEASURES for each in _ORDERS)]
    found = [pairs_of_groups(rows, measure) for measure in MEASURES]
    lines = [
        [letter(group), *(_count(pairs[group], as_paper) for pairs in found for as_paper in (1, 0))]
        for group in found[0]
    ]
    about = "In brackets: the pairs of which this can be told, the interval leaving out zero."
    return f"{table(header, lines)}\n{about}\n"


def show(value: float, measure: Measure, margin: float | None = None) -> str:
    """Returns "+0.34 ± 0.50" of BLEU, "+3.1% ± 1.2%" of perplexity, whose scale is logarithmic."""
    if measure is BLEU:
        text = f"{value:+.2f}"
        return text if margin is None else f"{text} ± {margin:.2f}"
    text = f"{100 * math.expm1(value):+.1f}%"
    if margin is None:
        return text
    return f"{text} ± {100 * math.exp(value) * math.sinh(margin):.1f}%"


def show_settings(row: Row) -> str:
    """Returns "h 1, d_k 128, d_v 128"."""
    return ", ".join(
        f"{name} {str(value).rpartition(':')[2]}" for name, value in row.settings.items()
    )


def letter(group: str) -> str:
    """Returns "A" for the group `a_heads`; others as they are."""
    first, underscore, _ = group.partition("_")
    return first.upper() if underscore and len(first) == 1 else group


def _scores(row: Row, measure: Measure) -> list[str]:
    values = row.values[measure.key]
    return [str(len(values)), f"{statistics.fmean(values):.2f}"]


def _count(pairs: Sequence[Difference], as_paper: int) -> str:
    chosen = [pair for pair in pairs if pair.paper and pair.has_papers_sign == bool(as_paper)]
    told = sum(pair.verdict in (AS_PAPER, AGAINST) for pair in chosen)
    return f"{len(chosen)} ({told})"
