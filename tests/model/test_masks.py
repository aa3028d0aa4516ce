"""Each fact of a mask against its definition, and all of them at once."""

import itertools

import jax
import numpy as np
import pytest

from jaxformer.model import Mask, Positions

B, T, S = 5, 13, 19
RNG = np.random.default_rng(0)
VALID_BS = RNG.random((B, S)) < 0.7
QUERY_SEGMENT_BT = np.sort(RNG.integers(0, 3, (B, T)))
KEY_SEGMENT_BS = np.sort(RNG.integers(0, 3, (B, S)))
ALLOWED_BTS = RNG.random((B, T, S)) < 0.7
# Not the index: sentences that share a row, and keys of a cache, stand elsewhere.
QUERY_BT = RNG.integers(0, 11, (B, T))
KEY_BS = RNG.integers(0, 11, (B, S))

FACTS = {
    "valid": ({"key_valid_BS": VALID_BS}, lambda b, t, s: VALID_BS[b, s]),
    "segments": (
        {"query_segment_BT": QUERY_SEGMENT_BT, "key_segment_BS": KEY_SEGMENT_BS},
        lambda b, t, s: QUERY_SEGMENT_BT[b, t] == KEY_SEGMENT_BS[b, s],
    ),
    "allowed": ({"allowed_BTS": ALLOWED_BTS}, lambda b, t, s: ALLOWED_BTS[b, t, s]),
    "causal": ({"causal": True}, lambda b, t, s: KEY_BS[b, s] <= QUERY_BT[b, t]),
    "window": ({"window": 3}, lambda b, t, s: abs(KEY_BS[b, s] - QUERY_BT[b, t]) < 3),
}


@pytest.mark.parametrize(
    "names",
    [*itertools.combinations(FACTS, 1), *itertools.combinations(FACTS, 2), tuple(FACTS)],
    ids="+".join,
)
def test_a_link_is_legal_if_every_fact_allows_it(names):
    mask = Mask(**{field: value for name in names for field, value in FACTS[name][0].items()})
    legal_BTS = np.broadcast_to(mask.materialise(Positions(QUERY_BT, KEY_BS)), (B, T, S))
    for b, t, s in np.ndindex(B, T, S):
        assert legal_BTS[b, t, s] == all(FACTS[name][1](b, t, s) for name in names)


def test_positions_may_hold_for_every_row():
    positions = Positions(np.arange(T)[None], np.arange(S)[None])
    np.testing.assert_array_equal(
        Mask(causal=True).materialise(positions)[0], np.tri(T, S, dtype=bool)
    )


def test_no_fact_is_no_mask():
    assert Mask().materialise(Positions(QUERY_BT, KEY_BS)) is None


def test_causality_and_window_are_not_arrays():
    assert jax.tree.leaves(Mask(causal=True, window=3)) == []
