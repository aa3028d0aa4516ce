"""A SentencePiece vocabulary: round trip, special ids, determinism, and sizes that cannot be."""

import functools

import numpy as np
import pytest
import sentencepiece as spm
from hypothesis import example, given
from hypothesis import strategies as st

from jaxformer.data.sentence_piece import MODEL_TYPES, SentencePiece, train_sentence_piece
from jaxformer.model.tokens import BOS, EOS, PAD, UNK

TEXT = [
    "In the bigynnyng God made of nouyt heuene and erthe.",
    "Forsothe the erthe was idel and voide, and derknessis weren on the face of depthe;",
    "In the beginning God created the heavens and the earth.",
    "Now the earth was formless and empty. Darkness was on the surface of the deep.",
    "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
] * 3

SIZES = {"bpe": 310, "unigram": 310, "word": 290, "char": 290}


@functools.cache
def tokenizer(model_type: str = "bpe") -> SentencePiece:
    return train_sentence_piece(TEXT, SIZES[model_type], model_type=model_type)


def normal(text: str) -> str:
    """What the module says it does to text, said otherwise: words joined by single spaces."""
    return " ".join(word for word in text.replace("\u2581", " ").split(" ") if word)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_round_trip(model_type):
    @given(st.text(st.characters(codec="utf-8")) | st.text("abc \u2581<>/s0x\t\né\u0301"))
    @example("")
    @example("  two  spaces \u2581\u2581 and a mark ")
    @example("<s> </s> <pad> <unk> <0x41> \u2047 \u2585")
    @example("nul \0, a line\nbreak\r, a byte order mark \ufeff, composed é, decomposed e\u0301")
    @example("no-break\u00a0space, ideographic\u3000space")
    def check(text):
        (ids,) = tokenizer(model_type).encode([text])
        assert ids.dtype == np.int32
        assert ids[-1] == EOS
        assert not set(ids[:-1].tolist()) & {PAD, BOS, EOS, UNK}
        assert tokenizer(model_type).decode(ids) == normal(text)

    check()


def test_every_character_round_trips_in_text_it_was_trained_on():
    rare = "".join(map(chr, range(0x21, 0x3000, 7)))
    trained = train_sentence_piece([*TEXT, rare], 2500)
    assert trained.decode(trained.encode([rare])[0]) == rare


def test_a_character_rarer_than_one_in_ten_thousand_is_spelt_in_bytes():
    def pieces(times):
        trained = train_sentence_piece([*TEXT * 100, "Ω" * times], 300)
        return trained.pieces(trained.encode(["Ω"])[0])

    assert pieces(1) == ["▁", "<0xCE>", "<0xA9>", "</s>"]
    assert pieces(100) == ["▁", "Ω", "</s>"]


