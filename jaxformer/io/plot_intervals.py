"""Pictures of figures with their uncertainty: a mark for each, a line as long as its interval."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxformer.io.plot import drawable, picture


class Interval(NamedTuple):
    """A figure and the two ends of its interval."""

    name: str
    value: float
    ends: tuple[float, float]
    colour: str = "black"


def plot_intervals(
    panels: Mapping[str, Sequence[Interval]], path: str | os.PathLike[str], label: str
) -> None:
    """Draws a panel for each title, its figures from top to bottom, all named at the left.

    Args:
      panels: title -> figures, of the same names in every panel.
      path: of the PNG, in a folder that exists.
      label: what the figures are, with their unit.

    Raises: ValueError if there is nothing to draw, or the panels differ in names.
    """
    names = [[each.name for each in figures] for figures in panels.values()]
    if not names or not names[0] or any(other != names[0] for other in names):
        raise ValueError("Intervals are drawn side by side. Give every panel the same names.")
    size = (1.5 + 0.07 * max(map(len, names[0])) + 3.5 * len(panels), 1.0 + 0.22 * len(names[0]))
    with picture(*size, path) as figure:
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True).flat
        for axes, (title, figures) in zip(grid, panels.items(), strict=True):
            for place, each in enumerate(figures):
                axes.plot(each.ends, (place, place), color=each.colour, linewidth=2)
                axes.plot(each.value, place, "o", color=each.colour, markersize=5)
            axes.set_yticks(range(len(figures)), [drawable(name) for name in names[0]])
            axes.set_title(drawable(title), fontsize=10, parse_math=False)
            axes.set_xlabel(label, fontsize=9)
            axes.tick_params(labelsize=8)
            axes.grid(axis="x", color="#dddddd", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        grid[0].invert_yaxis()
