import contextlib
import itertools
import json
import math
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib import image

from jaxformer.io import plot
from jaxformer.study.pictures import draw
from jaxformer.study.records import read_sweep
from jaxformer.study.rows import make_rows
from tests.study.sweeps import (
    PAPER_BASE,
    STEPS,
    make_member,
    write_manifest,
    write_metrics,
    write_scores,
)


@contextlib.contextmanager
def keeping():
    """Gives the figures by the name of their PNG, as they are saved within the block."""
    found = {}
    save = plot._save

    def keep(figure, path):
        if path.suffix == ".png":
            found[path.stem] = figure
        save(figure, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "_save", keep)
        yield found


@pytest.fixture
def figures():
    with keeping() as found:
        yield found


def draw_sweep(folder, members, scale="laptop"):
    write_manifest(folder, members, scale)
    sweep = read_sweep(folder)
    return draw(sweep, make_rows(sweep.members), folder)


def score(folder, member, bleu, perplexity, parameters=2_000_000):
    write_metrics(folder, member, STEPS, float(perplexity))
    write_scores(folder, member, bleu=bleu, perplexity=perplexity, parameters=parameters)


@pytest.fixture(scope="module")
def table3(tmp_path_factory):
    """Returns a sweep's folder, what was drawn of it, and the figures."""
    folder = tmp_path_factory.mktemp("runs") / "table3"
    rows = [
        ("base", "base", {}, 30.0, 2.0),
        ("a_heads", "h=4", {"model.num_heads": 1}, 28.0, 2.0),
        ("a_heads", "h=32", {"model.num_heads": 16}, 29.0, 2.0),
        ("b_key_size", "d_k=8", {"model.d_k": 8}, 29.5, 1.5),
        ("d_regularisation", "dropout=0", {"train.dropout_rate": 0.0}, 27.0, 2.0),
        ("big", "big", {"model.d_model": 256, "train.num_steps": 2 * STEPS}, 32.0, 7.0),
    ]
    members = []
    for group, row, overrides, bleu, millions in rows:
        for seed in (0, 1):
            members.append(make_member(group, row, seed, overrides, PAPER_BASE))
            if (row, seed) != ("big", 1):
                found = bleu + seed, 36 / bleu * 5 + 0.1 * seed
                score(folder, members[-1], *found, parameters=int(millions * 1e6))
    with keeping() as found:
        drawn = draw_sweep(folder, members)
    return folder, drawn, found


def lines_of(axes):
    """Returns (x, y, colour, marker) of what is drawn."""
    return [
        (*(list(map(float, data)) for data in line.get_data()), line.get_color(), line.get_marker())
        for line in axes.lines
    ]


def legend_of(owner):
    (legend,) = owner.legends if hasattr(owner, "legends") else [owner.get_legend()]
    return [text.get_text() for text in legend.get_texts()]


def test_the_pictures_of_table_3(table3):
    folder, drawn, figures = table3
    names = ["heads", "key_size", "dropout", "parameters", "learning_curves"]
    assert list(drawn) == names
    for name in names:
        width, height = figures[name].get_size_inches()
        shape = image.imread(folder / f"{name}.png").shape
        assert shape == (round(150 * height), round(150 * width), 4)
        root = ElementTree.parse(folder / f"{name}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.attrib["width"] == f"{72 * width:g}pt"
        assert figures[name].get_suptitle() == f"{drawn[name]} (table3, split valid)"


def test_an_svg_is_the_same_each_time(tmp_path, figures):
    members = [make_member("base", "base", 0), make_member("a", "h=2", 0, {"model.num_heads": 2})]
    for member in members:
        score(tmp_path, member, 30.0, 6.0)
    texts = []
    for _ in range(2):
        draw_sweep(tmp_path, members)
        texts.append((tmp_path / "heads.svg").read_bytes())
    assert texts[0] == texts[1]
    assert b"<dc:date>" not in texts[0]


def test_scores_are_drawn_against_heads(table3):
    _, _, figures = table3
    for axes, values in zip(
        figures["heads"].axes,
        ((28.5, 30.5, 29.5), [(180 / bleu + 0.05) for bleu in (28, 30, 29)]),
        strict=True,
    ):
        seeds, mean, base, bases_seeds = lines_of(axes)
        assert mean[0] == [1, 4, 16]
        assert mean[1] == pytest.approx(values)
        assert seeds[0] == [1, 1, 16, 16]
        assert sum(seeds[1]) == pytest.approx(2 * (values[0] + values[2]))
        assert (base[0], base[1], base[3]) == ([4], [pytest.approx(values[1])], "*")
        assert bases_seeds[0] == [4, 4]
        assert axes.get_xscale() == "log"
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "4", "16"]
        assert axes.get_xlabel() == "attention heads, h"
    labels = [axes.get_ylabel() for axes in figures["heads"].axes]
    assert labels == ["sacreBLEU (0 to 100)", "perplexity (a word piece)"]
    assert legend_of(figures["heads"]) == ["mean over seeds", "base", "one seed"]


