import numpy as np
import pytest
from matplotlib import colors, image

from jaxformer.io.plot_links import COLOURS, plot_links

QUERIES = ["we", "go", "</s>"]
KEYS = ["nous", "·y", "al", "·lons", "</s>"]


def make_weights(heads):
    return np.random.default_rng(0).dirichlet([0.4] * len(KEYS), (heads, len(QUERIES)))


def lines_of(axes):
    """Returns (ends, colour, strength, width) of every line."""
    found = []
    for collection in axes.collections:
        colours_L4 = collection.get_colors()
        for ends, colour, width in zip(
            collection.get_segments(), colours_L4, collection.get_linewidths(), strict=True
        ):
            found.append((ends[:, 1].tolist(), colors.to_hex(colour), colour[3], width))
    return found


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def test_a_head_has_a_panel_with_its_lines_in_its_colour(tmp_path, figures):
    weights_HTS = make_weights(9)
    plot_links(weights_HTS, QUERIES, KEYS, tmp_path / "a.png", title="Layer 5")
    assert image.imread(tmp_path / "a.png").shape[2] == 4
    (figure,) = figures
    panels = [axes for axes in figure.axes if axes.texts]
    assert [axes.get_title() for axes in panels] == [f"head {number}" for number in range(1, 10)]
    assert figure.get_suptitle() == "Layer 5"
    for head, axes in enumerate(panels):
        assert texts_of(axes) == [*QUERIES, *KEYS]
        # Words stand in their lines, the first on top.
        assert [text.get_position()[1] for text in axes.texts] == [0, 1, 2, 0, 1, 2, 3, 4]
        assert axes.get_ylim()[0] > axes.get_ylim()[1]
        expected = {
            (query, key): weights_HTS[head, query, key]
            for query in range(3)
            for key in range(5)
            if weights_HTS[head, query, key] >= 0.02
        }
        lines = lines_of(axes)
        assert [tuple(ends) for ends, *_ in lines] == list(expected)
        np.testing.assert_allclose([line[2] for line in lines], [*expected.values()], rtol=1e-5)
        assert {line[1] for line in lines} == {COLOURS[head % 8]}
        by_strength = sorted(lines, key=lambda line: line[2])
        assert by_strength == sorted(lines, key=lambda line: line[3])
        assert 0 < len(expected) < 15


def test_all_heads_of_one_word_share_a_panel(tmp_path, figures):
    weights_HTS = make_weights(3)
    plot_links(weights_HTS, QUERIES, KEYS, tmp_path / "a.png", query=1)
    (axes,) = figures[0].axes
    weights = [text.get_fontweight() for text in axes.texts]
    assert weights == ["normal", "bold"] + ["normal"] * 6
    lines = lines_of(axes)
    assert len(lines) == (weights_HTS[:, 1] >= 0.02).sum()
    assert {line[1] for line in lines} == set(COLOURS[:3])
    for (start, end), colour, strength, _ in lines:
        head = COLOURS.index(colour)
        # Heads run beside each other, within the line of their word.
        assert start == pytest.approx(1 + 0.2 * (head - 1))
        key = round(end)
        assert end == pytest.approx(key + 0.2 * (head - 1))
        assert strength == pytest.approx(weights_HTS[head, 1, key], rel=1e-5)
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["head 1", "head 2", "head 3"]


def test_names_are_drawn_whatever_they_are(tmp_path, figures):
    """Warnings are errors here, and a missing glyph is one."""
    names = ["$x_$", "中国", "a" * 17, "a" * 16, "\n"]
    plot_links(make_weights(1), QUERIES, names, tmp_path / "a.png", title="$中_$")
    (axes,) = figures[0].axes
    assert texts_of(axes)[3:] == ["$x_$", "□□", "a" * 15 + "…", "a" * 16, "□"]


def test_a_long_sentence_fits_on_a_screen(tmp_path, figures):
    names = ["wort"] * 130
    plot_links(np.full((2, 130, 130), 1 / 130), names, names, tmp_path / "a.png")
    figure = figures[0]
    assert max(figure.get_size_inches()) < 32
    boxes = [text.get_window_extent() for text in figure.axes[0].texts[:130]]
    middles = sorted((box.y0 + box.y1) / 2 for box in boxes)
    assert all(np.diff(middles) > boxes[0].height)


def test_what_does_not_fit_is_told(tmp_path):
    path = tmp_path / "a.png"
    for shape in ((3, 5), (2, 5, 3), (0, 3, 5)):
        with pytest.raises(ValueError, match="do not fit 3 queries and 5 keys"):
            plot_links(np.ones(shape), QUERIES, KEYS, path)
    for query in (-1, 3):
        with pytest.raises(
            ValueError, match=f"no word {query}: 3 words look. Give one from 0 to 2"
        ):
            plot_links(make_weights(1), QUERIES, KEYS, path, query=query)
    assert not path.exists()
