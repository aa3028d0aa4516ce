"""Pictures of attention in the style of the paper's Figures 3 to 5: words with lines between them.

One colour a head, and a line as strong as its weight.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxformer.io.plot import drawable, picture

if TYPE_CHECKING:
    import jax
    from matplotlib.axes import Axes

COLOURS = (
    "#4477aa",
    "#b85818",
    "#1f8030",
    "#aa3377",
    "#0f7a8a",
    "#bb3333",
    "#6f63bd",
    "#7d6e0e",
)
"""Of the heads, in turn; the same as those of the page on white."""

# Weights below it would be drawn too faintly to be seen.
_LEAST = 0.02
_LONGEST_NAME = 16
_GREY = "#5c646d"


def plot_links(
    weights_HTS: np.ndarray | jax.Array,
    queries: Sequence[str],
    keys: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    query: int | None = None,
) -> None:
    """Draws the words that look on the left, those they look at on the right, and lines between.

    A panel a head (Figures 4 and 5), or all heads in one panel for a single word (Figure 3).

    Args:
      weights_HTS: attention weights in [0, 1].
      queries, keys: T and S names; long ones are cut, and what the font lacks becomes a square.
      path: of the PNG, in a folder that exists.
      query: the single word, counted from 0; None for all.

    Raises: ValueError if the weights are not of the names' shape, or there is no such word.
    """
    weights_HTS = np.asarray(weights_HTS, np.float32)
    expected = (len(queries), len(keys))
    if weights_HTS.ndim != 3 or weights_HTS.shape[1:] != expected or not weights_HTS.size:
        raise ValueError(
            f"Attention weights of shape {weights_HTS.shape} do not fit {expected[0]} queries and "
            f"{expected[1]} keys. Give (heads, {expected[0]}, {expected[1]}), none of them 0."
        )
    if query is not None and not 0 <= query < len(queries):
        raise ValueError(
            f"There is no word {query}: {len(queries)} words look. Give one from 0 to "
            f"{len(queries) - 1}."
        )
    num_heads, rows = weights_HTS.shape[0], max(expected)
    panels = [[head] for head in range(num_heads)] if query is None else [[*range(num_heads)]]
    # Inches: a word a line, until the sentence is too long for a screen.
    line = min(0.19, 14.0 / rows)
    columns = math.ceil(len(panels) / math.ceil(len(panels) / 4))
    down = math.ceil(len(panels) / columns)
    legend = 0.0 if query is None else 0.25 * math.ceil(num_heads / 4)
    size = (3.6 * columns + 0.2, down * (line * rows + 0.45) + 0.4 * bool(title) + legend)

    with picture(*size, path) as figure:
        grid = figure.subplots(down, columns, squeeze=False).flat
        for place, axes in enumerate(grid):
            axes.set_axis_off()
            if place >= len(panels):
                continue
            heads = panels[place]
            _draw_words(axes, queries, keys, query, size=min(9.0, 52.0 * line))
            for number, head in enumerate(heads):
                track = ((number + 0.5) / len(heads) - 0.5) * 0.6
                _draw_lines(axes, weights_HTS[head], COLOURS[head % len(COLOURS)], query, track)
            axes.set_xlim(-0.95, 1.95)
            axes.set_ylim(rows - 0.4, -0.6)
            if query is None:
                colour = COLOURS[heads[0] % len(COLOURS)]
                axes.set_title(f"head {heads[0] + 1}", fontsize=9, color=colour)
        if query is not None:
            _add_legend(figure, num_heads)
        if title:
            figure.suptitle(drawable(title), fontsize=11, parse_math=False)


def _draw_words(
    axes: Axes, queries: Sequence[str], keys: Sequence[str], query: int | None, size: float
) -> None:
    for x, side, names in ((-0.04, "right", queries), (1.04, "left", keys)):
        for row, name in enumerate(names):
            text = drawable(name)
            if len(text) > _LONGEST_NAME:
                text = f"{text[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
            style: dict[str, Any] = {"fontsize": size, "va": "center", "ha": side}
            if side == "right" and query is not None:
                style |= {"fontweight": "bold"} if row == query else {"color": _GREY}
            axes.text(x, row, text, parse_math=False, **style)


def _draw_lines(
    axes: Axes, weights_TS: np.ndarray, colour: str, query: int | None, track: float
) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba_array

    found_L2 = np.argwhere(weights_TS >= _LEAST)
    if query is not None:
        found_L2 = found_L2[found_L2[:, 0] == query]
    strength = np.clip(weights_TS[tuple(found_L2.T)], 0.0, 1.0)
    colours = np.repeat(to_rgba_array(colour), len(found_L2), axis=0)
    colours[:, 3] = strength
    ends = [[(0.0, row + track), (1.0, column + track)] for row, column in found_L2.tolist()]
    axes.add_collection(
        LineCollection(ends, colors=colours, linewidths=0.6 + 2.0 * strength, capstyle="round"),
        autolim=False,
    )


def _add_legend(figure: Any, num_heads: int) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=COLOURS[head % len(COLOURS)], lw=2) for head in range(num_heads)]
    names = [f"head {head + 1}" for head in range(num_heads)]
    style: dict[str, Any] = {"ncols": min(4, num_heads), "frameon": False, "fontsize": 8}
    figure.legend(lines, names, loc="outside lower center", **style)