def test_parameters_are_drawn_by_group(table3):
    _, _, figures = table3
    bleu, _ = figures["parameters"].axes
    drawn = [line for line in lines_of(bleu) if line[3] != "o" or line[0] == [1.5]]
    # Heads and dropout leave the size as it is, and say nothing of it.
    assert [line[0] for line in drawn] == [[1.5], [7.0], [2.0]]
    assert [line[1] for line in drawn] == [[30.0], [32.0], [30.5]]
    assert bleu.get_xlabel() == "parameters (millions)"
    assert legend_of(figures["parameters"]) == ["(B) key size", "big", "base", "one seed"]


def test_learning_curves_have_a_panel_a_group_with_base_in_each(table3):
    _, _, figures = table3
    panels = figures["learning_curves"].axes
    names = ["(A) heads", "(B) key size", "(D) regularisation", "big"]
    assert [axes.get_title() for axes in panels] == names
    assert [len(axes.lines) for axes in panels] == [3, 2, 2, 2]
    # Their labels are those of the paper's rows, which had other heads.
    assert legend_of(panels[0]) == ["h=1", "h=16", "base"]
    for axes in panels:
        base = axes.lines[-1]
        assert (base.get_color(), list(base.get_xdata())[-1]) == ("#000000", STEPS)
        styles = {(line.get_color(), str(line.get_linestyle())) for line in axes.lines}
        assert len(styles) == len(axes.lines)
        # The end of each curve is on the picture, its first steps need not be.
        bottom, top = axes.get_ylim()
        assert all(bottom < line.get_ydata()[-1] < top for line in axes.lines)
    first, second = (180 / 28 * (1 + 60 * math.exp(-250 / 350)) for _ in range(2))
    second += 0.1 * (1 + 60 * math.exp(-250 / 350))
    assert panels[0].lines[0].get_ydata()[0] == pytest.approx((first + second) / 2)


def test_no_text_is_cut_off_and_no_tick_labels_overlap(table3):
    _, _, figures = table3
    for name, figure in figures.items():
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        box = figure.bbox
        texts = [figure._suptitle, *(text for each in figure.legends for text in each.get_texts())]
        for axes in figure.axes:
            assert axes.lines
            texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
            for axis, side in ((axes.xaxis, "x"), (axes.yaxis, "y")):
                low, high = sorted(getattr(axes.viewLim, f"interval{side}"))
                ticks = [
                    label.get_window_extent(renderer)
                    for label in axis.get_ticklabels()
                    if label.get_text()
                    if low <= label.get_position()[side == "y"] <= high and label.get_visible()
                ]
                ends = sorted((getattr(t, f"{side}0"), getattr(t, f"{side}1")) for t in ticks)
                assert all(one[1] < two[0] for one, two in itertools.pairwise(ends)), name
        for text in texts:
            extent = text.get_window_extent(renderer)
            assert not text.get_text() or (box.x0 <= extent.x0 and extent.x1 <= box.x1), text
            assert not text.get_text() or (box.y0 <= extent.y0 and extent.y1 <= box.y1), text


