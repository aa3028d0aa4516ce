"""Pictures of a sweep, each as PNG and SVG: scores against a setting, and learning curves.

The colours differ for the colour-blind too; marks and dashes tell lines apart without colour.
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxformer.files import as_path
from jaxformer.io.plot import drawable, picture, readable_ticks
from jaxformer.study.factors import (
    PAPERS,
    Factor,
    line_names,
    lines,
    other_factors,
    points,
    settings_name,
)
from jaxformer.study.records import Sweep
from jaxformer.study.rows import Row, base_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SCORES = (("bleu", "sacreBLEU (0 to 100)"), ("perplexity", "perplexity (a word piece)"))
# Paul Tol's bright scheme.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#ccbb44", "#777777")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (6, 2, 1, 2)),
    (0, (9, 2)),
    (0, (4, 1.5, 1, 1.5, 1, 1.5)),
    (0, (2, 2)),
)
_BLACK, _GRID = "#000000", "#dddddd"
_LONGEST_LABEL = 36
_SIZE = (8.4, 4.2)
_LINES_IN_PANEL = 8
_RING: dict[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 4,
    "markerfacecolor": "none",
    "markeredgewidth": 0.8,
}


def draw(sweep: Sweep, rows: Sequence[Row], folder: str | os.PathLike[str]) -> dict[str, str]:
    """Draws what there is to draw, as folder/<name>.png and folder/<name>.svg.

    Scores against heads, key size, dropout and parameters; without the paper's figures also against
    any other number that varies; and learning curves. A picture that would have fewer than two
    places on its axis is left out.

    Returns: name -> what the picture shows.
    """
    drawn: dict[str, str] = {}

    def start(name: str, about: str, size: tuple[float, float] = _SIZE):
        drawn[name] = about
        return picture(*size, *(as_path(folder) / f"{name}.{kind}" for kind in ("png", "svg")))

    has_figures = any(row.members[0].paper for row in rows)
    for factor in (*PAPERS, *([] if has_figures else other_factors(rows))):
        if found := lines(factor, rows):
            with start(factor.name, f"BLEU and perplexity against {factor.about}") as figure:
                _draw_factor(figure, factor, found)
                _set_title(figure, drawn[factor.name], sweep)
    counted = _counted(rows)
    if len({row.parameters for row in counted}) > 1:
        with start("parameters", "BLEU and perplexity against parameters") as figure:
            _draw_parameters(figure, counted)
            _set_title(figure, drawn["parameters"], sweep)
    if groups := _groups([row for row in rows if len(_curve(row)) > 1], rows):
        across = min(3, math.ceil(math.sqrt(len(groups))))
        down = math.ceil(len(groups) / across)
        longest = max(map(len, groups.values()))
        aside = 2.5 if longest > _LINES_IN_PANEL else 0.0
        size = (max(5.5, 0.8 + (3.2 + aside) * across), 1.0 + max(2.8, 0.15 * longest) * down)
        # At a scale of its own a label such as h=4 is that of the paper's row.
        is_papers = sweep.scale != "paper" and has_figures
        names = {
            id(row): settings_name(row, base)
            if is_papers and base and not row.is_base
            else row.label
            for row in rows
            for base in [base_of(row, rows)]
        }
        with start("learning_curves", "Validation perplexity while training", size) as figure:
            _draw_curves(figure, groups, names, down, across)
            _set_title(figure, drawn["learning_curves"], sweep)
    return drawn


def group_name(row: Row) -> str:
    """Returns "(B) key size" for the group `b_key_size`; others as they are."""
    letter, underscore, rest = row.group.partition("_")
    is_lettered = underscore and len(letter) == 1
    return f"({letter.upper()}) {rest.replace('_', ' ')}" if is_lettered else row.group


def _draw_factor(figure: Figure, factor: Factor, found: Sequence[Sequence[Row]]) -> None:
    handles: dict[str, Any] = {}
    every = [row for line in found for row in line]
    has_seeds = any(len(row.scores) > 1 for row in every)
    single = "mean over seeds" if has_seeds else "one seed"
    names = line_names(factor, found) if len(found) > 1 else [single]
    for axes, (score, label) in zip(figure.subplots(1, 2), _SCORES, strict=True):
        for number, (line, name) in enumerate(zip(found, names, strict=True)):
            places = {id(row): factor.place(row) for row in line}
            handles[name] = _draw_rows(axes, line, places, score, _style(number))
        _draw_bases(axes, every, {id(row): factor.place(row) for row in every}, score, handles)
        _dress(axes, factor.label, label)
        _scale_places(axes, {factor.place(row) for row in every})
        _scale_scores(axes, every, score)
    _legend_below(figure, handles)


def _draw_parameters(figure: Figure, rows: Sequence[Row]) -> None:
    handles: dict[str, Any] = {}
    places = {id(row): (row.parameters or 0) / 1e6 for row in rows}
    names = dict.fromkeys(group_name(row) for row in rows if not row.is_base)
    for axes, (score, label) in zip(figure.subplots(1, 2), _SCORES, strict=True):
        for number, name in enumerate(names):
            group = [row for row in rows if group_name(row) == name and not row.is_base]
            # A line would join models that have nothing in common.
            style = {**_style(number), "linestyle": ""}
            handles[name] = _draw_rows(axes, group, places, score, style)
        _draw_bases(axes, rows, places, score, handles)
        _dress(axes, "parameters (millions)", label)
        _scale_places(axes, set(places.values()))
        _scale_scores(axes, rows, score)
    _legend_below(figure, handles)


def _counted(rows: Sequence[Row]) -> list[Row]:
    """Scored rows whose size is known; beside a base, those that differ from it in size."""
    counted = [row for row in rows if row.parameters and points(row, "bleu")]
    return [
        row
        for row in counted
        if (base := base_of(row, counted)) is None
        or row.is_base
        or row.parameters != base.parameters
    ]


def _draw_rows(
    axes: Axes,
    rows: Iterable[Row],
    places: Mapping[int, float],
    score: str,
    style: Mapping[str, Any],
) -> Any:
    """Draws the means of rows as marks on a line, and their seeds as small rings."""
    found = [(row, places[id(row)], points(row, score)) for row in rows if points(row, score)]
    # Those of a base are drawn with its star.
    _draw_seeds(axes, [each[1:] for each in found if not each[0].is_base], style["color"])
    means = [statistics.fmean(values) for _, _, values in found]
    (line,) = axes.plot(
        [place for _, place, _ in found], means, linewidth=1.4, markersize=5.5, **style
    )
    return line


def _draw_bases(
    axes: Axes,
    rows: Iterable[Row],
    places: Mapping[int, float],
    score: str,
    handles: dict[str, Any],
) -> None:
    bases = {id(row): row for row in rows if row.is_base and points(row, score)}
    if not bases:
        return
    style: dict[str, Any] = {"marker": "*", "linestyle": "", "zorder": 3}
    means = [statistics.fmean(points(row, score)) for row in bases.values()]
    where = [places[key] for key in bases]
    (handles["base"],) = axes.plot(
        where, means, color=_BLACK, markersize=13, markeredgecolor="white", **style
    )
    found = [(places[key], points(row, score)) for key, row in bases.items()]
    _draw_seeds(axes, found, _BLACK)


def _draw_seeds(axes: Axes, found: Iterable[tuple[float, list[float]]], color: str) -> None:
    """Draws a ring for each seed; one seed alone is where the mean is."""
    rings = [(place, value) for place, values in found for value in values if len(values) > 1]
    if rings:
        where, values = zip(*rings, strict=True)
        axes.plot(where, values, color=color, **_RING)


def _groups(drawn: Sequence[Row], rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Name of a group -> its rows, after the base that they are compared with."""
    groups: dict[str, list[Row]] = {}
    for row in drawn:
        if not row.is_base:
            base = base_of(row, rows)
            first = [base] if base is not None and base in drawn else []
            groups.setdefault(group_name(row), first).append(row)
    return groups or ({group_name(drawn[0]): list(drawn)} if drawn else {})


