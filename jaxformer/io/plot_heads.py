"""Pictures of all heads of a model at once: a figure for each, by layer and head."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxformer.io.plot import drawable, picture

if TYPE_CHECKING:
    import jax


def plot_heads(
    values: Mapping[str, np.ndarray | jax.Array],
    path: str | os.PathLike[str],
    label: str,
    *,
    is_change: bool = False,
    title: str = "",
) -> None:
    """Draws a panel a kind of attention, with layers as rows and heads as columns.

    Args:
      values: kind of attention -> value_LH, L being the layers; all panels share one scale.
      path: of the PNG, in a folder that exists.
      label: what the values are, with their unit.
      is_change: whether values are changes, whose colours part at 0.

    Raises: ValueError if there are no values, or they are not of two axes.
    """
    panels = {kind: np.asarray(value_LH, np.float64) for kind, value_LH in values.items()}
    shapes = [value_LH.shape for value_LH in panels.values()]
    if not panels or any(len(shape) != 2 or 0 in shape for shape in shapes):
        raise ValueError(f"Values of shapes {shapes} cannot be drawn. Give (layers, heads) a kind.")
    everything = np.concatenate([value_LH.ravel() for value_LH in panels.values()])
    reach = float(np.abs(everything).max()) or 1.0
    style: dict[str, Any] = (
        {"cmap": "RdBu", "vmin": -reach, "vmax": reach}
        if is_change
        else {"cmap": "Blues", "vmin": 0.0, "vmax": reach}
    )
    layers, heads = (max(sizes) for sizes in zip(*shapes, strict=True))
    size = (len(panels) * (0.5 * heads + 0.5) + 1.2, 0.36 * layers + 1.3 + 0.3 * bool(title))

    with picture(*size, path) as figure:
        grid = figure.subplots(1, len(panels), squeeze=False).flat
        images = []
        for place, (axes, (kind, value_LH)) in enumerate(zip(grid, panels.items(), strict=True)):
            images.append(axes.imshow(value_LH, interpolation="none", aspect="auto", **style))
            axes.set_title(drawable(kind), fontsize=10)
            axes.set_xticks(range(value_LH.shape[1]), range(1, value_LH.shape[1] + 1), fontsize=8)
            axes.set_yticks(range(value_LH.shape[0]), range(1, value_LH.shape[0] + 1), fontsize=8)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.set_xlabel("head", fontsize=9)
            if not place:
                axes.set_ylabel("layer", fontsize=9)
            for (layer, head), value in np.ndenumerate(value_LH):
                # White on what is dark.
                is_dark = abs(value) > 0.6 * reach
                text = f"{value:+.1f}" if is_change else f"{value:.2f}"
                text = "0.0" if text in {"+0.0", "-0.0"} else text
                colour = "white" if is_dark else "black"
                axes.text(head, layer, text, ha="center", va="center", fontsize=7, color=colour)
        bar = figure.colorbar(images[0], ax=list(figure.axes), pad=0.02)
        bar.set_label(label, fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        if title:
            figure.suptitle(drawable(title), fontsize=11, parse_math=False)
