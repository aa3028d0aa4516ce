"""The TPU's kernel gives what dense attention gives; where it cannot run, that is what runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model import Mask, Positions, dot_product_attention, splash_attention
from jaxformer.model.splash import _tile, attend_by_kernel
from tests.closeness import is_close

# Rows are filled up to two tiles, and to one.
B, T, S, H, K, V = 2, 137, 101, 2, 16, 24
RNG = np.random.default_rng(0)
QUERY_BTHK, KEY_BTHK, VALUE_BTHV, OUT_BTHV = (
    RNG.normal(size=(B, T, H, width)).astype(np.float32) for width in (K, K, V, V)
)
LENGTHS = [[60, 50, 27], [1, 135, 1]]
SEGMENT_BT = np.stack([np.repeat(np.arange(3), lengths) for lengths in LENGTHS])
POSITION_BT = np.stack([np.concatenate([np.arange(n) for n in lengths]) for lengths in LENGTHS])
VALID_BT = RNG.random((B, T)) < 0.7
PACKED = {"query_segment_BT": SEGMENT_BT, "key_segment_BS": SEGMENT_BT}


def outcome(attend, num_keys, mask):
    """Returns output and gradients of all inputs where a query has a legal link."""
    position_BT = np.arange(T)[None] if mask.query_segment_BT is None else POSITION_BT
    positions = Positions(position_BT, position_BT[:, :num_keys])
    legal_BTS = mask.materialise(positions)
    has_link_BT = np.ones((B, T), bool) if legal_BTS is None else np.any(legal_BTS, axis=-1)
    gradient_BTHV = np.where(has_link_BT[:, :, None, None], OUT_BTHV, 0)

    @jax.jit
    def run(*heads):
        out_BTHV, pullback = jax.vjp(lambda *heads: attend(*heads, mask, positions), *heads)
        return jnp.where(gradient_BTHV == 0, 0, out_BTHV), *pullback(gradient_BTHV)

    return run(QUERY_BTHK, KEY_BTHK[:, :num_keys], VALUE_BTHV[:, :num_keys])


@pytest.mark.parametrize(
    ("num_keys", "facts"),
    [
        (T, {"key_valid_BS": VALID_BT, **PACKED}),
        (T, {"causal": True, **PACKED}),
        (T, {"causal": True, "window": 9, **PACKED}),
        (T, {"window": 17}),
        (
            S,
            {
                "key_valid_BS": VALID_BT[:, :S],
                "query_segment_BT": SEGMENT_BT,
                "key_segment_BS": SEGMENT_BT[:, :S],
            },
        ),
        (S, {}),
    ],
    ids=["encoder", "decoder", "decoder's window", "window", "over the encoder's output", "all"],
)
def test_the_kernel_is_dense_attention(num_keys, facts):
    def by_kernel(*arguments):
        return attend_by_kernel(*arguments[:-1], interpret=True)

    def densely(*arguments):
        return dot_product_attention(*arguments)[0]

    kernel, dense = (outcome(attend, num_keys, Mask(**facts)) for attend in (by_kernel, densely))
    assert np.any(dense[0])
    assert all(map(is_close, kernel, dense))


def test_a_query_without_legal_links_is_finite_in_value_and_gradient():
    mask = Mask(key_valid_BS=np.zeros((B, T), bool))

    @jax.jit
    def run(*heads):
        out_BTHV, pullback = jax.vjp(
            lambda *heads: attend_by_kernel(*heads, mask, interpret=True), *heads
        )
        return out_BTHV, *pullback(OUT_BTHV)

    assert all(np.isfinite(found).all() for found in run(QUERY_BTHK, KEY_BTHK, VALUE_BTHV))


@pytest.mark.parametrize(
    ("length", "num_keys", "facts"),
    [
        (T, T, {"causal": True, **PACKED}),
        (1, T, {}),
        (T, S, {"causal": True}),
        (T, T, {"allowed_BTS": RNG.random((B, T, T)) < 0.5}),
    ],
    ids=["no TPU", "one position", "causal over fewer keys", "a matrix of links"],
)
def test_it_is_dense_attention_where_the_kernel_cannot_run(length, num_keys, facts):
    arguments = (
        QUERY_BTHK[:, :length],
        KEY_BTHK[:, :num_keys],
        VALUE_BTHV[:, :num_keys],
        Mask(**facts),
        Positions(POSITION_BT[:, :length], POSITION_BT[:, :num_keys]),
    )
    # On a TPU, too, unless that is what is missing.
    is_asked = length == T == num_keys and "allowed_BTS" not in facts
    assert ("pallas_call" in str(jax.make_jaxpr(splash_attention)(*arguments))) == is_asked
    out_BTHV, weights_BHTS = jax.jit(splash_attention)(*arguments)
    assert weights_BHTS is None
    np.testing.assert_array_equal(out_BTHV, jax.jit(dot_product_attention)(*arguments)[0])


@pytest.mark.parametrize(
    ("length", "tile"), [(1, 128), (128, 128), (129, 256), (300, 384), (512, 512), (600, 128)]
)
def test_tiles_leave_no_more_to_fill_up_than_the_smallest_would(length, tile):
    assert _tile(length) == tile
