import itertools
import math
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image

from jaxformer.io.plot import plot_attention, plot_loss

ROOT = Path(__file__).resolve().parents[2]


def make_rows(count, every=5):
    rows = []
    for step in range(1, count + 1):
        rows.append({"step": 10 * step, "loss": 2.0 + 7.0 * math.exp(-step / 50)})
        if step % every == 0:
            rows.append({"step": 10 * step, "valid_nll": 1.5 + 7.0 * math.exp(-step / 50)})
    return rows


def data_of(line):
    return line.get_xdata().tolist(), line.get_ydata().tolist()


def test_loss_and_validation_are_drawn(tmp_path, figures):
    rows = make_rows(20)
    plot_loss(rows, tmp_path / "loss.png")
    assert image.imread(tmp_path / "loss.png").shape == (630, 1050, 4)
    (axes,) = figures[0].axes
    training, validation = axes.lines
    assert data_of(training) == (
        [row["step"] for row in rows if "loss" in row],
        [row["loss"] for row in rows if "loss" in row],
    )
    assert data_of(validation) == (
        [row["step"] for row in rows if "valid_nll" in row],
        [row["valid_nll"] for row in rows if "valid_nll" in row],
    )
    assert axes.get_yscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "nats a token")
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["training loss", "validation nll"]


@pytest.mark.parametrize("name", ["loss", "valid_nll"])
def test_one_line_needs_no_legend(tmp_path, figures, name):
    plot_loss([row for row in make_rows(10) if name in row], tmp_path / "loss.png")
    (axes,) = figures[0].axes
    assert len(axes.lines) == 1
    assert axes.get_legend() is None
    expected = {"loss": "training loss", "valid_nll": "validation nll"}[name]
    assert axes.get_ylabel() == f"{expected} (nats a token)"


@pytest.mark.parametrize(("low", "high"), [(4.4, 5.2), (1.7, 9.1), (0.01, 9.0)])
def test_the_loss_axis_has_plain_numbers(tmp_path, figures, low, high):
    rows = [{"step": step, "loss": low + (high - low) / step} for step in (1, 2, 4, 100)]
    plot_loss(rows, tmp_path / "loss.png")
    (axes,) = figures[0].axes
    bottom, top = axes.get_ylim()
    shown = [
        text.get_text()
        for text in axes.get_yticklabels()
        if bottom <= text.get_position()[1] <= top
    ]
    assert 3 <= len(shown) <= 10
    assert all(bottom <= float(text) <= top for text in shown)


def test_a_long_run_is_drawn_with_its_mean(tmp_path, figures):
    rng = np.random.default_rng(0)
    rows = [{"step": step, "loss": 3.0 + rng.normal()} for step in range(400)]
    rows[50]["loss"] = float("nan")
    plot_loss(rows, tmp_path / "loss.png")
    raw, mean = figures[0].axes[0].lines
    assert np.isnan(raw.get_ydata()[50])
    assert np.isnan(mean.get_ydata()[50])
    values = np.array([row["loss"] for row in rows])
    for index, (low, high) in {0: (0, 1), 4: (0, 9), 200: (190, 211), 399: (389, 400)}.items():
        assert mean.get_ydata()[index] == pytest.approx(values[low:high].mean())
    assert mean.get_ydata()[55] == pytest.approx(np.nanmean(values[45:66]))


def test_values_that_are_not_finite_leave_a_gap(tmp_path, figures):
    rows = [{"step": i, "loss": loss} for i, loss in enumerate([3.0, "inf", None, math.nan, 2.0])]
    plot_loss(rows, tmp_path / "loss.png")
    steps, losses = data_of(figures[0].axes[0].lines[0])
    assert steps == [0, 1, 3, 4]
    assert [loss if math.isfinite(loss) else None for loss in losses] == [3.0, None, None, 2.0]


def test_a_loss_of_zero_needs_a_linear_axis(tmp_path, figures):
    plot_loss([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 0.0}], tmp_path / "loss.png")
    assert figures[0].axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("rows", [[], [{"step": 1}], [{"step": 1, "loss": math.nan}]])