def _draw_curves(
    figure: Figure,
    groups: Mapping[str, Sequence[Row]],
    names: Mapping[int, str],
    down: int,
    across: int,
) -> None:
    panels = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    curves = {id(row): _curve(row) for group in groups.values() for row in group}
    values = [value for curve in curves.values() for value in curve.values()]
    low = min(values)
    # The first steps are so far above the rest that what is to be compared would be one line.
    ends = [list(curve.values())[-1] for curve in curves.values()]
    high = max(1.1 * low, min(max(values), 2.5 * statistics.median(ends)))
    for number, (axes, (name, group)) in enumerate(zip(panels, groups.items(), strict=False)):
        handles: dict[str, Any] = {}
        for place, row in enumerate(sorted(group, key=lambda row: row.is_base)):
            curve = curves[id(row)]
            every = math.ceil(len(curve) / 5)
            style: dict[str, Any] = {**_style(place), "linewidth": 1.2, "markersize": 3.5}
            # Not all at one step, where they would hide each other.
            style["markevery"] = (len(curve) - 1 - place % every) % every, every
            if row.is_base:
                style = {"color": _BLACK, "linewidth": 2.2, "zorder": 1.9}
            (handles[names[id(row)]],) = axes.plot(list(curve), list(curve.values()), **style)
        axes.set_yscale("log")
        readable_ticks(axes.yaxis, low, high)
        axes.set_ylim(low * (low / high) ** 0.05, high)
        axes.set_title(_short(name), fontsize=9, parse_math=False)
        _dress(axes, "", "")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlim(left=0)
        axes.tick_params(labelsize=8, labelleft=number % across == 0)
        # Curves leave the upper right of a panel free.
        is_inside = len(handles) <= _LINES_IN_PANEL
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        _legend(axes, handles, fontsize=7, **({"loc": "upper right"} if is_inside else beside))
    for axes in panels[len(groups) :]:
        axes.remove()
    figure.supxlabel("step (updates)", fontsize=10)
    figure.supylabel("validation perplexity (a word piece)", fontsize=10)


