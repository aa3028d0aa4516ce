"""A picture: how much worse or better than base a row is, here against the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.table3.order import BLEU, MEASURES, Measure, Row, compare, find_spread
from jaxformer.io.plot import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Paul Tol's bright scheme, with marks for those who do not see the colours.
_STYLES: dict[str, dict[str, Any]] = {
    "A": {"color": "#4477aa", "marker": "o"},
    "B": {"color": "#ee6677", "marker": "s"},
    "C": {"color": "#228833", "marker": "^"},
    "D": {"color": "#aa3377", "marker": "D"},
    "E": {"color": "#66ccee", "marker": "v"},
    "big": {"color": "#777777", "marker": "P"},
}
_GRID = "#dddddd"


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draws both scores' differences from base, the paper's below and the study's upwards.

    Returns: the files, PNG and SVG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"order.{kind}" for kind in ("png", "svg")]
    with picture(9.6, 5.0, *paths) as figure:
        panels = figure.subplots(1, 2)
        for axes, measure in zip(panels, MEASURES, strict=True):
            _draw(axes, rows, measure)
        handles, labels = panels[0].get_legend_handles_labels()
        known = dict(zip(labels, handles, strict=True))
        figure.legend(
            known.values(),
            known,
            loc="outside lower center",
            ncols=len(known) or 1,
            fontsize=9,
            edgecolor="none",
        )
        figure.suptitle("Rows of Table 3 beside base: the same sign in the white quarters")
    return paths


def _draw(axes: Axes, rows: Sequence[Row], measure: Measure) -> None:
    base, *others = rows
    spread = find_spread(rows, measure)
    # Better is to the right and upwards, in hundredths of perplexity's logarithm or in BLEU.
    unit = 1.0 if measure is BLEU else 100.0
    named = []
    for row in others:
        difference = compare(row, base, measure, spread)
        if difference.paper is None:
            continue
        place, height = (
            measure.sign * unit * value for value in (difference.paper, difference.measured)
        )
        axes.errorbar(
            place,
            height,
            yerr=None if difference.margin is None else unit * difference.margin,
            markersize=5,
            linestyle="",
            elinewidth=0.8,
            label=row.group,
            **_STYLES.get(row.group, _STYLES["big"]),
        )
        named.append((row.label, place, height))
    axes.margins(0.12)
    # Both signs stand on either axis, that of no row too.
    (left, right), (low, high) = map(_around_zero, (axes.get_xlim(), axes.get_ylim()))
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    for across, up in (((left, 0), (0, high)), ((0, right), (low, 0))):
        axes.fill_between(across, *up, color=_GRID, alpha=0.5, linewidth=0, zorder=0)
    for name, place, height in named:
        # A name shall end inside.
        is_left = place < right - (right - left) / 5
        axes.annotate(
            name,
            (place, height),
            (4 if is_left else -4, 4),
            textcoords="offset points",
            ha="left" if is_left else "right",
            fontsize=7,
        )
    of = "BLEU" if measure is BLEU else "100 \N{MULTIPLICATION SIGN} the logarithm of perplexity"
    axes.set_xlabel(f"better than base in the paper ({of})", fontsize=9)
    axes.set_ylabel(f"better than base here ({of})", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color=_GRID, linewidth=0.8, zorder=1)
    axes.axvline(0, color=_GRID, linewidth=0.8, zorder=1)


def _around_zero(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    least = (max(high, 0) - min(low, 0)) / 5
    return min(low, -least), max(high, least)
