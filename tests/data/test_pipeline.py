"""Batches as arrays: pairs stay together, streams resume, nothing is dropped."""

import itertools

import numpy as np
import pytest

from jaxformer.data.batching import BatchPlan
from jaxformer.data.encoded import Encoded, Sentences
from jaxformer.data.pipeline import (
    Shares,
    check_evaluable,
    eval_batches,
    pack_batch,
    source_batches,
    train_batches,
)
from jaxformer.model.tokens import EOS, PAD

PAIRS = 101


def random_sentences(lengths, seed):
    rng = np.random.default_rng(seed)
    return Sentences.from_lists(
        np.append(rng.integers(4, 997, length - 1), EOS) for length in lengths
    )


@pytest.fixture(scope="module")
def encoded():
    rng = np.random.default_rng(0)
    source = rng.integers(1, 23, PAIRS)
    return Encoded(
        random_sentences(source, 1), random_sentences(source + rng.integers(1, 7, PAIRS), 2)
    )


@pytest.fixture(scope="module")
def plan(encoded):
    lengths = encoded.source.lengths, encoded.target.lengths
    return BatchPlan(*lengths, source_tokens=211, target_tokens=251, rows_multiple=2)


def split(token_T):
    """Returns a row's sentences as tuples; what follows the last of them must be padding."""
    ends = np.flatnonzero(token_T == EOS) + 1
    last = ends[-1] if len(ends) else 0
    assert not np.any(token_T[last:] != PAD)
    starts = [0, *ends[:-1]]
    return [tuple(token_T[a:b].tolist()) for a, b in zip(starts, ends, strict=True)]


def pairs_of(batch):
    """Returns the pairs of a batch as they share rows."""
    pairs = []
    for source_S, target_T in zip(batch["source_BS"], batch["target_BT"], strict=True):
        pairs += zip(split(source_S), split(target_T), strict=True)
    return pairs


def all_pairs(encoded):
    sides = encoded.source, encoded.target
    return sorted(
        tuple(tuple(side[index].tolist()) for side in sides) for index in range(len(encoded))
    )


def test_an_epoch_of_batches_holds_every_pair_once(encoded, plan):
    batches = list(itertools.islice(train_batches(encoded, plan, seed=3), plan.batches_per_epoch))
    assert sorted(pair for batch in batches for pair in pairs_of(batch)) == all_pairs(encoded)
    shapes = {(*batch["source_BS"].shape, batch["target_BT"].shape[1]) for batch in batches}
    assert shapes == {tuple(shape) for shape in plan.shapes}
    assert {array.dtype for batch in batches for array in batch.values()} == {np.dtype("int32")}


@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_stream_resumed_at_any_step_is_the_unbroken_one(encoded, plan, num_threads):
    steps = 2 * plan.batches_per_epoch + 3
    unbroken = list(itertools.islice(train_batches(encoded, plan, seed=3), steps))
    for start in (1, plan.batches_per_epoch - 1, plan.batches_per_epoch + 2):
        stream = train_batches(encoded, plan, seed=3, start_step=start, num_threads=num_threads)
        for batch, expected in zip(stream, unbroken[start:], strict=False):
            assert batch.keys() == expected.keys()
            assert all(np.array_equal(batch[name], expected[name]) for name in batch)


@pytest.mark.parametrize("shares", [None, Shares([0, 2], 4), Shares([3], 4)])
def test_a_row_holds_its_sentences_one_after_another(encoded, plan, shares):
    for planned in plan.epoch(seed=1, epoch=0):
        batch = pack_batch(encoded, planned, 8, shares)
        rows = planned.shape.filled(8).rows
        kept = np.arange(rows).reshape(4, -1)[shares.numbers if shares else slice(4)].reshape(-1)
        for name, sentences in (("source_BS", encoded.source), ("target_BT", encoded.target)):
            expected = [
                [
                    token
                    for pair in planned.pairs[planned.row == row].tolist()
                    for token in sentences[pair].tolist()
                ]
                for row in kept
            ]
            width = batch[name].shape[1]
            assert batch[name].tolist() == [row + [PAD] * (width - len(row)) for row in expected]


def test_epochs_and_seeds_differ(encoded, plan):
    stream = train_batches(encoded, plan, seed=3)
    epochs = [list(itertools.islice(stream, plan.batches_per_epoch)) for _ in range(2)]
    epochs.append(
        list(itertools.islice(train_batches(encoded, plan, seed=4), plan.batches_per_epoch))
    )
    for one, other in itertools.combinations(epochs, 2):
        assert [pairs_of(batch) for batch in one] != [pairs_of(batch) for batch in other]


