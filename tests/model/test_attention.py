"""Eq. 1 and multi-head attention against loops, and attention functions of one's own."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model import Mask, MultiHeadAttention, Positions, dot_product_attention

B, T, S, D, H, K, V = 5, 13, 19, 17, 2, 7, 11

attend = jax.jit(dot_product_attention)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def positions(queries=T, keys=S):
    return Positions(np.arange(queries)[None], np.arange(keys)[None])


@pytest.fixture
def legal_BTS():
    """Random links; each query has at least one."""
    legal_BTS = np.random.default_rng(1).random((B, T, S)) < 0.6
    legal_BTS[:, :, 3] = True
    return legal_BTS


def attention_loop(query_BTHK, key_BSHK, value_BSHV, legal_BTS):
    """Eq. 1, one query of one head at a time, in float64."""
    batch, queries, heads, d_k = query_BTHK.shape
    out_BTHV = np.zeros((batch, queries, heads, value_BSHV.shape[-1]))
    for b in range(batch):
        for t in range(queries):
            for h in range(heads):
                keys = np.flatnonzero(legal_BTS[b, t])
                query_K = query_BTHK[b, t, h].astype(np.float64)
                weight = [math.exp(query_K @ key_BSHK[b, s, h] / math.sqrt(d_k)) for s in keys]
                for s, w in zip(keys, weight, strict=True):
                    out_BTHV[b, t, h] += w / sum(weight) * value_BSHV[b, s, h]
    return out_BTHV


@pytest.fixture
def heads():
    return normal(B, T, H, K), normal(B, S, H, K), normal(B, S, H, V)


def test_equation_1(heads, legal_BTS):
    out_BTHV, _ = attend(*heads, Mask(allowed_BTS=legal_BTS), positions())
    np.testing.assert_allclose(out_BTHV, attention_loop(*heads, legal_BTS), rtol=0, atol=3e-6)


def test_weights_are_a_distribution_over_legal_links(heads, legal_BTS):
    _, weights_BHTS = attend(*heads, Mask(allowed_BTS=legal_BTS), positions())
    assert weights_BHTS.shape == (B, H, T, S)
    np.testing.assert_allclose(np.sum(weights_BHTS, axis=-1), 1.0, rtol=1e-6)
    is_zero_BHTS = np.asarray(weights_BHTS) == 0.0
    np.testing.assert_array_equal(is_zero_BHTS, np.repeat(~legal_BTS[:, None], H, axis=1))


def test_what_stands_at_illegal_keys_changes_no_bit(heads, legal_BTS):
    query_BTHK, key_BSHK, value_BSHV = heads
    legal_BTS[:, :, 4:6] = False
    mask = Mask(allowed_BTS=legal_BTS)
    before, _ = attend(query_BTHK, key_BSHK, value_BSHV, mask, positions())
    key_BSHK[:, 4:6], value_BSHV[:, 4:6] = 1e4, -1e4
    after, _ = attend(query_BTHK, key_BSHK, value_BSHV, mask, positions())
    np.testing.assert_array_equal(before, after)


def test_a_query_without_legal_links_is_finite_in_value_and_gradient(heads, legal_BTS):
    legal_BTS[2] = False

    def total(*heads):
        out, weights = attend(*heads, Mask(allowed_BTS=legal_BTS), positions())
        return jnp.sum(out**2), weights

    (_, weights_BHTS), gradients = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(
        *heads
    )
    np.testing.assert_allclose(weights_BHTS[2], 1 / S, rtol=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_softmax_is_float32_under_bfloat16(heads):
    bfloat16 = [jnp.asarray(head, jnp.bfloat16) for head in heads]
    float32 = [head.astype(jnp.float32) for head in bfloat16]
    out, weights = attend(*bfloat16, Mask(), positions())
    _, expected = attend(*float32, Mask(), positions())
    assert (out.dtype, weights.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize("use_bias", [False, True])
def test_multi_head_attention(make_params, apply, legal_BTS, use_bias):
    module = MultiHeadAttention(d_model=D, num_heads=H, d_k=K, d_v=V, use_bias=use_bias)
    inputs = normal(B, T, D), normal(B, S, D), Mask(allowed_BTS=legal_BTS), positions()
    params = make_params(module, *inputs)
    assert all(("bias" in layer) == use_bias for layer in params.values())

    def project(x_BTD, name):
        kernel_DHK = params[name]["kernel"]
        heads_BTHK = [x_BTD @ kernel_DHK[:, h] for h in range(H)]
        return np.stack(heads_BTHK, axis=2) + params[name].get("bias", 0.0)

    query_BTD, memory_BSD = inputs[:2]
    projected = (
        project(query_BTD, "query"),
        project(memory_BSD, "key"),
        project(memory_BSD, "value"),
    )
    concatenated = attention_loop(*projected, legal_BTS).reshape(B, T, H * V)
    expected = concatenated @ params["out"]["kernel"].reshape(H * V, D)
    expected += params["out"].get("bias", 0.0)
    np.testing.assert_allclose(apply(module, params, *inputs), expected, rtol=0, atol=2e-5)


def test_an_attention_function_gets_heads_mask_and_positions(make_params, apply):
    seen = []

    def mean_of_values(query_BTHK, key_BSHK, value_BSHV, mask, positions):
        seen.append((query_BTHK.shape, key_BSHK.shape, value_BSHV.shape, mask, positions))
        mean_B1HV = jnp.mean(value_BSHV, axis=1, keepdims=True)
        return jnp.repeat(mean_B1HV, query_BTHK.shape[1], axis=1), None

    module = MultiHeadAttention(D, H, K, V, attend=mean_of_values)
    query_BTD, memory_BSD, mask = normal(B, T, D), normal(B, S, D), Mask(causal=True, window=3)
    params = make_params(module, query_BTD, memory_BSD, mask, positions())
    out_BTD = apply(module, params, query_BTD, memory_BSD, mask, positions())
    *shapes, seen_mask, seen_positions = seen[-1]
    assert shapes == [(B, T, H, K), (B, S, H, K), (B, S, H, V)]
    assert (seen_mask.causal, seen_mask.window) == (True, 3)
    assert (seen_positions.query_BT.shape, seen_positions.key_BS.shape) == ((1, T), (1, S))
    value_BHV = np.einsum("bsd,dhv->bhv", memory_BSD, params["value"]["kernel"]) / S
    expected_BD = np.einsum("bhv,hvd->bd", value_BHV, params["out"]["kernel"])
    np.testing.assert_allclose(out_BTD[:, T - 1], expected_BD, rtol=0, atol=1e-5)


def test_an_attention_module_has_parameters_of_its_own(make_params, apply, tempered):
    inputs = normal(B, T, D), normal(B, S, D), Mask(), positions()
    module = MultiHeadAttention(D, H, K, V, attend=tempered)
    params = make_params(module, *inputs)
    temperature_H1 = params["attention"]["temperature"]
    assert temperature_H1.shape == (H, 1)
    plain = {name: params[name] for name in ("query", "key", "value", "out")}
    plain["query"] = {"kernel": plain["query"]["kernel"] * temperature_H1}
    expected = apply(MultiHeadAttention(D, H, K, V), plain, *inputs)
    np.testing.assert_allclose(apply(module, params, *inputs), expected, rtol=0, atol=1e-5)