def _curve(row: Row) -> dict[int, float]:
    """Step -> perplexity, the mean over seeds; those that are not finished only if none is."""
    begun = [member for member in row.members if member.curve]
    finished = [member for member in begun if member.state == "finished"]
    curves = [dict(member.curve) for member in finished or begun]
    if not curves:
        return {}
    values = {step: [curve.get(step, math.nan) for curve in curves] for step in curves[0]}
    return {
        step: statistics.fmean(found)
        for step, found in sorted(values.items())
        if all(math.isfinite(value) and value > 0 for value in found)
    }


def _style(number: int) -> dict[str, Any]:
    turn, number = divmod(number, len(_COLOURS))
    return {
        "color": _COLOURS[number],
        "marker": _MARKS[(number + turn) % len(_MARKS)],
        "linestyle": _DASHES[(number + turn) % len(_DASHES)],
    }


def _dress(axes: Axes, label_x: str, label_y: str) -> None:
    axes.set_xlabel(drawable(label_x), parse_math=False)
    axes.set_ylabel(label_y)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _scale_places(axes: Axes, places: set[float]) -> None:
    """A logarithmic axis where places are far apart; ticks at the places where they have room."""
    from matplotlib.ticker import NullLocator

    low, high = min(places), max(places)
    is_log = low > 0 and high >= 4 * low
    if is_log:
        axes.set_xscale("log")
        readable_ticks(axes.xaxis, low, high)
    on_axis = sorted(math.log(place) if is_log else place for place in places)
    gaps = [after - before for before, after in itertools.pairwise(on_axis)]
    if min(gaps) >= 0.08 * (on_axis[-1] - on_axis[0]):
        axes.set_xticks(sorted(places), [f"{place:,.4g}" for place in sorted(places)])
        axes.xaxis.set_minor_locator(NullLocator())


def _scale_scores(axes: Axes, rows: Iterable[Row], score: str) -> None:
    values = [value for row in rows for value in points(row, score)]
    if values and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
        readable_ticks(axes.yaxis, min(values), max(values))


def _set_title(figure: Figure, about: str, sweep: Sweep) -> None:
    title = f"{about} ({sweep.name}, split {sweep.split})"
    figure.suptitle(drawable(title), fontsize=11, parse_math=False)


def _legend_below(figure: Figure, handles: dict[str, Any]) -> None:
    from matplotlib.lines import Line2D

    if any(line.get_markerfacecolor() == "none" for line in figure.axes[0].lines):
        handles["one seed"] = Line2D([], [], color=_COLOURS[-1], **_RING)
    # Inches: the mark and some room, and the text.
    width = 0.8 + 0.075 * max(len(_short(name)) for name in handles)
    across = max(1, min(len(handles), int(_SIZE[0] / width)))
    _legend(figure, handles, loc="outside lower center", fontsize=9, ncols=across)


def _legend(owner: Any, handles: Mapping[str, Any], **options: Any) -> None:
    """A legend whose texts are shown as they are, whatever they begin with."""
    names = [str(number) for number in range(len(handles))]
    legend = owner.legend(list(handles.values()), names, edgecolor="none", **options)
    for text, name in zip(legend.get_texts(), handles, strict=True):
        text.set_parse_math(False)
        text.set_text(_short(name))


def _short(text: str) -> str:
    text = drawable(" ".join(text.split()))
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"
