"""The main point of a text: words, their scores, and which are taken."""

import math

import numpy as np
import pytest

from jaxformer.data.word_piece import Pieces
from jaxformer.run.main_point import Rarity, choose, is_within, join, word_scores, words

TEXT = "The LORD's sheepfold, and a burnt-offering."
# As an encoder divides it, its end cut off.
PARTS = ["The", "LORD", "'", "s", "sheep", "fold", ",", "and", "a"]


@pytest.fixture
def pieces():
    spans, end = [(0, 0)], 0
    for part in PARTS:
        start = TEXT.index(part, end)
        end = start + len(part)
        spans.append((start, end))
    return Pieces(np.arange(len(PARTS) + 2), [*spans, (0, 0)])


def of(spans):
    return [TEXT[start:end] for start, end in spans]


def test_words_are_without_punctuation():
    assert of(words(TEXT)) == ["The", "LORD's", "sheepfold", "and", "a", "burnt-offering"]
    assert words(" ... 'tis -- don\u2019t") == [(6, 9), (13, 18)]
    assert words("!?") == []


def test_a_word_has_the_sum_of_its_pieces(pieces):
    # Special pieces and the comma have most, and count for no word.
    score_S = np.array([90, 1, 2, 0.25, 0.5, 8, 16, 80, 3, 4, 70])
    scores = word_scores(words(TEXT), pieces, score_S)
    assert scores.tolist() == [1, 2.75, 24, 3, 4, -np.inf]


def test_the_highest_are_taken_in_their_order():
    scores = np.array([3.0, 9.0, 1.0, 9.0, -np.inf, 5.0])
    assert choose(scores, 0.5) == [1, 3, 5]
    assert choose(scores, 0.01) == [1]
    # What was cut off is never taken.
    assert choose(scores, 1) == [0, 1, 2, 3, 5]
    assert choose(np.array([]), 0.5) == []


def test_chosen_pieces_are_those_of_the_words(pieces):
    spans = words(TEXT)
    chosen = [spans[1], spans[3]]
    assert join(TEXT, chosen) == "LORD's and"
    chosen_S = is_within(chosen, pieces)
    assert [part for part, is_in in zip(["", *PARTS, ""], chosen_S, strict=True) if is_in] == [
        *("LORD", "'", "s"),
        "and",
    ]
    assert not np.any(is_within([], pieces))


def test_rarity_is_tf_idf():
    rarity = Rarity(["a dog and a cat", "A dog", "the cow"])
    scores = rarity.scores("A cat, a whale!")
    once, twice, never = (math.log(4 / (1 + n)) + 1 for n in (1, 2, 0))
    np.testing.assert_allclose(scores, [2 * twice, once, 2 * twice, never])
