"""The vocabulary of parsing: words in pieces, trees in symbols, and nothing in common."""

import json

import numpy as np
import pytest

from jaxformer.data.bracket_vocabulary import BracketVocabulary, train_bracket_vocabulary
from jaxformer.data.sentence_piece import train_sentence_piece
from jaxformer.model.tokens import BOS, EOS, PAD, UNK

PAIRS = [
    ("A dog barks .", "(S (NP DT NN )NP (VP VBZ )VP . )S"),
    ("NN is a tag , and (NP no word .", "(S (NP NN )NP . )S"),
] * 5
SYMBOLS = ["(NP", "(S", "(VP", ")NP", ")S", ")VP", ".", "DT", "NN", "VBZ"]
SIZE = 290


@pytest.fixture(scope="module")
def tokenizer():
    return train_bracket_vocabulary(PAIRS, SIZE)


def test_trees_come_back_and_have_a_token_a_symbol(tokenizer):
    assert tokenizer.vocab_size == SIZE + len(SYMBOLS)
    for _, tree in PAIRS:
        (ids,) = tokenizer.encode([tree], "target")
        assert ids.dtype == np.int32
        assert len(ids) == len(tree.split()) + 1
        assert ids[-1] == EOS
        assert min(ids[:-1]) >= SIZE
        assert tokenizer.pieces(ids) == [*tree.split(), "</s>"]
        assert tokenizer.decode([BOS, *ids, ids[0], PAD]) == tree


def test_a_word_that_looks_like_a_symbol_is_none(tokenizer):
    (ids,) = tokenizer.encode([PAIRS[1][0]])
    assert ids[-1] == EOS
    assert max(ids) < SIZE


def test_pieces_are_those_of_the_sentences_alone(tokenizer):
    alone = train_sentence_piece([sentence for sentence, _ in PAIRS], SIZE)
    for sentence, _ in PAIRS:
        np.testing.assert_array_equal(tokenizer.encode([sentence])[0], alone.encode([sentence])[0])
        (ids,) = tokenizer.encode([sentence])
        assert tokenizer.pieces(ids) == alone.pieces(ids)
        assert tokenizer.starts_word(ids) == alone.starts_word(ids)
    assert tokenizer.starts_word([SIZE, SIZE + 1]) == [True, True]


def test_what_is_no_symbol_cannot_be_taken_for_one(tokenizer):
    (ids,) = tokenizer.encode(["(S WHADJP )S"], "target")
    assert ids.tolist()[1] == UNK
    assert tokenizer.decode(ids) == "(S (<unk>) )S"
    (word,) = tokenizer.encode(["dog"])
    text = tokenizer.decode([ids[0], *word[:-1], ids[2], EOS])
    assert text.startswith("(S (\u2581")
    assert text.endswith(") )S")
    assert [row.tolist() for row in tokenizer.encode(["", " "], "target")] == [[EOS], [EOS]]


def test_it_is_deterministic_and_saved_whole(tokenizer, tmp_path):
    again = train_bracket_vocabulary(PAIRS, SIZE)
    assert again.fingerprint == tokenizer.fingerprint
    assert train_bracket_vocabulary(PAIRS[:1] * 9, 275).fingerprint != again.fingerprint
    tokenizer.save(tmp_path)
    loaded = BracketVocabulary.load(tmp_path / "brackets.json")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.pieces(range(loaded.vocab_size)) == tokenizer.pieces(range(loaded.vocab_size))
    assert loaded.pieces(range(SIZE, loaded.vocab_size)) == SYMBOLS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        json.dumps({"pieces": "?", "symbols": []}).encode(),
        json.dumps({"pieces": "AAAA", "symbols": []}).encode(),
        json.dumps({"symbols": []}).encode(),
    ],
)
def test_a_damaged_file_is_told(tmp_path, content):
    (tmp_path / "brackets.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"brackets\.json: This is not a .*, or it is damaged"):
        BracketVocabulary.load(tmp_path / "brackets.json")
