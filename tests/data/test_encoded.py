"""A corpus as token ids: what goes in comes out, in order."""

import numpy as np
import pytest

from jaxformer.data import encoded as encoded_lib
from jaxformer.data.encoded import (
    Encoded,
    Sentences,
    encode_in_parts,
    encode_pairs,
    join,
    read_encoded,
    write_encoded,
)
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

    def spell(self, texts, side="source", *, dropout, seed):
        assert dropout == 0.1
        return [np.array([1000 * seed + len(text), EOS], np.int32) for text in texts]


def test_pairs_stay_in_order_however_many_are_encoded_at_a_time(monkeypatch):
    monkeypatch.setattr(encoded_lib, "_PAIRS_AT_A_TIME", 3)
    pairs = [("s" * number, "t" * (10 + number)) for number in range(4, 12)]
    found = encode_pairs(pairs, Lengths())
    assert as_lists(found.source) == [[number, EOS] for number in range(4, 12)]
    assert as_lists(found.target) == [[-(10 + number), EOS] for number in range(4, 12)]


def test_each_spelling_of_each_part_and_side_has_a_seed_of_its_own(monkeypatch):
    monkeypatch.setattr(encoded_lib, "_PAIRS_AT_A_TIME", 2)
    pairs = [("s" * number, "t" * (10 + number)) for number in range(4, 7)]
    found = join(encode_in_parts(pairs, Lengths(), bpe_dropout=0.1, spellings=2))
    assert [ids[0] for ids in as_lists(found.source)] == [4, 5, 2006, 4004, 4005, 6006]
    assert [ids[0] for ids in as_lists(found.target)] == [1014, 1015, 3016, 5014, 5015, 7016]


def test_what_is_written_in_parts_is_read_whole(tmp_path):
    many = Sentences.from_lists([np.array(row, np.int32) for row in ROWS * 5])
    pairs = Encoded(many, many.select(np.arange(19, -1, -1)))
    parts = [
        Encoded(pairs.source.select(numbers), pairs.target.select(numbers))
        for numbers in np.split(np.arange(20), [7, 7, 16])
    ]
    write_encoded(tmp_path, parts)
    for found in (read_encoded(tmp_path), join(parts)):
        for side, expected in (
            (found.source, pairs.source),
            (found.target, pairs.target),
        ):
            np.testing.assert_array_equal(side.tokens, expected.tokens)
            np.testing.assert_array_equal(side.starts, expected.starts)
            assert (side.tokens.dtype, side.starts.dtype) == (np.int32, np.int64)


def test_no_pairs_are_written_and_read(tmp_path):
    write_encoded(tmp_path, [])
    assert len(read_encoded(tmp_path)) == len(join([])) == 0


def test_what_is_read_takes_no_memory_until_it_is_needed(tmp_path, sentences):
    write_encoded(tmp_path, [Encoded(sentences, sentences)])
    tokens = read_encoded(tmp_path).source.tokens
    assert isinstance(tokens.base, np.memmap)
    assert not tokens.flags.writeable
