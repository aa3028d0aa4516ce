"""The record as Markdown: measured exponents beside the paper's, crossings, and plain figures."""

import math
from collections.abc import Sequence

from experiments.shared.fitting import crossing, fit_powers, fit_sums
from experiments.shared.pages import figure, show_fit, table
from experiments.table1.cases import DIRECTIONS
from experiments.table1.layers import LAYERS
from experiments.table1.record import Findings, Measured

# Seconds: below, what a call costs by itself is no small part of the time.
LEAST_SECONDS = 1e-3
_NONE = "too few"


def tables(findings: Findings) -> str:
    """Returns all tables, each under a heading."""
    widths = sorted({measured.case.width for measured in findings.cases})
    parts = [
        ("Operations and time", exponents(findings)),
        ("Sequential operations and the longest path", paths(findings)),
        ("Where self-attention overtakes", crossings(findings, widths)),
        *((f"Plain figures at d = {width}", figures(findings, width)) for width in widths),
    ]
    return "\n".join(f"### {title}\n\n{text}" for title, text in parts)


def exponents(findings: Findings) -> str:
    """Returns the fitted exponents of operations, time and memory beside the table's O(...)."""
    header = [
        "layer",
        "paper",
        "FLOPs, forward",
        "FLOPs, both",
        "time, forward",
        "time, both",
        "memory, both",
    ]
    rows = []
    for name, layer in LAYERS.items():
        cells = [layer.title, f"O({layer.operations})"]
        for value in ("flops", "seconds"):
            cells += [_exponents(findings, name, direction, value) for direction in DIRECTIONS]
        cells.append(_exponents(findings, name, "training", "peak_bytes"))
        rows.append(cells)
    return (
        "Exponents of n and d by least squares of logarithms over all lengths and widths, with "
        "their standard errors; of k and r over several of them at one length and width. Both: "
        f"forward and backward. The fit leaves times below {LEAST_SECONDS * 1000:g} ms out. The "
        "paper's table leaves projections out.\n\n" + table(header, rows)
    )


def paths(findings: Findings) -> str:
    """Returns products one after another, and layers between the ends of a row, by length."""
    lengths = sorted({length for _, length in findings.paths})
    header = ["layer", "paper", "sequential", "paper", "path"]
    rows = []
    for name, layer in LAYERS.items():
        width = min(measured.case.width for measured in findings.cases)
        found = {
            measured.case.length: measured.sequential
            for measured in findings.of(name, "forward", width=width)
        }
        longest = {length: findings.paths[name, length] for length in lengths}
        rows.append(
            [
                layer.title,
                f"O({layer.sequential})",
                _by_length(found),
                f"O({layer.path})",
                _by_length(longest, layer.size if "log" in layer.path else 0),
            ]
        )
    return (
        "Sequential: matrix products of the forward program that must wait for one another. Path: "
        "layers until the last position's gradient reaches the first (of the recurrent layer, "
        f"applications of its cell). Each at n = {', '.join(map(str, lengths))}, and the exponent "
        "of n; of the dilated layers, how many more for k times the length.\n\n"
        + table(header, rows)
    )


def crossings(findings: Findings, widths: Sequence[int]) -> str:
    """Returns, for every width, the length from which on attention costs more."""
    costs = [
        ("flops", "FLOPs, both", "training"),
        *(
            ("seconds", f"time, {word}", direction)
            for word, direction in (("forward", "forward"), ("both", "training"))
        ),
    ]
    header = ["attention", "overtakes", "of d", *(label for _, label, _ in costs)]
    rows = [
        [
            LAYERS[first].title,
            LAYERS[second].title,
            str(width),
            *(
                _length(crossing_of(findings, first, second, width, direction, value))
                for value, _, direction in costs
            ),
        ]
        for first, second in PAIRS
        for width in widths
    ]
    return (
        "The length from which on self-attention costs more, between measured ones by "
        "interpolation of logarithms. The table's O(...) alone would have it at n = d, k d "
        "beside a convolution, and r beside restricted attention.\n\n" + table(header, rows)
    )


