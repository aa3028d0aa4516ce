import pytest
from matplotlib import image

from jaxformer.io.plot_lengths import plot_by_length

SCORES = {"labelled": [91.5, 80.0, 42.0], "a baseline": [50.0, 40.0, 30.0]}
LENGTHS = ["1-10", "11-20", "over 20"]


def test_a_curve_a_kind_of_score_over_the_number_of_sentences(tmp_path, figures):
    plot_by_length(SCORES, LENGTHS, [1200, 30, 4], tmp_path / "a.png", "F1")
    assert image.imread(tmp_path / "a.png").shape[2] == 4
    above, below = figures[0].axes
    for line, (name, values) in zip(above.lines, SCORES.items(), strict=True):
        assert line.get_label() == name
        assert list(line.get_ydata()) == values
    assert above.get_ylim() == (0, 100)
    assert above.get_ylabel() == "F1"
    assert [bar.get_height() for bar in below.patches] == [1200, 30, 4]
    assert [text.get_text() for text in below.texts] == ["1,200", "30", "4"]
    assert [tick.get_text() for tick in below.get_xticklabels()] == LENGTHS


@pytest.mark.parametrize(
    ("scores", "lengths", "sentences"),
    [
        ({}, LENGTHS, [1, 2, 3]),
        ({"a": []}, [], []),
        ({"a": [1.0]}, LENGTHS, [1, 2, 3]),
        ({"a": [1.0] * 3}, LENGTHS, [1]),
    ],
)
def test_what_cannot_be_drawn_is_told(tmp_path, scores, lengths, sentences):
    with pytest.raises(ValueError, match=r"cannot be drawn over \d classes of length"):
        plot_by_length(scores, lengths, sentences, tmp_path / "a.png", "F1")
    assert list(tmp_path.iterdir()) == []
