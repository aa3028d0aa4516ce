"""Pictures of a run: its loss curve, and the attention of one sentence.

Figures are made by matplotlib's objects, never by pyplot, whose global state and windows would
reach into a caller's notebook. It is imported on demand: a training without pictures does without.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxformer.files import in_bucket, replace_file

if TYPE_CHECKING:
    import jax
    from matplotlib.figure import Figure

_TRAINING, _VALIDATION, _GRID = "#4477aa", "#cc3311", "#dddddd"
_DPI = 150
_MISSING = "\N{WHITE SQUARE}"


def plot_loss(
    rows: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    training: str = "loss",
    validation: str = "valid_nll",
) -> None:
    """Draws the training loss and the validation loss against the step, in nats a token.

    The loss axis is logarithmic where all is positive. A long run's noisy training loss is drawn
    faintly, with its running mean on top. Values that are not finite leave a gap.

    Args:
      rows: those of `read_metrics`; a row may hold either loss, both or neither.
      path: of the PNG, in a folder that exists.
      training, validation: the rows' names for the two.

    Raises: ValueError if no row holds a finite loss.
    """
    step, loss = _series(rows, training)
    valid_step, valid_loss = _series(rows, validation)
    values = np.concatenate([loss, valid_loss])
    values = values[np.isfinite(values)]
    if not values.size:
        raise ValueError(
            f"There is no loss to plot: none of {len(rows)} rows of metrics holds a finite "
            f"{training} or {validation}. Train for some steps first."
        )
    from matplotlib.ticker import MaxNLocator

    with picture(7.0, 4.2, path) as figure:
        axes = figure.add_subplot()
        if loss.size:
            window = loss.size // 40
            few: dict[str, Any] = {"marker": "o", "markersize": 4} if loss.size <= 3 else {}
            if window >= 3:
                axes.plot(step, loss, color=_TRAINING, linewidth=0.6, alpha=0.35)
                loss = _running_mean(loss, window)
            axes.plot(step, loss, color=_TRAINING, linewidth=1.6, label="training loss", **few)
        if valid_loss.size:
            dots: dict[str, Any] = {"marker": "o", "markersize": 4} if valid_loss.size <= 60 else {}
            axes.plot(
                valid_step,
                valid_loss,
                color=_VALIDATION,
                linewidth=1.6,
                label="validation nll",
                **dots,
            )
        low, high = float(values.min()), float(values.max())
        if low > 0:
            axes.set_yscale("log")
            readable_ticks(axes.yaxis, low, high)
        axes.set_xlabel("step")
        if loss.size and valid_loss.size:
            axes.set_ylabel("nats a token")
            axes.legend(frameon=False)
        else:
            name = "training loss" if loss.size else "validation nll"
            axes.set_ylabel(f"{name} (nats a token)")
        axes.grid(color=_GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 2.5, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")


def plot_attention(
    weights_HTS: np.ndarray | jax.Array,
    source_pieces: Sequence[str],
    target_pieces: Sequence[str],
    path: str | os.PathLike[str],
    title: str = "",
    sides: tuple[str, str] = ("source", "target"),
) -> None:
    """Draws one panel a head: how much each target piece (row) looks at each source piece (column).

    Args:
      weights_HTS: attention weights in [0, 1].
      source_pieces, target_pieces: S and T labels, drawn as they are, except that a character which
        the font (DejaVu Sans: Latin, Greek, Cyrillic, Hebrew, Arabic and more, no Chinese, Japanese
        or Korean) lacks becomes a white square.
      path: of the PNG, in a folder that exists.
      sides: what columns and rows are, where they are not source and target.

    Raises: ValueError if the weights are not of the labels' shape.
    """
    weights_HTS = np.asarray(weights_HTS, np.float32)
    expected = (len(target_pieces), len(source_pieces))
    if weights_HTS.ndim != 3 or weights_HTS.shape[1:] != expected or not weights_HTS.size:
        raise ValueError(
            f"Attention weights of shape {weights_HTS.shape} do not fit {expected[0]} target and "
            f"{expected[1]} source pieces. Give (heads, {expected[0]}, {expected[1]}), none of "
            f"them 0."
        )
    num_heads, num_target, num_source = weights_HTS.shape
    # Inches. A cell has room for a line of text, until the sentence is too long for a screen.
    cell_x, cell_y = (min(0.17, max(0.04, 9.0 / count)) for count in (num_source, num_target))
    width, height = max(1.5, cell_x * num_source), max(1.5, cell_y * num_target)
    rows = math.ceil(num_heads / min(4, max(1, int(20.0 // width))))
    columns = math.ceil(num_heads / rows)
    # Points; labels that would overlap at the smallest size are left out.
    size_x, size_y = (min(9.0, max(5.0, 56.0 * cell)) for cell in (cell_x, cell_y))
    every_x = math.ceil(size_x * num_source / (56.0 * width) - 1e-6)
    every_y = math.ceil(size_y * num_target / (56.0 * height) - 1e-6)
    labels = [[drawable(piece) for piece in pieces] for pieces in (source_pieces, target_pieces)]
    room_x = 0.4 + 0.0095 * size_x * max(map(len, labels[0]))
    room_y = 0.4 + 0.0095 * size_y * max(map(len, labels[1]))
    size = (columns * (width + 0.25) + room_y + 0.9, rows * (height + 0.4) + room_x + 0.6)

    with picture(*size, path) as figure:
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
        style: dict[str, Any] = {"cmap": "Blues", "vmin": 0.0, "vmax": 1.0, "aspect": "auto"}
        text_x: dict[str, Any] = {"fontsize": size_x, "parse_math": False, "rotation": 90}
        text_y: dict[str, Any] = {"fontsize": size_y, "parse_math": False}
        images = []
        for head, axes in enumerate(panels):
            if head >= num_heads:
                axes.set_axis_off()
                continue
            images.append(axes.imshow(weights_HTS[head], interpolation="none", **style))
            axes.set_title(f"head {head + 1}", fontsize=9)
            axes.set_xticks(range(0, num_source, every_x), labels[0][::every_x], **text_x)
            axes.set_yticks(range(0, num_target, every_y), labels[1][::every_y], **text_y)
            # Shared axes label the last row only; here the panel above a gap is its column's last.
            is_last = head + columns >= num_heads
            axes.tick_params(length=0, labelbottom=is_last, labelleft=head % columns == 0)
            axes.spines[:].set_color(_GRID)
        shrink = min(1.0, 2.5 / (rows * height))
        bar = figure.colorbar(images[0], ax=list(figure.axes), shrink=shrink, pad=0.01)
        bar.set_label("attention weight", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        figure.supxlabel(sides[0], fontsize=10)
        figure.supylabel(sides[1], fontsize=10)
        if title:
            figure.suptitle(drawable(title), fontsize=11, parse_math=False)


@contextlib.contextmanager
def picture(width: float, height: float, *paths: str | os.PathLike[str]) -> Generator[Figure]:
    """A figure of that many inches, which is on file after the block, unless that raises.

    Args:
      paths: ending in .png or .svg; the same figure gives the same bytes each time.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Not in the user's style: it may name a font that is not there, or draw on black.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        # Names within an SVG, which are random otherwise.
        matplotlib.rcParams["svg.hashsalt"] = "jaxformer"
        yield figure
        for path in paths:
            _save(figure, path)


