"""Treebanks, on trees of our own; on CRAFT where $JAXFORMER_DATA has it."""

import gzip
import os
from pathlib import Path

import pytest

from jaxformer.data.corpus import open_corpus
from jaxformer.data.treebank import CRAFT
from jaxformer.trees.bracketed import leaves
from jaxformer.trees.linear import delinearise, linearise

TREEBANK = """\
( (S (NP-SBJ-1 (DT A) (NN dog))
     (VP (VBZ barks) (NP-1 (-NONE- *)))
     (. .)) )
( (S (NP (-NONE- *))) )
( (FRAG (NN Abstract)) )
"""
PAIRS = [
    ("A dog barks .", "(S (NP DT NN )NP (VP VBZ )VP . )S"),
    ("Abstract", "(FRAG NN )FRAG"),
]
SIDES = {"source": "words", "target": "brackets"}


@pytest.fixture(autouse=True)
def _no_data(monkeypatch):
    monkeypatch.delenv("JAXFORMER_DATA", raising=False)


def write_craft(folder):
    folder.mkdir(parents=True)
    for name in CRAFT.values():
        (folder / name).write_bytes(gzip.compress(TREEBANK.encode()))


def test_trees_become_pairs_and_one_without_a_word_none(tmp_path):
    path = tmp_path / "a.ptb"
    path.write_text(TREEBANK, encoding="utf-8")
    corpus = open_corpus("treebank", data_dir=tmp_path, train_target=str(path), **SIDES)
    assert corpus.splits == ("train",)
    assert list(corpus.pairs("train")) == PAIRS
    # A file that has changed is read anew, and data that is there is not made again.
    path.write_text(TREEBANK.replace("dog", "cat"), encoding="utf-8")
    corpus = open_corpus("treebank", data_dir=tmp_path, train_target=str(path), **SIDES)
    assert corpus.pairs("train")[0][0] == "A cat barks ."
    assert len(list((tmp_path / "treebank").iterdir())) == 2


@pytest.mark.parametrize("place", ["manual_dir", "JAXFORMER_DATA"])
def test_without_names_it_is_craft(tmp_path, monkeypatch, place):
    write_craft(tmp_path / "raw" / "treebank")
    options = dict(SIDES)
    if place == "manual_dir":
        options["manual_dir"] = str(tmp_path / "raw")
    else:
        monkeypatch.setenv("JAXFORMER_DATA", str(tmp_path / "raw"))
    corpus = open_corpus("treebank", data_dir=tmp_path / "data", **options)
    assert corpus.splits == ("train", "valid", "test")
    assert [list(corpus.pairs(split)) for split in corpus.splits] == [PAIRS] * 3


def test_craft_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"craft-train.ptb.gz, .* not together in any of"):
        open_corpus("treebank", data_dir=tmp_path, **SIDES)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (TREEBANK.encode() + b"(S (NP", r"a\.ptb ends within the tree that begins in line 6"),
        (b"(S\n(NN a b))", r"a\.ptb is no bracketed tree in line 2: the word 'b' has no tag"),
        (b"", r"a\.ptb is empty"),
        (b"(S (NN \xff))", r"a\.ptb is not UTF-8 in line 1"),
        (gzip.compress(TREEBANK.encode(), mtime=0)[:-9], r"a\.ptb is a damaged gzip file"),
    ],
)
def test_a_file_that_is_no_treebank(tmp_path, data, said):
    path = tmp_path / "a.ptb"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=said):
        open_corpus("treebank", data_dir=tmp_path / "data", train_target=str(path), **SIDES)
    assert not list((tmp_path / "data").rglob("*.array_record*"))


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"'no\.ptb' does not exist"):
        open_corpus("treebank", data_dir=tmp_path, train_target="no.ptb", **SIDES)


@pytest.mark.parametrize("sides", [{}, {"source": "brackets", "target": "words"}, {"source": "en"}])
def test_other_sides(tmp_path, sides):
    if not sides:
        sides = {"source": "en", "target": "de"}
    with pytest.raises(ValueError, match=r"parses words to brackets, got source='"):
        open_corpus("treebank", data_dir=tmp_path, **sides)


PUBLISHED = Path(os.environ.get("JAXFORMER_DATA", "/nowhere")) / "treebank"


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="$JAXFORMER_DATA holds no treebank")
def test_craft(tmp_path):
    corpus = open_corpus("treebank", data_dir=tmp_path, manual_dir=PUBLISHED, **SIDES)
    pairs = {split: list(corpus.pairs(split)) for split in corpus.splits}
    words = {split: sum(len(text.split()) for text, _ in some) for split, some in pairs.items()}
    assert {split: len(some) for split, some in pairs.items()} == {
        "train": 18951,
        "valid": 2780,
        "test": 9099,
    }
    assert words == {"train": 493_380, "valid": 67_652, "test": 232_619}
    for sentence, tree in pairs["valid"]:
        found = delinearise(tree, sentence.split())
        assert linearise(found) == tree
        assert " ".join(leaf.word for leaf in leaves(found)) == sentence