@pytest.mark.parametrize("rows_multiple", [4, 16])
def test_rows_for_more_devices_are_padding_and_change_nothing_else(encoded, plan, rows_multiple):
    steps, filled = (
        plan.batches_per_epoch,
        train_batches(encoded, plan, seed=3, rows_multiple=rows_multiple),
    )
    evaluated = eval_batches(encoded, 100, rows_multiple)
    for batches, found in (
        (itertools.islice(train_batches(encoded, plan, seed=3), steps), filled),
        (eval_batches(encoded, 100), evaluated),
    ):
        for expected, batch in zip(batches, found, strict=False):
            for name, array in expected.items():
                assert len(batch[name]) % rows_multiple == 0
                assert len(batch[name]) - len(array) < rows_multiple
                np.testing.assert_array_equal(batch[name][: len(array)], array)
                assert not batch[name][len(array) :].any()


@pytest.mark.parametrize(
    "shares", [[[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0], [1, 2, 3]], [[0, 1, 2, 3]]]
)
def test_processes_pack_each_row_once(encoded, plan, shares):
    whole = train_batches(encoded, plan, seed=0, rows_multiple=8)
    parts = [
        train_batches(encoded, plan, seed=0, rows_multiple=8, shares=Shares(numbers, 4))
        for numbers in shares
    ]
    for _ in range(plan.batches_per_epoch):
        batch, own = next(whole), [next(part) for part in parts]
        for name, rows in batch.items():
            quarters = np.split(rows, 4)
            for numbers, part in zip(shares, own, strict=True):
                expected = np.concatenate([quarters[number] for number in numbers])
                np.testing.assert_array_equal(part[name], expected)


# The longest sentences have 22 and 28 tokens.
@pytest.mark.parametrize("tokens", [1, 25, 1000])
def test_evaluation_drops_nothing(encoded, tokens):
    batches = list(eval_batches(encoded, tokens))
    assert sorted(pair for batch in batches for pair in pairs_of(batch)) == all_pairs(encoded)


@pytest.mark.parametrize("is_swapped", [False, True])
def test_evaluation_keeps_its_budget_where_it_can(encoded, is_swapped):
    # The side of more tokens binds.
    pairs = Encoded(encoded.target, encoded.source) if is_swapped else encoded
    for batch in eval_batches(pairs, 100):
        assert max(batch["source_BS"].size, batch["target_BT"].size) <= 100


def test_a_pair_that_is_no_sentence_is_not_evaluated():
    lengths = np.array([5, 8193, 7, 9000])
    few = Encoded(random_sentences(lengths[:1], 0), random_sentences(lengths[2:3], 1))
    check_evaluable(few, "valid", max_length=3)
    for sides in ((lengths, lengths[::-1]), (np.full(4, 3), lengths)):
        many = Encoded(*(random_sentences(side, 2) for side in sides))
        with pytest.raises(
            ValueError, match=r"^Pair \d of the split 'valid' has [89],\d+ tokens"
        ) as e:
            check_evaluable(many, "valid", max_length=8192)
        assert "at most 8,192." in str(e.value)
        check_evaluable(many, "valid", max_length=9000)


LENGTHS = [3, 17, 1, 16, 40, 2, 16, 33, 5, 90]


@pytest.fixture
def sources():
    return random_sentences(LENGTHS, 5)


def test_every_source_is_decoded_once(sources):
    found = {}
    for batch in source_batches(sources, tokens=64):
        for row, index in enumerate(batch.indices.tolist()):
            assert index not in found
            found[index] = split(batch.source_BS[row])
        assert not batch.source_BS[len(batch.indices) :].any()
        assert batch.source_BS.dtype == np.int32
    assert found == {index: [tuple(sources[index].tolist())] for index in range(len(LENGTHS))}


def test_sources_go_from_long_to_short(sources):
    order = [index for batch in source_batches(sources, tokens=64) for index in batch.indices]
    assert [LENGTHS[index] for index in order] == sorted(LENGTHS, reverse=True)


def test_source_widths_are_few_and_each_has_its_number_of_rows(sources):
    shapes = {batch.source_BS.shape for batch in source_batches(sources, tokens=64)}
    assert shapes == {(4, 16), (2, 32), (1, 64), (1, 128)}


def test_sources_are_spread_over_devices(sources):
    batches = list(source_batches(sources, tokens=64, rows_multiple=3))
    assert {batch.source_BS.shape for batch in batches} == {(6, 16), (3, 32), (3, 64), (3, 128)}
    assert sorted(index for batch in batches for index in batch.indices) == list(
        range(len(LENGTHS))
    )


def test_no_sources_are_no_batches():
    assert list(source_batches([], tokens=64)) == []
