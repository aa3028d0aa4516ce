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
        *("beside base, here", "beside base, paper", "the order"),
    ]
    lines = [["", "base", "", *_scores(base, measure), "", "", ""]]
    for row in others:
        difference = compare(row, base, measure, spread)
        lines.append(
            [
                row.group,
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
            f"In brackets: the interval of {LEVEL:.0%} (Student's t, {spread.freedom} degrees of "
            f"freedom). Trainings of one row have a standard deviation of {size}, pooled over the "
            "rows with two or more."
        )
    return f"{table(header, lines)}\n{about}\n"


def pairs_table(rows: Sequence[Row]) -> str:
    """Returns how many pairs of rows of a group, base among them, have the paper's order.

    A pair that is equal in the paper, or not in it, is not counted, nor one that is equal here.
    """
    header = [
        "pairs in",
        *(f"{NAMES[m.key]}, {each}" for m in MEASURES for each in (AS_PAPER, AGAINST)),
    ]
    found = [pairs_of_groups(rows, measure) for measure in MEASURES]
    lines = [
        [
            group,
            *(_count(pairs[group], is_papers) for pairs in found for is_papers in (True, False)),
        ]
        for group in found[0]
    ]
    about = (
        "Pairs that are equal in the paper, or not in it, are left out. Of rows that differ by "
        "chance alone, half of the pairs would be as in the paper."
    )
    if any(find_spread(rows, measure) for measure in MEASURES):
        about += " In brackets: the pairs whose interval leaves out zero."
    return f"{table(header, lines)}\n{about}\n"


def show(value: float, measure: Measure, margin: float | None = None) -> str:
    """Returns a difference and the ends of its interval, those of logarithms in percent.

    Such as "+0.34 (-0.16 to +0.84)" and "+3.1% (+1.9% to +4.3%)".
    """
    ends = [] if margin is None else [value - margin, value + margin]
    middle, *outer = (
        f"{each:+.2f}" if measure is BLEU else f"{100 * math.expm1(each):+.1f}%"
        for each in (value, *ends)
    )
    return f"{middle} ({' to '.join(outer)})" if outer else middle


def show_settings(row: Row) -> str:
    """Returns "h 1, d_k 128, d_v 128"."""
    return ", ".join(
        f"{name} {str(value).rpartition(':')[2]}" for name, value in row.settings.items()
    )


def _scores(row: Row, measure: Measure) -> list[str]:
    values = row.values[measure.key]
    mean = measure.unscale(statistics.fmean(map(measure.scale, values)))
    return [str(len(values)), f"{mean:.2f}"]


def _count(pairs: Sequence[Difference], is_papers: bool) -> str:
    chosen = [
        pair for pair in pairs if pair.paper and pair.measured and pair.has_papers_sign == is_papers
    ]
    if any(pair.margin is None for pair in pairs):
        return str(len(chosen))
    told = sum(pair.verdict in (AS_PAPER, AGAINST) for pair in chosen)
    return f"{len(chosen)} ({told})"
