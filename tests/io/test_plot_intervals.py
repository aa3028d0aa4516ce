"""Figures with their uncertainty, drawn."""

import pytest

from jaxformer.io.plot_intervals import Interval, plot_intervals

FIGURES = [Interval("whole", 61.0, (59.5, 62.5)), Interval("ra$ndom", 12.0, (11.0, 13.0), "red")]


def test_a_panel_a_title(tmp_path):
    plot_intervals({"one": FIGURES}, tmp_path / "one.png", "recall, %")
    plot_intervals({"one": FIGURES, "two": FIGURES}, tmp_path / "two.png", "recall, %")
    widths = [
        int.from_bytes((tmp_path / f"{name}.png").read_bytes()[16:20]) for name in ("one", "two")
    ]
    assert widths[1] - widths[0] == 3.5 * 150


@pytest.mark.parametrize("panels", [{}, {"one": []}, {"one": FIGURES, "two": FIGURES[:1]}])
def test_panels_must_agree(tmp_path, panels):
    with pytest.raises(ValueError, match="Give every panel the same names"):
        plot_intervals(panels, tmp_path / "a.png", "x")
    assert list(tmp_path.iterdir()) == []
