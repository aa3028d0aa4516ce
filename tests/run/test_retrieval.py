"""Recall, reciprocal rank, and the bootstrap of their means."""

import numpy as np
import pytest

from jaxformer.run.retrieval import interval, ranks, recall, reciprocal

FOUND = [["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"], []]
RIGHT = ["a", "c", "d", "a"]


def test_ranks_count_from_one_and_zero_is_not_found():
    rank_N = ranks(FOUND, RIGHT)
    assert rank_N.tolist() == [1, 3, 0, 0]
    assert recall(rank_N, 1).tolist() == [1, 0, 0, 0]
    assert recall(rank_N, 3).tolist() == [1, 1, 0, 0]
    assert reciprocal(rank_N).tolist() == [1, pytest.approx(1 / 3), 0, 0]


def test_the_interval_is_that_of_the_normal_law_for_many_queries():
    value_N = np.random.default_rng(1).random(4000) < 0.3
    low, high = interval(value_N.astype(float))
    half = 1.96 * value_N.std() / np.sqrt(4000)
    assert low == pytest.approx(value_N.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(value_N.mean() + half, abs=0.1 * half)
    assert interval(value_N.astype(float)) == (low, high)


def test_differences_are_taken_query_by_query():
    value_N = np.random.default_rng(1).random(500)
    # Far less uncertain than either mean.
    assert interval(value_N + 0.25, value_N) == pytest.approx((0.25, 0.25))


def test_no_queries_are_told():
    with pytest.raises(ValueError, match="no queries"):
        interval(np.array([]))
