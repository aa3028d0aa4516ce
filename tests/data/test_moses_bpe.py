"""Byte-pair encoding over Moses's tokens: what it spells, what it loses, what cannot be."""

import json
import random

import numpy as np
import pytest

from jaxformer.data.moses_bpe import MosesBpe, train_moses_bpe
from jaxformer.model.tokens import BOS, EOS, PAD, UNK

PAIRS = [
    ("A dog isn't running, it walks.", "Ein Hund läuft nicht, er geht spazieren."),
    ("Two dogs walk on the grass.", "Zwei Hunde gehen auf dem Gras spazieren."),
    ("The dog walks.", "Der Hund geht."),
] * 2


@pytest.fixture(scope="module")
def tokenizer():
    return train_moses_bpe(PAIRS, 30, source="en", target="de")


def spelt(tokenizer, text, side):
    (ids,) = tokenizer.encode([text], side)
    return tokenizer.pieces(ids)


def test_text_comes_back_in_small_letters(tokenizer):
    for side, texts in zip(("source", "target"), zip(*PAIRS, strict=True), strict=True):
        for text, ids in zip(texts, tokenizer.encode(texts, side), strict=True):
            assert ids.dtype == np.int32
            assert ids[-1] == EOS
            assert not set(ids[:-1].tolist()) & {PAD, BOS, EOS, UNK}
            # The detokenizer is the target's: n't is a matter of English.
            assert tokenizer.decode(ids) == text.lower().replace("isn't", "isn 't")


def test_sides_have_rules_of_their_own(tokenizer):
    assert spelt(tokenizer, "It's", "source") == ["i@@", "t", "'@@", "s", "</s>"]
    assert spelt(tokenizer, "It's", "target") == ["i@@", "t", "<unk>", "s", "</s>"]


def test_frequent_words_are_whole_and_others_spelt(tokenizer):
    assert spelt(tokenizer, "Dog", "source") == ["dog", "</s>"]
    assert spelt(tokenizer, "doge runs.", "source") == [
        *("do@@", "g@@", "e"),
        *("r@@", "un@@", "s"),
        ".",
        "</s>",
    ]


def test_words_start_after_pieces_that_do_not_go_on(tokenizer):
    (ids,) = tokenizer.encode(["doge runs."])
    assert tokenizer.starts_word(ids) == [1, 0, 0, 1, 0, 0, 1, 1]
    assert tokenizer.starts_word([]) == []


def test_what_was_never_spelt_is_unknown(tokenizer):
    (ids,) = tokenizer.encode(["Ω dog"])
    assert ids.tolist()[:-2] == [UNK]
    assert tokenizer.decode(ids) == "<unk> dog"
    assert [row.tolist() for row in tokenizer.encode(["", " \t"])] == [[EOS], [EOS]]
    assert tokenizer.decode([BOS, *tokenizer.encode(["dog"])[0], *ids]) == "dog"


def test_the_vocabulary_is_what_the_merges_spell_the_text_with(tokenizer):
    ids = set()
    for side, texts in zip(("source", "target"), zip(*PAIRS, strict=True), strict=True):
        ids |= {int(id) for row in tokenizer.encode(texts, side) for id in row}
    assert ids == {EOS, *range(4, tokenizer.vocab_size)}


