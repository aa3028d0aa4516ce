"""Axes of a picture of costs: both logarithmic, the size below in powers of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GRID = "#dddddd"


def dress(axes: Axes, label: str) -> None:
    """Makes both axes logarithmic, with a grid.

    Args:
      label: of the size below.
    """
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel(label)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(figure: Any, axes: Axes) -> None:
    """Adds the legend of one panel below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, fontsize=9, edgecolor="none"
    )
