"""Pictures of the record: every cost against every size, and the law through it."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.growth.cases import DECODING, TRAINING
from experiments.growth.record import Findings, Measured
from experiments.growth.tables import MEMORY, TIME, points_of
from experiments.shared.axes import add_legend, dress
from jaxformer.io.plot import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEASURED, _LAW = "#4477aa", "#ee6677"


def draw(findings: Findings, folder: Path) -> list[Path]:
    """Draws time and memory of training and of decoding, a panel for each axis.

    Returns: the files, PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for work, title in ((TRAINING, "A training step"), (DECODING, "A beam search")):
        axes = {axis: found for (each, axis), found in findings.items() if each == work and found}
        for name, names, label in (
            ("time", TIME, "seconds"),
            ("memory", MEMORY, "bytes of the program"),
        ):
            if not axes:
                continue
            path = folder / f"{work}_{name}.png"
            with picture(2.7 * len(axes) + 0.9, 3.8, path) as figure:
                panels = figure.subplots(1, len(axes), squeeze=False)[0]
                for panel, (axis, found) in zip(panels, axes.items(), strict=True):
                    _draw_axis(panel, found, *names)
                    dress(panel, axis)
                panels[0].set_ylabel(label)
                figure.suptitle(title, fontsize=11)
                add_legend(figure, panels[0])
            written.append(path)
    return written


def _draw_axis(axes: Axes, found: dict[int, Measured], value: str, law: str) -> None:
    """Draws a cost, the spread of its passes, and its law at the height that fits best."""
    points = points_of(found)
    sizes = [point["size"] for point in points]
    costs = [point[value] for point in points]
    if value == "seconds":
        spread = [
            [point[value] - min(found[int(point["size"])].seconds) for point in points],
            [max(found[int(point["size"])].seconds) - point[value] for point in points],
        ]
        axes.errorbar(sizes, costs, spread, fmt="none", color=_MEASURED, linewidth=1.0)
    axes.plot(sizes, costs, color=_MEASURED, marker="o", markersize=5, label="measured")
    height = statistics.fmean(math.log(point[value] / point[law]) for point in points)
    laws = [math.exp(height) * point[law] for point in points]
    style: dict[str, Any] = {"color": _LAW, "linestyle": (0, (5, 2)), "linewidth": 1.4}
    axes.plot(sizes, laws, label="should be, up to a factor", **style)
