"""Opening a corpus by name, and reading its pairs."""

import copy
import os
import sys
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxformer.data.corpus import check_corpus, open_corpus

# More than one of the chunks that iteration reads.
NUM_PAIRS = 2500


def pair(number):
    return f"source {number} ä", f"target {number} \u2028 ö"


class Numbered(tfds.core.GeneratorBasedBuilder):
    """A corpus as a user would write one, with a column that is no text."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text = tfds.features.Text()
        columns = {"source": text, "target": text, "number": np.int32}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(columns), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {
            "test": self._generate_examples(3),
            "validation": self._generate_examples(1),
            "train": self._generate_examples(NUM_PAIRS),
        }

    def _generate_examples(self, num_pairs):
        for number in range(num_pairs):
            source, target = pair(number)
            yield number, {"source": source, "target": target, "number": number}


@pytest.fixture(scope="module", autouse=True)
def _importable():
    """Puts the builder where a dotted name finds it."""
    module = types.ModuleType("users_corpus")
    module.Numbered = Numbered
    module.not_a_builder = "text"
    sys.modules["users_corpus"] = module
    yield
    del sys.modules["users_corpus"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def corpus(data_dir):
    return open_corpus("users_corpus:Numbered", data_dir=data_dir)


def test_splits_have_our_names_and_order(corpus):
    assert corpus.splits == ("train", "valid", "test")
    assert [len(corpus.pairs(split)) for split in corpus.splits] == [NUM_PAIRS, 1, 3]
    with pytest.raises(ValueError, match="no split 'dev'; it has train, valid, test"):
        corpus.pairs("dev")


def test_random_access(corpus):
    pairs = corpus.pairs("train")
    assert pairs[7] == pair(7)
    assert pairs[-1] == pair(NUM_PAIRS - 1)
    assert pairs[3:9:2] == [pair(3), pair(5), pair(7)]
    assert pairs[5:5] == []
    for index in (NUM_PAIRS, -NUM_PAIRS - 1):
        with pytest.raises(IndexError):
            pairs[index]


def test_iteration_is_in_order_and_whole(corpus):
    assert list(corpus.pairs("train")) == [pair(number) for number in range(NUM_PAIRS)]
    assert list(corpus.pairs("valid")) == [pair(0)]
    assert pair(1) in corpus.pairs("test")


def test_pairs_can_be_copied_as_to_another_process(corpus):
    assert copy.deepcopy(corpus.pairs("test"))[2] == pair(2)


def test_columns_are_chosen_by_name(data_dir):
    other_way = open_corpus(
        "users_corpus:Numbered", data_dir=data_dir, source="target", target="source"
    )
    assert other_way.pairs("test")[1] == pair(1)[::-1]


def test_the_stamp_tells_of_other_files(data_dir, tmp_path):
    def stamp(data_dir, **columns):
        return open_corpus("users_corpus:Numbered", data_dir=data_dir, **columns).stamp

    assert stamp(data_dir) == stamp(data_dir)
    assert stamp(data_dir) != stamp(data_dir, source="target", target="source")
    before = stamp(tmp_path)
    assert before != stamp(data_dir)
    (path,) = tmp_path.rglob("*train.array_record*")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert stamp(tmp_path) != before


def test_a_dotted_name_without_its_columns(data_dir):
    with pytest.raises(ValueError, match="text columns source, target, got source='de' and "):
        open_corpus("users_corpus:Numbered", data_dir=data_dir, source="de")
    with pytest.raises(ValueError, match="target='number'"):
        open_corpus("users_corpus:Numbered", data_dir=data_dir, target="number")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "wmt15",
            "Unknown corpus 'wmt15'; choose one of bible, multi30k, plain_text, treebank, wmt14",
        ),
        ("no_such_package:Builder", "cannot be imported: No module named 'no_such_package'"),
        ("users_corpus:Missing", "cannot be imported: .*Missing"),
        ("users_corpus:not_a_builder", "not a TFDS builder class"),
        (":", "cannot be imported"),
    ],
)
def test_names_that_do_not_exist(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        open_corpus(name, data_dir=tmp_path)
    with pytest.raises(ValueError, match=message):
        check_corpus(name)


@pytest.mark.parametrize("name", ["plain_text", "treebank"])
def test_files_that_are_named_are_looked_for_before_they_are_read(tmp_path, name):
    (tmp_path / "a.txt").write_bytes(b"\xff")
    named = {"train_source": "a.txt"} if name == "plain_text" else {}
    check_corpus(name, manual_dir=tmp_path, train_target="a.txt", **named)
    with pytest.raises(ValueError, match=r"The text file 'b.txt' does not exist"):
        check_corpus(name, manual_dir=tmp_path, train_target="b.txt", **named)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        check_corpus(name, manual_dir=tmp_path / "nowhere", train_target="a.txt", **named)


def test_a_corpus_that_needs_no_files_is_not_prepared_to_be_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("users_corpus:Numbered", "wmt14", "bible", "treebank"):
        check_corpus(name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="'bible' takes no option sourec"):
        check_corpus("bible", sourec="en")


def test_options_that_do_not_exist(tmp_path):
    with pytest.raises(ValueError, match="'bible' takes no option sourec; it takes source, target"):
        open_corpus("bible", data_dir=tmp_path, sourec="en")


def test_empty_options_count_as_not_given(tmp_path):
    with pytest.raises(ValueError, match="no files"):
        open_corpus("plain_text", data_dir=tmp_path, train_source="", train_target=None)
    with pytest.raises(ValueError, match="'bible' takes no option train_source;"):
        open_corpus("bible", data_dir=tmp_path, train_source="a.txt", test_source="")


def test_a_manual_dir_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manual_dir='.*nowhere' is not a folder"):
        open_corpus("multi30k", data_dir=tmp_path, manual_dir=tmp_path / "nowhere")
