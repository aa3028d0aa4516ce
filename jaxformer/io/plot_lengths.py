"""A picture of scores against the length of sentences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from jaxformer.io.plot import drawable, picture

_COLOURS = ("#4477aa", "#cc3311", "#228833", "#aa3377")
_BARS, _GRID = "#dddddd", "#eeeeee"


def plot_by_length(
    scores: Mapping[str, Sequence[float]],
    lengths: Sequence[str],
    sentences: Sequence[int],
    path: str | os.PathLike[str],
    label: str,
) -> None:
    """Draws a curve a kind of score over classes of length, and the number of sentences below.

    Args:
      scores: name -> a score for each class, 0 to 100.
      lengths: names of the classes, such as "11-20".
      sentences: how many there are in each.
      path: of the PNG, in a folder that exists.
      label: what the scores are.

    Raises: ValueError if there are no scores, or not one for each class.
    """
    sizes = {name: len(values) for name, values in scores.items()}
    if not scores or not lengths or {*sizes.values(), len(sentences)} != {len(lengths)}:
        raise ValueError(
            f"Scores of {sizes} and {len(sentences)} counts cannot be drawn over {len(lengths)} "
            "classes of length. Give one of each for every class."
        )
    with picture(7.0, 4.8, path) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        places = range(len(lengths))
        for number, (name, values) in enumerate(scores.items()):
            style: dict[str, Any] = {"marker": "o", "markersize": 4}
            colour = _COLOURS[number % len(_COLOURS)]
            above.plot(places, values, color=colour, label=drawable(name), **style)
        above.set_ylim(0, 100)
        above.set_ylabel(drawable(label))
        above.legend(frameon=False, fontsize=9)
        below.bar(places, sentences, color=_BARS)
        for place, count in zip(places, sentences, strict=True):
            below.text(place, count, f"{count:,}", ha="center", va="bottom", fontsize=8)
        below.set_ylabel("sentences", fontsize=9)
        below.set_ylim(0, 1.35 * max(1, *sentences))
        below.set_yticks([])
        below.set_xticks(places, [drawable(name) for name in lengths])
        below.set_xlabel("words of the sentence, punctuation included")
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
        above.grid(color=_GRID, linewidth=0.8)
        above.set_axisbelow(True)
