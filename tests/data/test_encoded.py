"""A corpus as token ids: what goes in comes out, in order."""

import numpy as np
import pytest

from jaxformer.data import encoded as encoded_lib
from jaxformer.data.encoded import Encoded, Sentences, encode_pairs
from jaxformer.model.tokens import EOS

ROWS = [[5, 6, EOS], [EOS], [7, 8, 9, 10, EOS], [11, EOS]]


@pytest.fixture
def sentences():
    return Sentences.from_lists(np.array(row, np.int32) for row in ROWS)


def as_lists(sentences):
    return [sentences[index].tolist() for index in range(len(sentences))]


def test_sentences_come_out_as_they_went_in(sentences):
    assert as_lists(sentences) == ROWS
    assert sentences.lengths.tolist() == [3, 1, 5, 2]
    assert sentences.tokens.dtype == np.int32


def test_no_sentences():
    nothing = Sentences.from_lists([])
    assert (len(nothing), nothing.tokens.dtype, nothing.tokens.tolist()) == (0, np.int32, [])


def test_a_selection_is_in_the_order_asked_for(sentences):
    assert as_lists(sentences.select(np.array([2, 0]))) == [ROWS[2], ROWS[0]]


def test_pairs_too_long_on_either_side_are_left_out(sentences):
    other = sentences.select(np.array([2, 1, 0, 3]))
    within = Encoded(sentences, other).within(3)
    assert (as_lists(within.source), as_lists(within.target)) == ([ROWS[1], ROWS[3]],) * 2


def test_nothing_is_copied_where_all_pairs_fit(sentences):
    pairs = Encoded(sentences, sentences)
    assert pairs.within(5) is pairs
    assert len(pairs) == 4


class Lengths:
    """A tokenizer that gives a text's length, of a target with a minus."""

    def encode(self, texts, side="source"):
        sign = -1 if side == "target" else 1
        return [np.array([sign * len(text), EOS], np.int32) for text in texts]


def test_pairs_stay_in_order_however_many_are_encoded_at_a_time(monkeypatch):
    monkeypatch.setattr(encoded_lib, "_PAIRS_AT_A_TIME", 3)
    pairs = [("s" * number, "t" * (10 + number)) for number in range(4, 12)]
    found = encode_pairs(pairs, Lengths())
    assert as_lists(found.source) == [[number, EOS] for number in range(4, 12)]
    assert as_lists(found.target) == [[-(10 + number), EOS] for number in range(4, 12)]
