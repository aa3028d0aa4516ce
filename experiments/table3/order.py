"""Which differences from base the paper's Table 3 and a smaller study have in common."""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from jaxformer.cli.mistakes import Mistake
from jaxformer.io.record import read_object

LEVEL = 0.95
AS_PAPER, AGAINST, OPEN = "as in the paper", "against the paper", "cannot be told"
NO_PAPER, NO_DIFFERENCE, NO_SPREAD = "not in the paper", "equal in the paper", "no spread known"

Json = Mapping[str, Any]


class Measure(NamedTuple):
    """A score of Table 3.

    Attributes:
      key: its name in a report.
      scale: score -> what is averaged and compared: perplexities as their logarithms.
      unscale: the way back.
      sign: 1 if more is better, -1 if less is.
    """

    key: str
    scale: Callable[[float], float]
    unscale: Callable[[float], float]
    sign: int


PERPLEXITY = Measure("perplexity", math.log, math.exp, -1)
BLEU = Measure("bleu", float, float, 1)
MEASURES = (PERPLEXITY, BLEU)


class Row(NamedTuple):
    """A row of a report, with at least one training that is finished.

    Attributes:
      group: of rows, by the letter that the paper gives it; "base" and "big" are their own.
      label: as the paper has it.
      settings: of the smaller study, those alone that are not base's.
      values: measure -> score by training.
      paper: measure -> the paper's score; some rows have none.
    """

    group: str
    label: str
    settings: Mapping[str, Any]
    values: Mapping[str, Sequence[float]]
    paper: Mapping[str, float]


class Difference(NamedTuple):
    """What one row has more than another, on a measure's scale.

    Attributes:
      measured: difference of the means over trainings.
      margin: half of the interval that covers the true one with probability LEVEL; None if the
        spread of trainings is not known.
      paper: None if either row is not in the paper.
    """

    measured: float
    margin: float | None
    paper: float | None

    @property
    def has_papers_sign(self) -> bool:
        """Whether the better row is the paper's better one."""
        return self.paper is not None and self.measured * self.paper > 0

    @property
    def verdict(self) -> str:
        """Whether its sign is the paper's, or why that cannot be said."""
        if self.paper is None:
            return NO_PAPER
        if self.paper == 0:
            return NO_DIFFERENCE
        if self.margin is None:
            return NO_SPREAD
        if abs(self.measured) <= self.margin:
            return OPEN
        return AS_PAPER if self.has_papers_sign else AGAINST


class Spread(NamedTuple):
    """How far trainings of one row lie apart on a measure's scale, the same for all rows.

    Attributes:
      deviation: standard deviation of a training.
      freedom: degrees, a row's trainings less one, summed over rows.
    """

    deviation: float
    freedom: int

    def margin(self, *counts: int) -> float:
        """Half of the interval of a difference of two means of so many trainings (Student's t)."""
        quantile = float(stats.t.ppf((1 + LEVEL) / 2, self.freedom))
        return quantile * self.deviation * math.sqrt(sum(1 / count for count in counts))


def read_rows(path: Path) -> list[Row]:
    """Returns the rows of a report.json that have scores, base first.

    A training that diverged, whose perplexity is not finite, is left out.

    Raises: Mistake if it is no report of Table 3, or base has no scores.
    """
    report = read_object(path)
    try:
        entries = report["rows"] if report["version"] == 1 else ()
        rows = [row for row in map(_read_row, entries) if row.values[BLEU.key]]
    except (AttributeError, KeyError, TypeError, ValueError):
        entries, rows = (), []
    if not entries:
        raise Mistake(
            f"{path} is no report of a sweep in version 1. Write it with `jaxformer report`."
        )
    if not any(row.paper for row in rows):
        raise Mistake(
            f"No row of {path} that is finished has figures of the paper. Give the report of a "
            "sweep of configs/table3."
        )
    base = next((row for row in rows if row.group == "base"), None)
    if base is None:
        raise Mistake(
            f"{path} has no scores of base, with which rows are compared. Train "
            "configs/table3/base.py in the same sweep, and write the report anew."
        )
    return [
        row._replace(
            settings={
                name: value for name, value in row.settings.items() if value != base.settings[name]
            }
        )
        for row in sorted(rows, key=lambda row: row is not base)
    ]


def _read_row(entry: Json) -> Row:
    """Returns a row with all of its settings."""
    scores = {
        seed: {measure.key: float(entry[measure.key]["values"][seed]) for measure in MEASURES}
        for seed in entry[BLEU.key]["values"]
    }
    finite = [each for each in scores.values() if all(map(math.isfinite, each.values()))]
    return Row(
        group=entry["letter"] or entry["group"],
        label=entry["label"],
        settings={name.removeprefix("model."): value for name, value in entry["settings"].items()},
        values={measure.key: [each[measure.key] for each in finite] for measure in MEASURES},
        paper={
            measure.key: float(entry["paper"][measure.key])
            for measure in MEASURES
            if measure.key in entry["paper"]
        },
    )


def find_spread(rows: Sequence[Row], measure: Measure) -> Spread | None:
    """Returns the spread pooled over the rows; None if no row has two trainings."""
    scaled = [[measure.scale(value) for value in row.values[measure.key]] for row in rows]
    freedom = sum(len(values) - 1 for values in scaled)
    if not freedom:
        return None
    squares = sum(len(values) * statistics.pvariance(values) for values in scaled)
    return Spread(math.sqrt(squares / freedom), freedom)


def compare(row: Row, other: Row, measure: Measure, spread: Spread | None) -> Difference:
    """Returns what `row` has more than `other`."""
    ours, theirs = (
        [measure.scale(value) for value in each.values[measure.key]] for each in (row, other)
    )
    has_papers = measure.key in row.paper and measure.key in other.paper
    return Difference(
        measured=statistics.fmean(ours) - statistics.fmean(theirs),
        margin=spread and spread.margin(len(ours), len(theirs)),
        paper=measure.scale(row.paper[measure.key]) - measure.scale(other.paper[measure.key])
        if has_papers
        else None,
    )


def pairs_of_groups(rows: Sequence[Row], measure: Measure) -> dict[str, list[Difference]]:
    """Returns every difference between two rows of a group, base belonging to each.

    Returns: group -> differences; a group is left out that has no row beside base.
    """
    base, *others = rows
    spread = find_spread(rows, measure)
    groups = dict.fromkeys(row.group for row in others)
    return {
        group: [
            compare(row, other, measure, spread)
            for other, row in itertools.combinations(
                [base, *(row for row in others if row.group == group)], 2
            )
        ]
        for group in groups
    }