def test_it_is_deterministic_and_saved_whole(tokenizer, tmp_path):
    again = train_moses_bpe(reversed(PAIRS), 30, source="en", target="de")
    assert again.fingerprint == tokenizer.fingerprint
    assert train_moses_bpe(PAIRS, 29, source="en", target="de").fingerprint != again.fingerprint
    tokenizer.save(tmp_path / "tokenizer")
    (path,) = (tmp_path / "tokenizer").iterdir()
    loaded = MosesBpe.load(path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert spelt(loaded, "The dogs", "source") == spelt(tokenizer, "The dogs", "source")


def test_training_is_silent(capfd):
    train_moses_bpe(PAIRS, 20, source="en", target="de")
    assert capfd.readouterr() == ("", "")


def test_more_merges_than_the_text_allows():
    with pytest.raises(ValueError, match="choose at most") as caught:
        train_moses_bpe(PAIRS, 5000, source="en", target="de")
    largest = int(str(caught.value).split()[-1].rstrip("."))
    train_moses_bpe(PAIRS, largest, source="en", target="de")
    with pytest.raises(ValueError, match="choose at most 0"):
        train_moses_bpe([("a", "b")], 5, source="en", target="de")


def test_no_text():
    for pairs in ([], [("", " ")]):
        with pytest.raises(ValueError, match="no text to train"):
            train_moses_bpe(pairs, 5, source="en", target="de")


@pytest.mark.parametrize(
    "damage",
    [
        *("", "[1]", "{}", "no JSON", "pieces: one two three", "merges: one two three"),
        *("merges: one ", "merges:  one", "merges: one\ntwo three"),
    ],
)
def test_a_damaged_file(tokenizer, tmp_path, damage):
    tokenizer.save(tmp_path)
    (path,) = tmp_path.iterdir()
    fields = json.loads(path.read_text("utf-8"))
    key, _, value = damage.partition(": ")
    if key in fields:
        fields[key][1] = value
        damage = json.dumps(fields)
    path.write_text(damage, encoding="utf-8")
    with pytest.raises(ValueError, match=r"moses_bpe\.json: This is not a vocabulary of Moses"):
        MosesBpe.load(path)


def test_without_merges_every_letter_is_a_piece(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    (path,) = tmp_path.iterdir()
    fields = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**fields, "merges": []}), encoding="utf-8")
    assert spelt(MosesBpe.load(path), "the", "source")[:2] == ["t@@", "h@@"]


@pytest.fixture(scope="module")
def full():
    return train_moses_bpe(PAIRS, 30, source="en", target="de", every_piece=True)


def test_dropped_merges_spell_the_same_text_with_known_pieces(full):
    for side, texts in zip(("source", "target"), zip(*PAIRS, strict=True), strict=True):
        plain = full.encode(texts, side)
        for dropout in (0.5, 0.999):
            spelt = full.spell(texts, side, dropout=dropout, seed=1)
            for ids, other in zip(spelt, plain, strict=True):
                assert ids.dtype == np.int32
                assert UNK not in ids
                assert ids[-1] == EOS
                assert full.decode(ids) == full.decode(other)
            assert sum(map(len, spelt)) > sum(map(len, plain))
        # With no merge left, a text is its characters.
        assert list(map(len, spelt)) == [
            len("".join(full.pieces(ids)).replace("@@", "")) - len("</s>") + 1 for ids in plain
        ]


def test_the_same_seed_drops_the_same_merges_and_another_seed_others(full):
    texts = [source for source, _ in PAIRS]
    before = random.getstate()
    one, again, other = (
        [ids.tolist() for ids in full.spell(texts, dropout=0.5, seed=seed)] for seed in (1, 1, 2)
    )
    assert random.getstate() == before
    assert one == again
    assert one != other


def test_encoding_knows_nothing_of_dropped_merges():
    texts = [source for source, _ in PAIRS]
    fresh, used = (
        train_moses_bpe(PAIRS, 30, source="en", target="de", every_piece=True) for _ in range(2)
    )
    used.spell(texts, dropout=0.9, seed=1)
    for ids, other in zip(fresh.encode(texts), used.encode(texts), strict=True):
        assert ids.tolist() == other.tolist()


def test_every_piece_is_in_the_vocabulary_once_and_the_frequent_keep_their_order(tokenizer, full):
    assert full.vocab_size > tokenizer.vocab_size
    ids = range(full.vocab_size)
    assert len(set(full.pieces(ids))) == full.vocab_size
    assert full.pieces(ids)[: tokenizer.vocab_size] == tokenizer.pieces(range(tokenizer.vocab_size))