# Self-attention, and what it may cost more than.
PAIRS = (
    ("attention", "recurrent"),
    ("attention", "convolutional"),
    ("attention_projected", "recurrent"),
    ("attention_projected", "convolutional"),
    ("attention", "restricted"),
)


def crossing_of(
    findings: Findings, first: str, second: str, width: int, direction: str, value: str
) -> float | str:
    """Returns the length from which on a layer costs more than another.

    Returns: a length, or "always" or "never" of those measured.
    """
    one, other = (
        {
            int(point["n"]): point[value]
            for point in (
                measured.point() for measured in findings.of(name, direction, width=width)
            )
        }
        for name in (first, second)
    )
    lengths = sorted(one.keys() & other.keys())
    found = crossing(lengths, [one[n] for n in lengths], [other[n] for n in lengths])
    if found is not None:
        return found
    return "always" if one[lengths[-1]] > other[lengths[-1]] else "never"


def figures(findings: Findings, width: int) -> str:
    """Returns time, operations and memory of all layers at one width, forward and backward."""
    lengths = sorted({measured.case.length for measured in findings.cases})
    chosen = [lengths[0], lengths[len(lengths) // 2], lengths[-1]]
    header = ["layer", *(f"{what}, n = {n}" for what in ("ms", "GFLOP", "MB") for n in chosen)]
    rows = []
    for name, layer in LAYERS.items():
        found = {
            measured.case.length: measured
            for measured in findings.of(name, "training", width=width)
        }
        cells = [layer.title]
        for show in (_milliseconds, _operations, _megabytes):
            cells += [show(found[n]) if n in found else "" for n in chosen]
        rows.append(cells)
    return (
        "Forward and backward. Time: the median of the passes, and from the least to the most.\n\n"
        + table(header, rows)
    )


def _milliseconds(measured: Measured) -> str:
    median, low, high = (
        figure(1e3 * seconds)
        for seconds in (
            measured.point()["seconds"],
            min(measured.seconds),
            max(measured.seconds),
        )
    )
    return f"{median} ({low} to {high})"


def _operations(measured: Measured) -> str:
    return figure(measured.flops / 1e9)


def _megabytes(measured: Measured) -> str:
    return figure(measured.peak_bytes / 1e6)


def _exponents(findings: Findings, name: str, direction: str, value: str) -> str:
    """Returns "n 2.00 ± 0.01, d 1.00 ± 0.01", and k or r if several were measured."""
    found = findings.of(name, direction)
    texts = [_fit(found, value, ("n", "d"))]
    others = [
        measured
        for measured in findings.cases
        if (measured.case.layer, measured.case.direction) == (name, direction)
        and measured.case.size != LAYERS[name].size
    ]
    if others:
        place = others[0].case
        same = findings.of(name, direction, width=place.width, length=place.length)
        size = _fit([*same, *others], value, ("size",))
        texts.append(size.replace("size", LAYERS[name].size_name))
    return ", ".join(texts)


def _fit(found: Sequence[Measured], value: str, variables: tuple[str, ...]) -> str:
    points = [measured.point() for measured in found]
    if value == "seconds":
        points = [point for point in points if point["seconds"] >= LEAST_SECONDS]
    try:
        return show_fit(fit_powers(points, value, variables))
    except ValueError:
        return _NONE


def _by_length(values: dict[int, int], base: int = 0) -> str:
    """Returns the values by length, and how they grow with it unless they are all the same.

    Args:
      base: of the logarithm that they grow with; 0 if it is a power of the length.
    """
    numbers = [values[length] for length in sorted(values)]
    if len(set(numbers)) == 1:
        return f"{numbers[0]} at all n"
    name = f"log_{base} n" if base else "n"
    points = [
        {name: math.log(length, base) if base else length, "value": values[length]}
        for length in sorted(values)
    ]
    text = ", ".join(map(str, numbers))
    try:
        return f"{text} ({show_fit((fit_sums if base else fit_powers)(points, 'value', (name,)))})"
    except ValueError:
        return text


def _length(found: float | str) -> str:
    return found if isinstance(found, str) else f"{found:.0f}"