def readable_ticks(axis: Any, low: float, high: float) -> None:
    """Gives a logarithmic axis plain numbers, where powers of ten alone would be no tick at all.

    Args:
      axis: `axes.xaxis` or `axes.yaxis`.
      low, high: of the values that are drawn, above 0.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if high < 2 * low:
        axis.set_major_locator(MaxNLocator(8))
    else:
        subs = (1, 1.5, 2, 3, 4, 5, 6, 8) if high < 20 * low else (1, 2, 5)
        axis.set_major_locator(LogLocator(subs=subs if high < 1000 * low else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def drawable(text: str) -> str:
    """The text with a square for what would draw nothing, break the line, or warn."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return "".join(
        character if character.isprintable() and font.get_char_index(ord(character)) else _MISSING
        for character in text
    )


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    content = io.BytesIO()
    target = content if in_bucket(path) else path
    if os.fspath(path).endswith(".svg"):
        figure.savefig(target, format="svg", facecolor="white", metadata={"Date": None})
    else:
        figure.savefig(target, format="png", dpi=_DPI, facecolor="white")
    if in_bucket(path):
        replace_file(path, content.getvalue())


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    steps = np.array([float(step) for step, _ in pairs])
    return steps, np.array([float(value) for _, value in pairs])


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean over `window` neighbours on either side; gaps stay gaps.

    Fewer near the start, as many on both sides, so that a steep beginning is not flattened.
    """
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(values.size)
    reach = np.minimum(index, window)
    low, high = index - reach, np.minimum(index + reach + 1, values.size)
    mean = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
    return np.where(finite, mean, np.nan)
