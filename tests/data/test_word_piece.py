"""Texts as pieces, with their places in the text."""

import numpy as np
import pytest

from jaxformer.data.word_piece import WordPiece
from tests.encoders import SPECIAL, WORDS, write_encoder

PIECES = [*SPECIAL, *WORDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def test_pieces_stand_where_they_were_found(folder):
    text = "The  LÓRD's sheepfolds, and he."
    (found,) = WordPiece(folder / "tokenizer.json").encode([text])
    assert found.id_S.dtype == np.int32
    names = [PIECES[id] for id in found.id_S]
    assert names == [
        *("[CLS]", "the", "lord", "'", "s"),
        *("sheep", "##fold", "##s", ",", "and", "[UNK]", ".", "[SEP]"),
    ]
    assert [text[start:end] for start, end in found.spans] == [
        *("", "The", "LÓRD", "'", "s"),
        *("sheep", "fold", "s", ",", "and", "he", ".", ""),
    ]


def test_each_text_has_its_own_length(folder):
    found = WordPiece(folder / "tokenizer.json").encode(["", "my", "my shepherd"])
    assert [len(each.id_S) for each in found] == [2, 3, 4]


def test_a_long_text_is_cut_off(folder):
    (found,) = WordPiece(folder / "tokenizer.json", longest=5).encode(["my " * 20])
    assert [PIECES[id] for id in found.id_S] == ["[CLS]", "my", "my", "my", "[SEP]"]


@pytest.mark.parametrize("content", ["", "{}", '{"model": 1}'])
def test_a_damaged_file_is_told(tmp_path, content):
    pytest.importorskip("tokenizers", reason="needs jaxformer[memory]")
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="is not a tokenizer.json, or it is damaged"):
        WordPiece(tmp_path / "tokenizer.json")
