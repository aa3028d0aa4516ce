"""Restricted attention is dense attention under a band, and builds no array of all links."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model import (
    BOS,
    PAD,
    Mask,
    Positions,
    dot_product_attention,
    restricted_attention,
    shift_right,
)
from tests.closeness import is_close

# Neither a multiple of a block nor short enough to be left to dense attention.
B, T, H, K, V = 3, 101, 2, 7, 11
RNG = np.random.default_rng(0)
QUERY_BTHK, KEY_BSHK, VALUE_BSHV, OUT_BTHV = (
    RNG.normal(size=(B, T, H, width)).astype(np.float32) for width in (K, K, V, V)
)
LENGTHS = [[40, 33, 28], [1, 99, 1], [53, 1, 47]]
SEGMENT_BT = np.stack([np.repeat(np.arange(3), lengths) for lengths in LENGTHS])
POSITION_BT = np.stack([np.concatenate([np.arange(n) for n in lengths]) for lengths in LENGTHS])
VALID_BS = RNG.random((B, T)) < 0.7

FACTS = {
    "nothing else": ({}, np.arange(T)[None]),
    "padding": ({"key_valid_BS": VALID_BS}, np.arange(T)[None]),
    "segments": ({"query_segment_BT": SEGMENT_BT, "key_segment_BS": SEGMENT_BT}, POSITION_BT),
    "all": (
        {"key_valid_BS": VALID_BS, "query_segment_BT": SEGMENT_BT, "key_segment_BS": SEGMENT_BT},
        POSITION_BT,
    ),
}


def mask_of(name, **facts):
    """Returns the mask and the positions of a name in FACTS."""
    found, position_BT = FACTS[name]
    return Mask(**found, **facts), Positions(position_BT, position_BT)


@pytest.mark.parametrize(
    ("name", "window", "causal"),
    [
        ("nothing else", 1, True),
        ("nothing else", 24, False),
        ("padding", 5, True),
        ("segments", 17, False),
        ("segments", 24, True),
        ("all", 2, False),
        ("all", 37, True),
        # More than a third of the row: dense attention itself.
        ("all", 60, False),
    ],
)
def test_it_is_dense_attention_under_a_band(name, window, causal):
    mask, positions = mask_of(name, window=window, causal=causal)
    has_link_BT = np.any(mask.materialise(positions), axis=-1)
    gradient_BTHV = np.where(has_link_BT[:, :, None, None], OUT_BTHV, 0)

    def outcome(attend, heads):
        """Returns output and gradients of all inputs where a query has a legal link."""
        out_BTHV, pullback = jax.vjp(lambda *heads: attend(*heads, mask, positions)[0], *heads)
        return jnp.where(gradient_BTHV == 0, 0, out_BTHV), *pullback(gradient_BTHV)

    heads = QUERY_BTHK, KEY_BSHK, VALUE_BSHV
    restricted, dense = jax.jit(
        lambda heads: [
            outcome(each, heads) for each in (restricted_attention, dot_product_attention)
        ]
    )(heads)
    assert np.any(dense[0])
    assert all(map(is_close, restricted, dense))


def test_a_query_without_legal_links_is_finite_in_value_and_gradient():
    mask, positions = Mask(key_valid_BS=np.zeros((B, T), bool), window=5), mask_of("padding")[1]

    @jax.jit
    def run(*heads):
        out_BTHV, pullback = jax.vjp(
            lambda *heads: restricted_attention(*heads, mask, positions)[0], *heads
        )
        return out_BTHV, *pullback(OUT_BTHV)

    assert all(np.isfinite(found).all() for found in run(QUERY_BTHK, KEY_BSHK, VALUE_BSHV))


def test_what_stands_outside_the_window_changes_no_bit():
    mask, positions = mask_of("nothing else", window=9)
    run = jax.jit(
        lambda key_BSHK, value_BSHV: restricted_attention(
            QUERY_BTHK, key_BSHK, value_BSHV, mask, positions
        )[0]
    )
    key_BSHK, value_BSHV = KEY_BSHK.copy(), VALUE_BSHV.copy()
    key_BSHK[:, 50], value_BSHV[:, 50] = 1e4, -1e4
    is_same_T = np.all(run(KEY_BSHK, VALUE_BSHV) == run(key_BSHK, value_BSHV), axis=(0, 2, 3))
    np.testing.assert_array_equal(is_same_T, np.abs(np.arange(T) - 50) >= 9)


@pytest.mark.parametrize(
    ("keys", "facts"),
    [(T, {}), (67, {"window": 9}), (T, {"window": 9, "allowed_BTS": RNG.random((B, T, T)) < 0.5})],
    ids=["no window", "fewer keys than queries", "a matrix of links"],
)
def test_what_is_no_band_of_a_row_is_left_to_dense_attention(keys, facts):
    positions = Positions(np.arange(T)[None], np.arange(keys)[None])
    arguments = QUERY_BTHK, KEY_BSHK[:, :keys], VALUE_BSHV[:, :keys], Mask(**facts), positions
    dense_BTHV, _ = dot_product_attention(*arguments)
    np.testing.assert_array_equal(restricted_attention(*arguments)[0], dense_BTHV)


def largest_array(attend, length):
    """Returns the most elements of an array in the compiled program, forward and backward."""
    shape = (1, length, H, K)
    heads = [jax.ShapeDtypeStruct(shape, jnp.float32)] * 3
    position_BT = jnp.arange(length)[None]

    def run(*heads):
        mask, positions = Mask(window=13), Positions(position_BT, position_BT)
        out_BTHV, pullback = jax.vjp(lambda *heads: attend(*heads, mask, positions)[0], *heads)
        return out_BTHV, pullback(out_BTHV)

    text = jax.jit(run).lower(*heads).compile().as_text()
    shapes = re.findall(r"\b(?:f|s|u|bf|pred)\d*\[([\d,]+)\]", text)
    assert shapes
    return max(np.prod([int(size) for size in shape.split(",")]) for shape in shapes)


def test_no_array_of_the_program_has_room_for_all_links():
    assert largest_array(dot_product_attention, 1009) >= 1009**2
    # Every query beside the keys of three blocks, for each head.
    assert largest_array(restricted_attention, 1009) <= H * (1009 + 12) * 3 * 12
    # Twice as long takes twice as much.
    assert largest_array(restricted_attention, 2018) < 1.1 * 2 * largest_array(
        restricted_attention, 1009
    )


@pytest.fixture(scope="module")
def rows(sentences):
    """Returns sources and targets: whole rows, short ones, two sentences in one, and none."""
    source_BS, target_BT = sentences([83, 31, 0, 67], 83), sentences([71, 29, 0, 53], 71, seed=1)
    source_BS[1, 31:80], target_BT[1, 29:69] = sentences([49], 49)[0], sentences([40], 40)[0]
    return source_BS, target_BT


def test_a_model_with_it_is_the_dense_one(make_model, params_of, apply, rows):
    source_BS, target_BT = rows
    changes = {"attention_window": 3, "num_decoder_layers": 1}
    one_BTD, other_BTD = (
        np.asarray(apply(model, params_of(model), source_BS, input_BT, method="hidden"))
        for input_BT in [np.asarray(shift_right(target_BT))]
        for model in (
            make_model(attend=attend, **changes)
            for attend in (restricted_attention, dot_product_attention)
        )
    )
    assert np.isfinite(one_BTD).all()
    assert is_close(one_BTD[target_BT != PAD], other_BTD[target_BT != PAD])


def test_decoding_with_it_equals_reading_whole_targets(make_model, params_of, rows, apply):
    model = make_model(attention_window=3, attend=restricted_attention, num_encoder_layers=1)
    params, source_BS = params_of(model), rows[0][:1]
    # Two hypotheses of a sentence, and one position after another of both.
    input_MT = np.concatenate([[[BOS], [BOS]], RNG.integers(4, 41, (2, 60))], axis=1)
    whole_MTW = apply(model, params, np.repeat(source_BS, 2, axis=0), input_MT)

    @jax.jit
    def decode(params, input_MT):
        variables = {"params": params}
        memory_BSD = model.apply(variables, source_BS, method="encode")
        cache = model.apply(variables, memory_BSD, source_BS, 2, 61, method="start_cache")

        def step(cache, token_M):
            logits_BMW, cache = model.apply(variables, token_M[None], cache, method="decode_step")
            return cache, logits_BMW[0]

        return jax.lax.scan(step, cache, input_MT.T)[1]

    np.testing.assert_allclose(
        np.swapaxes(decode(params, input_MT), 0, 1), whole_MTW, rtol=0, atol=1e-4
    )
