"""The record as Markdown: fitted exponents beside those that should be, and plain figures."""

import math
from collections.abc import Sequence

from experiments.growth.cases import TRAINING
from experiments.growth.record import Findings, Measured
from experiments.shared.fitting import fit_powers
from experiments.shared.pages import figure, table

LAWS = {
    (TRAINING, "length"): ("a + b n", "a + b n"),
    (TRAINING, "width"): ("a d + b d^2", "a + b d + c d^2"),
    (TRAINING, "depth"): ("a + b N", "a + b N"),
    (TRAINING, "vocabulary"): ("a + b W", "a + b W"),
    (TRAINING, "batch"): ("b B", "a + b B"),
    ("decoding", "beams"): ("a + b M + c M^2", "a + b M"),
    ("decoding", "length"): ("a n + b n^2", "a + b n"),
}
"""(training or decoding, axis) -> the forms of the operations and of the memory."""

# Figure measured -> the law beside it.
TIME, MEMORY = ("seconds", "operations"), ("plan_bytes", "memory")


def tables(findings: Findings) -> str:
    """Returns all tables, each under a heading."""
    parts = [
        ("Time", exponents(findings, TIME)),
        ("Memory", exponents(findings, MEMORY)),
        *(
            (f"Plain figures: {work}, by {axis}", figures(found))
            for (work, axis), found in findings.items()
            if found
        ),
    ]
    return "\n".join(f"### {title}\n\n{text}" for title, text in parts)


def exponents(findings: Findings, figures: tuple[str, str]) -> str:
    """Returns the exponents of a cost on every axis beside those of its law."""
    header = [
        *("work", "grown", "from, to", "should be"),
        *("exponent", "by the law", "at the end", "by the law"),
    ]
    rows = []
    for (work, axis), found in findings.items():
        points = points_of(found)
        if len(points) < 2:
            continue
        rows.append(
            [
                work,
                axis,
                f"{points[0]['size']:,}, {points[-1]['size']:,}",
                LAWS[work, axis][figures == MEMORY],
                *(_fit(points, name) for name in figures),
                *(f"{local_exponent(points[-2:], name):.2f}" for name in figures),
            ]
        )
    return table(header, rows)


def points_of(found: dict[int, Measured]) -> list[dict[str, float]]:
    """Returns the points of an axis, the smallest size first."""
    return [found[value].point(value) for value in sorted(found)]


def local_exponent(points: Sequence[dict[str, float]], name: str) -> float:
    """Returns the exponent between two points."""
    first, last = points
    return math.log(last[name] / first[name]) / math.log(last["size"] / first["size"])


def figures(found: dict[int, Measured]) -> str:
    """Returns time, operations and memory of the cases of an axis."""
    header = [
        *("size", "ms (of the passes, least to most)", "GFLOP", "GFLOP/s"),
        *("program, MB", "process, MB", "by the law, MB"),
    ]
    if any(measured.output_tokens for measured in found.values()):
        header.append("tokens of an output")
    rows = []
    for value in sorted(found):
        measured = found[value]
        point = measured.point(value)
        low, high = (figure(1e3 * end(measured.seconds)) for end in (min, max))
        row = [
            f"{value:,}",
            f"{figure(1e3 * point['seconds'])} ({low} to {high})",
            figure(point["operations"] / 1e9),
            figure(point["operations"] / point["seconds"] / 1e9),
            *(figure(point[name] / 1e6) for name in ("plan_bytes", "held_bytes", "memory")),
        ]
        rows.append([*row, figure(measured.output_tokens)][: len(header)])
    return table(header, rows)


def _fit(points: Sequence[dict[str, float]], name: str) -> str:
    try:
        fit = fit_powers(points, name, ("size",))
    except ValueError:
        return "too few"
    return f"{fit.exponents['size']:.2f} ± {fit.errors['size']:.2f}"