def test_special_ids_are_the_models():
    assert tokenizer().pieces([PAD, BOS, EOS, UNK]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert tokenizer().pieces(np.array([4, 259])) == ["<0x00>", "<0xFF>"]


def test_decode_stops_at_the_first_eos_and_drops_special_tokens():
    (ids,) = tokenizer().encode(["the earth"])
    row = [BOS, *ids[:-1], PAD, EOS, *tokenizer().encode(["God"])[0], PAD]
    assert tokenizer().decode(row) == "the earth"
    assert tokenizer().decode(np.array(row)[::-1][-3:]) == tokenizer().decode(ids[:1])
    assert tokenizer().decode([]) == tokenizer().decode([EOS, 270]) == ""


def test_bytes_that_are_no_text_decode_to_the_replacement_character():
    assert tokenizer().decode([4 + 0xC3, EOS]) == "\ufffd"


def test_batch_composition_does_not_matter():
    together = tokenizer().encode(TEXT)
    alone = [tokenizer().encode([text])[0] for text in TEXT]
    assert all(map(np.array_equal, together, alone))
    assert tokenizer().encode([]) == []


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_training_is_deterministic_and_gives_the_size_asked_for(model_type):
    again = train_sentence_piece(iter(TEXT), SIZES[model_type], model_type=model_type)
    assert again.fingerprint == tokenizer(model_type).fingerprint
    assert again.vocab_size == SIZES[model_type]
    smaller = train_sentence_piece(TEXT, SIZES[model_type] - 1, model_type=model_type)
    assert smaller.fingerprint != again.fingerprint


def test_save_and_load(tmp_path):
    folder = tmp_path / "tokenizer"
    tokenizer().save(folder)
    (path,) = folder.iterdir()
    assert SentencePiece.load(path).fingerprint == tokenizer().fingerprint


def test_words_start_where_a_space_stands():
    (ids,) = tokenizer("char").encode(["to be"])
    assert tokenizer("char").pieces(ids) == ["▁", "t", "o", "▁", "b", "e", "</s>"]
    assert tokenizer("char").starts_word(ids) == [True, False, False, True, False, False, False]


def test_load_of_another_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        SentencePiece.load(tmp_path / "none.model")
    path = tmp_path / "text.model"
    for content in (b"", b"no model"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"text\.model: This is not a SentencePiece model"):
            SentencePiece.load(path)


def test_a_model_with_other_special_ids_is_refused(tmp_path):
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_prefix=str(tmp_path / "other"), vocab_size=60
    )
    with pytest.raises(ValueError, match=r"\(-1, 1, 2, 0\), expected \(0, 1, 2, 3\)"):
        SentencePiece.load(tmp_path / "other.model")


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_size_too_large_names_the_largest(model_type):
    with pytest.raises(ValueError, match="choose at most") as caught:
        train_sentence_piece(TEXT, 5000, model_type=model_type)
    largest = int(str(caught.value).split()[-1].rstrip("."))
    assert train_sentence_piece(TEXT, largest, model_type=model_type).vocab_size == largest
    with pytest.raises(ValueError, match=f"at most {largest}"):
        train_sentence_piece(TEXT, largest + 1, model_type=model_type)


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_a_size_too_small_names_the_smallest(model_type):
    with pytest.raises(ValueError, match="choose at least") as caught:
        train_sentence_piece(TEXT, 270, model_type=model_type)
    smallest = int(str(caught.value).split()[-1].rstrip("."))
    assert train_sentence_piece(TEXT, smallest, model_type=model_type).vocab_size == smallest
    with pytest.raises(ValueError, match=f"at least {smallest}"):
        train_sentence_piece(TEXT, smallest - 1, model_type=model_type)


@pytest.mark.parametrize("vocab_size", [-1, 0, 260])
def test_a_size_below_the_bytes(vocab_size):
    with pytest.raises(ValueError, match=f"{vocab_size} is too small, .* take 260"):
        train_sentence_piece(TEXT, vocab_size)


def test_an_unknown_type_is_named():
    with pytest.raises(ValueError, match="'wordpiece'; choose one of bpe, unigram, word, char"):
        train_sentence_piece(TEXT, 300, model_type="wordpiece")


@pytest.mark.parametrize("sentences", [[], [""], ["  ", "\n"]])
def test_no_text(sentences):
    with pytest.raises(ValueError, match="no text to train"):
        train_sentence_piece(sentences, 300)


def test_an_error_of_the_sentences_comes_through():
    def broken():
        yield from TEXT
        raise OSError("disk gone")

    with pytest.raises(OSError, match=r"^disk gone$"):
        train_sentence_piece(broken(), 300)


def test_training_is_silent(capfd):
    train_sentence_piece(TEXT, 300)
    with pytest.raises(ValueError, match="at most"):
        train_sentence_piece(TEXT, 5000)
    assert capfd.readouterr() == ("", "")


def test_dropped_merges_spell_the_same_text_in_ways_that_the_seed_chooses():
    # Enough for several threads to share it.
    texts = TEXT * 100
    plain = tokenizer().encode(texts)
    one, again, other = (
        [ids.tolist() for ids in tokenizer().spell(texts, dropout=0.3, seed=seed)]
        for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
    assert sum(map(len, one)) > sum(map(len, plain))
    for ids, text in zip(one, texts, strict=True):
        assert ids[-1] == EOS
        assert tokenizer().decode(ids) == text
    assert [ids.tolist() for ids in tokenizer().encode(texts)] == [ids.tolist() for ids in plain]
