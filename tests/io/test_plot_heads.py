import numpy as np
import pytest
from matplotlib import image

from jaxformer.io.plot_heads import plot_heads

VALUES = {
    "encoder": np.array([[0.0, -1.26, 0.31], [-0.04, 2.0, -0.5]]),
    "cross": np.array([[0.5, -4.0, 0.1]]),
}


def cells_of(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("is_change", [False, True])
def test_a_kind_has_a_panel_with_layers_and_heads(tmp_path, figures, is_change):
    values = VALUES if is_change else {kind: abs(value_LH) for kind, value_LH in VALUES.items()}
    plot_heads(values, tmp_path / "a.png", "nats", is_change=is_change, title="$t")
    assert image.imread(tmp_path / "a.png").shape[2] == 4
    *panels, bar = figures[0].axes
    assert [axes.get_title() for axes in panels] == ["encoder", "cross"]
    for axes, value_LH in zip(panels, values.values(), strict=True):
        (picture,) = axes.images
        np.testing.assert_array_equal(picture.get_array(), value_LH)
        # One scale for all panels.
        assert picture.get_clim() == ((-4.0, 4.0) if is_change else (0.0, 4.0))
        for axis, count in ((axes.yaxis, value_LH.shape[0]), (axes.xaxis, value_LH.shape[1])):
            labels = [text.get_text() for text in axis.get_ticklabels()]
            assert labels == [str(number + 1) for number in range(count)]
    texts = cells_of(panels[0])
    assert texts == (
        ["0.0", "-1.3", "+0.3", "0.0", "+2.0", "-0.5"]
        if is_change
        else ["0.00", "1.26", "0.31", "0.04", "2.00", "0.50"]
    )
    colours = [text.get_color() for text in panels[1].texts]
    assert colours == ["black", "white", "black"]
    assert bar.get_ylabel() == "nats"
    assert figures[0].get_suptitle() == "$t"


def test_values_of_zero_have_a_scale(tmp_path, figures):
    plot_heads({"cross": np.zeros((1, 2))}, tmp_path / "a.png", "nats", is_change=True)
    assert figures[0].axes[0].images[0].get_clim() == (-1.0, 1.0)


@pytest.mark.parametrize("values", [{}, {"cross": np.zeros(3)}, {"cross": np.zeros((0, 3))}])
def test_what_cannot_be_drawn_is_told(tmp_path, values):
    with pytest.raises(ValueError, match=r"cannot be drawn. Give \(layers, heads\) a kind"):
        plot_heads(values, tmp_path / "a.png", "nats")
    assert list(tmp_path.iterdir()) == []