def test_no_loss_is_told(tmp_path, rows):
    with pytest.raises(ValueError, match=f"no loss to plot: none of {len(rows)} rows"):
        plot_loss(rows, tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []


def make_weights(heads, target, source):
    weights = np.random.default_rng(0).uniform(size=(heads, target, source))
    return weights / weights.sum(-1, keepdims=True)


def labels_of(axis):
    return [text.get_text() for text in axis.get_ticklabels() if text.get_visible()]


@pytest.mark.parametrize(
    ("heads", "grid"), [(1, (1, 1)), (2, (1, 2)), (5, (2, 3)), (8, (2, 4)), (13, (4, 4))]
)
def test_every_head_has_its_panel(tmp_path, figures, heads, grid):
    weights_HTS = make_weights(heads, 3, 5)
    source, target = ["▁a", "▁b", "c", "▁d", "</s>"], ["▁x", "y", "</s>"]
    plot_attention(weights_HTS, source, target, tmp_path / "a.png", title="layer 1")
    (figure,) = figures
    assert figure.get_suptitle() == "layer 1"
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("source", "target")
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == heads
    assert panels[0].get_gridspec().get_geometry() == grid
    for head, axes in enumerate(panels):
        assert axes.get_title() == f"head {head + 1}"
        np.testing.assert_allclose(axes.images[0].get_array(), weights_HTS[head], rtol=1e-6)
        assert axes.images[0].get_clim() == (0.0, 1.0)
        is_lowest, is_leftmost = head + grid[1] >= heads, head % grid[1] == 0
        assert labels_of(axes.xaxis) == (source if is_lowest else [])
        assert {text.get_rotation() for text in axes.get_xticklabels()} <= {90}
        assert labels_of(axes.yaxis) == (target if is_leftmost else [])
    assert figure.axes[-1].get_ylabel() == "attention weight"


def test_the_sides_have_names(tmp_path, figures):
    plot_attention(make_weights(1, 2, 2), list("ab"), list("xy"), tmp_path / "a.png")
    sides = ("the past", "target")
    plot_attention(make_weights(1, 2, 2), list("ab"), list("xy"), tmp_path / "a.png", sides=sides)
    named = [(figure.get_supxlabel(), figure.get_supylabel()) for figure in figures]
    assert named == [("source", "target"), sides]


def test_labels_that_cannot_be_drawn_are_squares(tmp_path, figures):
    """Warnings are errors here, and a missing glyph is one, as is a formula that cannot be read."""
    source = ["▁naïve", "▁привет", "▁שלום", "▁中国", "😀🏽", "\n\u200b", "$x_$", "<0x0A>"]
    weights_HTS = jnp.asarray(make_weights(1, 2, 8), jnp.bfloat16)
    plot_attention(weights_HTS, source, ["▁þe", "▁ȝe"], tmp_path / "a.png", title="{$ 中_$")
    axes = figures[0].axes[0]
    assert labels_of(axes.xaxis) == [*source[:3], "▁□□", "😀□", "□□", "$x_$", "<0x0A>"]
    assert labels_of(axes.yaxis) == ["▁þe", "▁ȝe"]
    assert figures[0].get_suptitle() == "{$ □_$"


def test_a_long_sentence_has_labels_that_do_not_overlap(tmp_path, figures):
    source, target = ["word"] * 300, ["wort"] * 90
    plot_attention(make_weights(1, 90, 300), source, target, tmp_path / "a.png")
    axes = figures[0].axes[0]
    assert max(figures[0].get_size_inches()) < 20
    for axis, side in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        boxes = [text.get_window_extent() for text in axis.get_ticklabels()]
        starts = sorted((getattr(box, f"{side}0"), getattr(box, f"{side}1")) for box in boxes)
        assert len(boxes) == {"x": 100, "y": 90}[side]
        assert all(one[1] <= other[0] + 1 for one, other in itertools.pairwise(starts))


@pytest.mark.parametrize("shape", [(3, 5), (2, 5, 3), (2, 3, 4), (0, 3, 5)])
def test_weights_of_another_shape_are_told(tmp_path, shape):
    with pytest.raises(ValueError, match="do not fit 3 target and 5 source pieces"):
        plot_attention(np.ones(shape), list("abcde"), list("xyz"), tmp_path / "a.png")
    with pytest.raises(ValueError, match="do not fit 3 target and 0 source pieces"):
        plot_attention(np.ones((1, 3, 0)), [], list("xyz"), tmp_path / "a.png")


def test_a_caller_s_matplotlib_is_left_alone(tmp_path):
    code = (
        "import sys, matplotlib\n"
        "matplotlib.rcParams['font.family'] = 'no-such-font'\n"
        "from jaxformer.io.plot import plot_loss\n"
        f"plot_loss([{{'step': 1, 'loss': 1.0}}], {str(tmp_path / 'a.png')!r})\n"
        "print('matplotlib.pyplot' in sys.modules, matplotlib.rcParams['font.family'])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False ['no-such-font']\n"
    assert done.stderr == ""