def test_labels_are_drawn_as_they_are(tmp_path, figures):
    """Warnings are errors here: a label of the legend that begins with "_" gives one."""
    labels = ["_a $x_$ {b", "\n\x1b[1m中", "long " * 20]
    members = [make_member("_g$", "base", 0)]
    members += [
        make_member("_g$", label, 0, {"model.num_heads": 2**n}) for n, label in enumerate(labels)
    ]
    for member in members:
        score(tmp_path, member, 30.0, 6.0)
    draw_sweep(tmp_path, members)
    (axes,) = figures["learning_curves"].axes
    assert axes.get_title() == "_g$"
    assert legend_of(axes) == [labels[0], "□[1m□", "long long long long long long long …", "base"]


def test_a_sweep_without_base_has_a_line_for_each_choice(tmp_path, figures):
    members = [
        make_member(
            "g",
            f"{heads} {rate:g}",
            seed,
            {"model.num_heads": heads, "optimizer.learning_rate": rate},
        )
        for heads in (1, 2)
        for rate in (0.1, 0.2)
        for seed in (0,)
    ]
    for number, member in enumerate(members):
        score(tmp_path, member, 20.0 + number, [6.0, "inf", 1e9, 7.0][number])
    drawn = draw_sweep(tmp_path, members, scale="mine")
    assert list(drawn) == ["heads", "optimizer_learning_rate", "learning_curves"]
    bleu, perplexity = figures["heads"].axes
    assert [line[:2] for line in lines_of(bleu)] == [([1, 2], [20, 22]), ([1, 2], [21, 23])]
    # What diverged leaves a gap or a logarithmic axis, and never an error.
    assert [line[:2] for line in lines_of(perplexity)] == [([1, 2], [6, 1e9]), ([2], [7])]
    assert perplexity.get_yscale() == "log"
    assert legend_of(figures["heads"]) == ["learning_rate=0.1", "learning_rate=0.2"]


def test_many_rows_have_their_legend_beside_the_panel(tmp_path, figures):
    members = [
        make_member("g", f"{n} feed-forward units in every layer", 0, {"model.d_ff": n})
        for n in range(1, 31)
    ]
    for member in members:
        write_metrics(tmp_path, member, 1000, 6.0)
    draw_sweep(tmp_path, members, scale="")
    (axes,) = figures["learning_curves"].axes
    legend, panel = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert legend.x0 >= panel.x1
    assert panel.width > 3 * axes.figure.dpi
    assert (legend.y0, legend.x1) >= (0, 0)
    assert legend.x1 <= figures["learning_curves"].bbox.x1
    styles = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in axes.lines}
    assert len(styles) == 30


def test_what_cannot_be_drawn_is_left_out(tmp_path):
    members = [make_member("base", "base", 0), make_member("a", "h=2", 0, {"model.num_heads": 2})]
    score(tmp_path, members[0], 30.0, 6.0)
    assert list(draw_sweep(tmp_path, members)) == ["learning_curves"]
    assert draw_sweep(tmp_path / "new", members) == {}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["manifest.json"]


def test_curves_that_are_flat_are_drawn(tmp_path, figures):
    member = make_member("g", "row", 0)
    write_manifest(tmp_path, [member], "")
    rows = [{"step": step, "valid_perplexity": 6.0} for step in (10, 20)]
    path = tmp_path / member["workdir"] / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert list(draw_sweep(tmp_path, [member], "")) == ["learning_curves"]
    (axes,) = figures["learning_curves"].axes
    assert lines_of(axes)[0][:2] == ([10, 20], [6, 6])


def test_a_curve_is_the_mean_of_finished_seeds(tmp_path, figures):
    members = [make_member("g", "row", seed) for seed in range(4)]
    for member, perplexity in zip(members[:2], (4.0, 8.0), strict=True):
        score(tmp_path, member, 30.0, perplexity)
    # Scored, but its metrics have not been kept; and one that is still training.
    write_scores(tmp_path, members[2])
    write_metrics(tmp_path, members[3], 1000, 100.0)
    draw_sweep(tmp_path, members, "")
    (line,) = figures["learning_curves"].axes[0].lines
    assert line.get_xdata()[-1] == STEPS
    assert line.get_ydata()[-1] == pytest.approx(6 * (1 + 60 * math.exp(-STEPS / 350)))
