"""Pictures of the record: costs against the length, on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.shared.axes import add_legend, dress
from experiments.table1.layers import LAYERS
from experiments.table1.record import Findings
from experiments.table1.tables import PAIRS, crossing_of
from jaxformer.io.plot import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Paul Tol's bright scheme, with marks and dashes for those who do not see the colours.
_STYLES: dict[str, dict[str, Any]] = {
    "attention": {"color": "#4477aa", "marker": "o"},
    "attention_projected": {"color": "#66ccee", "marker": "s", "linestyle": (0, (5, 2))},
    "recurrent": {"color": "#ee6677", "marker": "^"},
    "convolutional": {"color": "#228833", "marker": "D"},
    "dilated": {"color": "#ccbb44", "marker": "v", "linestyle": (0, (1, 1.5))},
    "restricted": {"color": "#aa3377", "marker": "P"},
}


def draw(findings: Findings, folder: Path) -> list[Path]:
    """Draws costs by length at three widths, and memory, sequential products and paths.

    Returns: the files, PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    widths = sorted({measured.case.width for measured in findings.cases})
    chosen = list(dict.fromkeys([widths[0], widths[len(widths) // 2], widths[-1]]))
    paths = [folder / f"{name}.png" for name in ("time", "flops", "memory", "paths")]
    for path, value, label in zip(
        paths,
        ("seconds", "flops", "peak_bytes"),
        ("seconds a call", "FLOPs, by XLA's analysis", "bytes at the peak, by XLA's layout"),
        strict=False,
    ):
        with picture(3.4 * len(chosen) + 0.6, 4.6, path) as figure:
            panels = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
            for axes, width in zip(panels, chosen, strict=True):
                _draw_costs(axes, findings, width, value)
                axes.set_title(f"d = {width}", fontsize=10)
            panels[0].set_ylabel(label)
            figure.suptitle("One layer, forward and backward; n = d dotted", fontsize=11)
            add_legend(figure, panels[0])
    with picture(8.4, 4.6, paths[-1]) as figure:
        left, right = figure.subplots(1, 2)
        for name in LAYERS:
            found = findings.of(name, "forward", width=widths[0])
            _line(
                left,
                name,
                [measured.case.length for measured in found],
                [measured.sequential for measured in found],
            )
            lengths = sorted(length for layer, length in findings.paths if layer == name)
            _line(right, name, lengths, [findings.paths[name, length] for length in lengths])
        left.set_ylabel("matrix products one after another")
        right.set_ylabel("layers from the first position to the last")
        for axes in (left, right):
            dress(axes, "length n")
        add_legend(figure, left)
    return paths


def _draw_costs(axes: Axes, findings: Findings, width: int, value: str) -> None:
    for name in LAYERS:
        points = [measured.point() for measured in findings.of(name, "training", width=width)]
        _line(axes, name, [point["n"] for point in points], [point[value] for point in points])
    if value != "peak_bytes":
        for first, second in PAIRS:
            found = crossing_of(findings, first, second, width, "training", value)
            if not isinstance(found, str):
                _mark(axes, findings, first, width, value, found)
    axes.axvline(width, color="#000000", linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
    dress(axes, "length n")


def _mark(axes: Axes, findings: Findings, name: str, width: int, value: str, length: float) -> None:
    """Marks a place on a layer's line."""
    import numpy as np

    points = [measured.point() for measured in findings.of(name, "training", width=width)]
    cost = np.exp(
        np.interp(
            np.log(length),
            np.log([point["n"] for point in points]),
            np.log([point[value] for point in points]),
        )
    )
    axes.plot([length], [cost], marker="o", markersize=11, markerfacecolor="none", color="#000000")


def _line(axes: Axes, name: str, x: Sequence[float], y: Sequence[float]) -> None:
    axes.plot(x, y, label=LAYERS[name].title, linewidth=1.4, markersize=5, **_STYLES[name])
