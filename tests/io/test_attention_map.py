import numpy as np
import pytest

from jaxformer.io.attention_map import AttentionMap, readable, words


def starts(pieces):
    return [piece.startswith("▁") for piece in pieces]


def test_pieces_are_named_as_a_reader_knows_them():
    pieces = ["<s>", "▁naïve", "té", ",", "▁«", "A", "b", "▁", "<0x0A>", "''", "▁it", "'s", "</s>"]
    assert readable(pieces, starts(pieces)) == [
        "<s>", "naïve", "·té", ",", "«", "·A", "·b", "▁", "<0x0A>", "''", "it", "·'s", "</s>",
    ]  # fmt: skip
    assert readable(["a", "b"], [False, False]) == ["a", "·b"]
    assert readable([], []) == []


def test_pieces_whose_mark_is_that_they_go_on():
    pieces = ["<s>", "hu@@", "nd", ",", "@@", "der", "zwei@@", "</s>"]
    starts_word = [True, True, False, True, True, True, True, False]
    names = readable(pieces, starts_word)
    assert names == ["<s>", "hu", "·nd", ",", "@@", "der", "zwei", "</s>"]
    assert words(names) == {"<s>": 0, "hund": 1, ",": 3, "@@": 4, "der": 5, "zwei": 6, "</s>": 7}


def test_words_begin_where_they_first_stand():
    assert words(["the", "cat", "·al", "·og", "the", ".", "</s>"]) == {
        "the": 0, "catalog": 1, ".": 5, "</s>": 6,
    }  # fmt: skip
    assert words(["·a", "·b"]) == {"·ab": 0}


@pytest.mark.parametrize(
    "shape", [(2, 3, 5), (1, 2, 5, 3), (1, 2, 3, 4), (0, 2, 3, 5), (1, 0, 3, 5)]
)
def test_weights_of_another_shape_are_told(shape):
    with pytest.raises(ValueError, match="do not fit 3 queries and 5 keys"):
        AttentionMap(np.ones(shape, np.float32), list("xyz"), list("abcde"))


@pytest.mark.parametrize(
    ("value", "said"), [(-0.5, "-0.5 and 0.2"), (3.0, "0.2 and 3"), (np.nan, "nan")]
)
def test_weights_that_are_no_shares_are_told(value, said):
    weights_LHTS = np.full((1, 1, 1, 5), 0.2, np.float32)
    weights_LHTS[0, 0, 0, 2] = value
    with pytest.raises(ValueError, match=f"lie between .*{said}"):
        AttentionMap(weights_LHTS, ["x"], list("abcde"))
