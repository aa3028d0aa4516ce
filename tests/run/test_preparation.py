"""The text a training reads: nothing is left out in silence, and a change is noticed."""

import itertools

import numpy as np
import pytest

from jaxformer.data import batching
from jaxformer.data.pipeline import train_batches
from jaxformer.run import preparation
from jaxformer.run.preparation import (
    learn_tokenizer,
    load_tokenizer,
    prepare_data,
    tokenizer_folder,
)


class Corpus:
    """Stands for a corpus that is on disk."""

    def __init__(self, **splits):
        self._splits, self.splits = splits, tuple(splits)

    def pairs(self, split):
        return self._splits[split]


TRAIN = [(f"one {n} two", f"{n} three four five") for n in range(40)]
VALID = [("one", "three " * 30), ("two", "four")]
BUDGETS = {"max_length": 20, "source_tokens": 100, "target_tokens": 100}


def learn(vocab_size=290, vocab_type="bpe", **splits):
    return learn_tokenizer(Corpus(**splits), vocab_size, vocab_type, source="en", target="de")


@pytest.fixture(scope="module")
def tokenizer():
    return learn(train=TRAIN, valid=VALID)


def test_the_vocabulary_is_of_the_training_text_alone(tokenizer):
    other = learn(train=TRAIN, valid=[("unseen", "words")])
    assert other.fingerprint == tokenizer.fingerprint
    assert learn(train=TRAIN[:30]).fingerprint != other.fingerprint


def test_long_pairs_are_left_out_of_training_only(tokenizer):
    long_pairs = [("one " * 50, "x"), ("x", "three " * 50)]
    data = prepare_data(Corpus(train=TRAIN + long_pairs, valid=VALID), tokenizer, **BUDGETS)
    assert (len(data.train), data.left_out, len(data.valid)) == (40, 2, 2)
    assert data.plan.num_pairs == 40
    assert max(data.train.source.lengths.max(), data.train.target.lengths.max()) <= 20
    assert prepare_data(Corpus(train=TRAIN), tokenizer, **BUDGETS).valid is None


def test_an_epoch_has_every_spelling_of_the_training_split_alone(tokenizer):
    corpus = Corpus(train=[*TRAIN, ("one " * 50, "x")], valid=VALID)
    plain = prepare_data(corpus, tokenizer, **BUDGETS)
    three = prepare_data(corpus, tokenizer, **BUDGETS, bpe_dropout=0.2, spellings=3)
    assert (len(three.train), three.left_out, three.plan.num_pairs) == (120, 3, 120)
    texts = [[tokenizer.decode(row) for row in data.train.target] for data in (plain, three)]
    assert texts[1] == texts[0] * 3
    rows = [row.tolist() for row in three.train.target]
    assert rows[:40] != rows[40:80] != rows[80:]
    assert [row.tolist() for row in three.valid.target] == [
        row.tolist() for row in plain.valid.target
    ]


def test_rows_can_be_split_into_equal_parts(tokenizer):
    data = prepare_data(Corpus(train=TRAIN), tokenizer, **BUDGETS, rows_multiple=3)
    assert all(shape.rows % 3 == 0 for shape in data.plan.shapes)


def test_the_fingerprint_is_of_what_is_trained_on(tokenizer):
    def of(train, **more):
        return prepare_data(Corpus(train=train, **more), tokenizer, **BUDGETS).fingerprint

    assert of(TRAIN) == of(list(TRAIN), valid=VALID)
    assert of(TRAIN) != of(TRAIN[::-1])
    assert of(TRAIN) != of([*TRAIN[:-1], ("one 39 two", "39 three four four")])
    # Another border between two sentences of the same tokens.
    assert of([("one two", "x"), ("x", "x")]) != of([("one", "x"), ("two x", "x")])


@pytest.fixture
def made(monkeypatch):
    """Returns the list of what has been made anew."""
    found = []

    def note(module, name):
        function = getattr(module, name)

        def noted(*args, **options):
            found.append(name)
            return function(*args, **options)

        monkeypatch.setattr(module, name, noted)

    note(preparation, "train_sentence_piece")
    note(preparation, "encode_in_parts")
    note(batching, "_choose_sizes")
    return found


def test_what_is_kept_of_one_dropout_is_not_taken_for_another(tmp_path):
    plain = start(tmp_path)
    for options in (
        {"bpe_dropout": 0.2},
        {"bpe_dropout": 0.3},
        {"bpe_dropout": 0.2, "spellings": 2},
    ):
        kept, again, alone = (start(folder, **options) for folder in (tmp_path, tmp_path, None))
        assert kept == again == alone
        assert kept[1] != plain[1]
        plain = kept


