"""Fused attention is dense attention, and on a GPU the program holds cuDNN's kernels."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model import (
    EOS,
    PAD,
    Mask,
    Positions,
    dot_product_attention,
    fused_attention,
    shift_right,
)
from tests.closeness import is_close

B, T, S, H, K, V = 3, 13, 19, 2, 7, 11
RNG = np.random.default_rng(0)
SEGMENT_BT = np.stack([np.repeat(np.arange(3), n) for n in ([5, 6, 2], [1, 11, 1], [4, 4, 5])])
SEGMENT_BS = np.stack([np.repeat(np.arange(3), n) for n in ([9, 3, 7], [2, 16, 1], [1, 8, 10])])
POSITION_BT = np.stack(
    [np.concatenate([np.arange(n) for n in np.bincount(row)]) for row in SEGMENT_BT]
)
VALID_BT, VALID_BS = RNG.random((B, T)) < 0.6, RNG.random((B, S)) < 0.6
# The last row is padding only.
VALID_BT[2] = VALID_BS[2] = False
OWN = {"query_segment_BT": SEGMENT_BT, "key_segment_BS": SEGMENT_BT}
# Of three sentences in a row, one has no translation.
CROSS = {"query_segment_BT": 2 * SEGMENT_BT, "key_segment_BS": SEGMENT_BS}

# Keys, facts of the mask, positions of the queries.
CASES = {
    "nothing": (S, {}, np.arange(T)[None]),
    "padding": (S, {"key_valid_BS": VALID_BS}, np.arange(T)[None]),
    "segments and padding": (T, {**OWN, "key_valid_BS": VALID_BT}, POSITION_BT),
    "cross": (S, {**CROSS, "key_valid_BS": VALID_BS}, POSITION_BT),
    "causal": (T, {"causal": True}, np.arange(T)[None]),
    "causal segments": (T, {**OWN, "causal": True}, POSITION_BT),
    "causal and padding": (T, {"causal": True, "key_valid_BS": VALID_BT}, np.arange(T)[None]),
    "causal, fewer queries": (S, {"causal": True}, 4 + np.arange(T)[None]),
    "window": (T, {"window": 3}, np.arange(T)[None]),
    "causal window": (T, {"causal": True, "window": 3}, np.arange(T)[None]),
    "causal window of segments": (T, {**OWN, "causal": True, "window": 3}, POSITION_BT),
    "one place of a cache": (
        T,
        {"causal": True, "allowed_BTS": RNG.random((B, T, T)) < 0.4},
        np.full((1, T), 9),
    ),
    "places of a cache": (
        S,
        {"causal": True, "allowed_BTS": RNG.random((B, T, S)) < 0.4},
        np.full((1, T), 9),
    ),
}


def arguments(name, dtype=np.float32):
    """Returns queries, keys, values, mask and positions of a name in CASES."""
    keys, facts, position_BT = CASES[name]
    rng = np.random.default_rng(1)
    heads = [
        jnp.asarray(rng.normal(size=(B, length, H, width)), dtype)
        for length, width in ((T, K), (keys, K), (keys, V))
    ]
    position_BS = position_BT if keys == T else np.arange(keys)[None]
    return *heads, Mask(**facts), Positions(position_BT, position_BS)


def outcome(attend, query_BTHK, key_BSHK, value_BSHV, mask, positions):
    """Returns the output and the gradients of all three inputs."""
    out_BTHV, pullback = jax.vjp(
        lambda *heads: attend(*heads, mask, positions)[0], query_BTHK, key_BSHK, value_BSHV
    )
    towards_BTHV = np.random.default_rng(2).normal(size=out_BTHV.shape)
    return out_BTHV, *pullback(jnp.asarray(towards_BTHV, out_BTHV.dtype))


def check_against_dense(dtype, names, tolerance):
    """Compares outputs and gradients under masks of CASES."""
    given = {name: arguments(name, dtype) for name in names}

    @jax.jit
    def run(given):
        return {name: outcome(fused_attention, *given[name]) for name in given}

    # One program for all masks of a size.
    dense = jax.jit(functools.partial(outcome, dot_product_attention))
    for name, fused in run(given).items():
        *heads, mask, positions = given[name]
        legal_BTS = mask.materialise(positions)
        legal_BTS = True if legal_BTS is None else legal_BTS
        links = Mask(allowed_BTS=np.broadcast_to(legal_BTS, (B, T, CASES[name][0])))
        for one, other in zip(fused, dense(*heads, links, positions), strict=True):
            assert one.dtype == dtype
            assert np.any(other)
            assert is_close(one, other, tolerance), name


def test_it_is_dense_attention_under_every_mask():
    check_against_dense(jnp.float32, CASES, 1e-5)


def test_in_bfloat16_it_is_dense_attention_to_that_types_rounding():
    check_against_dense(jnp.bfloat16, ["cross", "causal segments"], 1e-2)


def test_the_masks_have_rows_without_legal_links():
    """Or the test above would say nothing of them."""
    without = set()
    for name in CASES:
        *_, mask, positions = arguments(name)
        legal_BTS = mask.materialise(positions)
        if legal_BTS is not None and not np.any(legal_BTS, axis=-1).all():
            without.add(name)
    assert {"padding", "cross", "causal and padding"} < without
    assert "causal segments" not in without


def test_what_stands_at_illegal_keys_changes_no_bit():
    query_BTHK, key_BSHK, value_BSHV, _, positions = arguments("nothing")
    mask = Mask(key_valid_BS=np.arange(S)[None] != 5)
    run = jax.jit(lambda *heads: fused_attention(*heads, mask, positions)[0])
    before_BTHV = run(query_BTHK, key_BSHK, value_BSHV)
    key_BSHK, value_BSHV = key_BSHK.at[:, 5].set(1e4), value_BSHV.at[:, 5].set(-1e4)
    np.testing.assert_array_equal(run(query_BTHK, key_BSHK, value_BSHV), before_BTHV)


def test_what_a_gpu_needs_filled_up_changes_nothing(as_on_a_gpu, monkeypatch):
    """XLA's form is given what cuDNN would be: even lengths, heads of 16."""
    ours, given = jax.nn.dot_product_attention, []

    def attend(*heads, implementation, **options):
        given.append((implementation, {head.shape[1:] for head in heads}))
        return ours(*heads, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    check_against_dense(jnp.bfloat16, ["nothing", "cross", "causal", "causal segments"], 1e-2)
    row, other = (T + 1, H, 16), (S + 1, H, 16)
    assert [implementation for implementation, _ in given] == ["cudnn"] * 4
    assert sorted(sorted(shapes) for _, shapes in given) == [[row], [row], *[[row, other]] * 2]


def program_of(attend, name):
    """Returns the program of output and gradients as text, before any compiler has seen it."""
    heads, facts = (arguments(name, jnp.bfloat16)[part] for part in (slice(3), slice(3, 5)))
    traced = jax.jit(lambda *heads: outcome(attend, *heads, *facts)).trace(*heads)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(
    ("name", "mask_type", "has_links"),
    [
        # Of 19 keys, an odd number.
        ("nothing", "NO_MASK", True),
        ("causal", "CAUSAL", False),
        ("causal window", "CAUSAL", False),
        ("padding", "NO_MASK", True),
        ("cross", "NO_MASK", True),
        ("causal segments", "CAUSAL", True),
        ("causal window of segments", "CAUSAL", True),
        # Causality would take away what a row without links is to have.
        ("causal and padding", "NO_MASK", True),
        ("places of a cache", "NO_MASK", True),
    ],
)
def test_on_a_gpu_it_is_cudnns_kernel_both_ways(as_on_a_gpu, name, mask_type, has_links):
    text = program_of(fused_attention, name)
    kernel = "fmhaScaleBiasSoftmax" if has_links else "fmhaSoftmax"
    called = re.findall(r"custom_call @__cudnn\$(\w+)\(.*?mask_type.*?: .22(\w+).22", text)
    assert called == [(kernel, mask_type), (f"{kernel}Backward", mask_type)]
    # A window by name does not go together with an array of links.
    windows = set(re.findall(r"sliding_window_length.22: (\d+)", text))
    assert (windows - {"0"} != set()) == (name == "causal window")
    # Odd lengths are made even; there is one array of links for all heads, or none.
    queries, keys = T + 1, CASES[name][0] + 1
    assert (f"x1x{queries}x{keys}xbf16>" in text) == has_links
    assert f"{H}x{queries}x{keys}x" not in text
    # Heads of 7 and of 11 are filled up to 16.
    assert f"tensor<{B}x{queries}x{H}x16xbf16>" in text


def test_dense_attention_does_have_an_array_of_scores():
    """Or its absence above would mean nothing."""
    assert f"tensor<{B}x{H}x{T}x{S}xf32>" in program_of(dot_product_attention, "cross")


def test_the_implementation_can_be_named(as_on_a_gpu):
    attend = functools.partial(fused_attention, implementation="xla")
    assert "cudnn" not in program_of(attend, "causal")


def test_float32_is_refused_on_a_gpu(as_on_a_gpu):
    with pytest.raises(ValueError, match=r"bfloat16 or float16, and got float32. Set model.dtype"):
        fused_attention(*arguments("causal"))


@pytest.mark.parametrize("capability", ["7.5", "8.0", "10.0", "gfx942"])
def test_a_gpu_that_is_too_old_is_refused(as_on_a_gpu, monkeypatch, capability):
    gpus = [types.SimpleNamespace(compute_capability=capability, device_kind="Tesla T4")]
    monkeypatch.setattr(jax, "local_devices", lambda: gpus)
    run = functools.partial(program_of, fused_attention, "causal")
    if capability != "7.5":
        assert "__cudnn$fmhaSoftmaxBackward" in run()
        return
    with pytest.raises(ValueError, match="compute capability 8.0 or newer") as raised:
        run()
    assert str(raised.value) == (
        "cuDNN's attention needs a GPU of compute capability 8.0 or newer, and 7.5 is that of this "
        "Tesla T4. Leave model.attention as it is in configs/base.py."
    )


def test_heads_too_wide_for_cudnn_are_refused(as_on_a_gpu):
    head_BTHK = jnp.zeros((1, 2, 1, 300), jnp.bfloat16)
    positions = Positions(np.arange(2)[None], np.arange(2)[None])
    with pytest.raises(ValueError, match=r"no attention for heads of d_k=300 and d_v=300 here"):
        jax.eval_shape(lambda x: fused_attention(x, x, x, Mask(), positions), head_BTHK)


def test_cudnn_is_refused_without_a_gpu():
    with pytest.raises(ValueError, match="needs an NVIDIA GPU, and jax's default device is a cpu"):
        fused_attention(*arguments("causal", jnp.bfloat16), implementation="cudnn")


@pytest.fixture(scope="module")
def rows(sentences):
    """Returns sources and targets: a whole row, a short one, none, and two sentences in one."""
    source_BS, target_BT = sentences([13, 5, 0, 13], 13), sentences([11, 7, 0, 11], 11, seed=1)
    source_BS[3, 6] = target_BT[3, 3] = EOS
    return source_BS, target_BT


def test_a_model_with_it_is_the_dense_one(make_model, params_of, apply, rows):
    source_BS, target_BT = rows
    input_BT = np.asarray(shift_right(target_BT))
    one_BTD, other_BTD = (
        np.asarray(apply(model, params_of(model), source_BS, input_BT, method="hidden"))
        for model in (
            make_model(attend=attend, num_encoder_layers=1, num_decoder_layers=1)
            for attend in (fused_attention, dot_product_attention)
        )
    )
    assert np.isfinite(one_BTD).all()
    assert is_close(one_BTD[target_BT != PAD], other_BTD[target_BT != PAD])


def test_decoding_with_it_is_the_dense_one(make_model, params_of, rows):
    source_BS, token_BM = rows[0], np.array([[4, 5]] * 4)

    def decode(attend):
        model = make_model(attend=attend, num_encoder_layers=1, num_decoder_layers=1)
        variables = {"params": params_of(model)}

        @jax.jit
        def step(token_BM, cache):
            return model.apply(variables, token_BM, cache, method="decode_step")

        memory_BSD = model.apply(variables, source_BS, method="encode")
        cache = model.apply(variables, memory_BSD, source_BS, 2, 5, method="start_cache")
        for _ in range(3):
            logits_BMW, cache = step(token_BM, cache)
        return logits_BMW

    assert is_close(decode(fused_attention), decode(dot_product_attention))