def start(cache_dir, train=TRAIN, stamp="one", **budgets):
    """Starts a training; returns its vocabulary, and its first batches as nested lists."""
    corpus = Corpus(train=train, valid=VALID)
    corpus.stamp = stamp
    tokenizer = learn_tokenizer(corpus, 290, "bpe", source="en", target="de", cache_dir=cache_dir)
    data = prepare_data(corpus, tokenizer, **{**BUDGETS, **budgets}, cache_dir=cache_dir)
    batches = itertools.islice(train_batches(data.train, data.plan, 0), 5)
    arrays = [[batch[name].tolist() for name in sorted(batch)] for batch in batches]
    return tokenizer.fingerprint, data.fingerprint, data.left_out, arrays


ALL = ["train_sentence_piece", "encode_in_parts", "_choose_sizes"]


def test_a_later_start_makes_nothing_anew_and_is_the_same(tmp_path, made):
    long_pair = [*TRAIN, ("one " * 50, "x")]
    plain = start(None, long_pair)
    assert plain[2] == 1
    made.clear()
    assert start(tmp_path, long_pair) == plain
    assert made == ALL
    assert start(tmp_path, long_pair) == plain
    assert made == ALL


def test_another_text_or_setting_is_another_preparation(tmp_path, made):
    start(tmp_path)
    made.clear()
    start(tmp_path, TRAIN[:30], stamp="two")
    assert made == ALL
    made.clear()
    start(tmp_path, max_length=19)
    assert made == ALL[1:]
    made.clear()
    start(tmp_path, source_tokens=90)
    assert made == ALL[2:]


@pytest.mark.parametrize("pattern", ["*/*.model", "*/source.tokens", "*/target.starts", "*/*.json"])
def test_what_is_damaged_is_made_anew(tmp_path, made, pattern):
    whole = start(tmp_path)
    made.clear()
    (path,) = tmp_path.glob(pattern)
    content = path.read_bytes()
    # Another file, since a thread of the first start may be reading this one still.
    path.unlink()
    path.write_bytes(content[:5] + bytes([content[5] ^ 1]) + content[6:])
    assert start(tmp_path) == whole
    assert len(made) == 1
    assert path.read_bytes() == content


def test_where_nothing_can_be_kept_it_is_made_every_time(tmp_path, made):
    (tmp_path / "file").touch()
    found = start(tmp_path / "file" / "below")
    assert made == ALL
    assert found == start(None)


def test_the_vocabulary_of_a_large_text_is_of_evenly_many_pairs(monkeypatch):
    monkeypatch.setattr(preparation, "_PAIRS_LEARNT_FROM", 15)
    some = learn(train=TRAIN)
    assert some.fingerprint == learn(train=TRAIN[::3]).fingerprint
    monkeypatch.setattr(preparation, "_PAIRS_LEARNT_FROM", 40)
    assert learn(train=TRAIN).fingerprint != some.fingerprint


def test_no_pair_is_short_enough(tokenizer):
    with pytest.raises(ValueError, match=r"None of the 40 training pairs has at most 2 tokens"):
        prepare_data(Corpus(train=TRAIN), tokenizer, **{**BUDGETS, "max_length": 2})


@pytest.mark.parametrize(
    ("vocab_type", "size", "name"),
    [
        ("bpe", 290, "sentencepiece.model"),
        ("moses_bpe", 9, "moses_bpe.json"),
        ("brackets", 279, "brackets.json"),
    ],
)
def test_a_vocabulary_is_the_one_that_was_saved(tmp_path, vocab_type, size, name):
    tokenizer = learn(size, vocab_type, train=TRAIN)
    with pytest.raises(ValueError, match=r"tokenizer holds no vocabulary \(sentencepiece.model or"):
        load_tokenizer(tmp_path, tokenizer.fingerprint)
    tokenizer.save(tokenizer_folder(tmp_path))
    assert [path.name for path in tokenizer_folder(tmp_path).iterdir()] == [name]
    loaded = load_tokenizer(tmp_path, tokenizer.fingerprint)
    np.testing.assert_array_equal(loaded.encode(["one"])[0], tokenizer.encode(["one"])[0])
    # Nothing else is parsed.
    (tokenizer_folder(tmp_path) / name).write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"{name} is not the vocabulary"):
        load_tokenizer(tmp_path, tokenizer.fingerprint)
