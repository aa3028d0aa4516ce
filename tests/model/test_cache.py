"""Decoding through the cache equals decoding whole targets, however hypotheses change places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model import BOS, Learned, dot_product_attention, pre_norm, reorder

B, S, M, T = 2, 11, 3, 7
SOURCE_LENGTHS = [11, 4]


def start(model, params, source_BS, num_beams=M):
    """Returns the cache before the first position."""

    def run(params, source_BS):
        variables = {"params": params}
        memory_BSD = model.apply(variables, source_BS, method="encode")
        return model.apply(variables, memory_BSD, source_BS, num_beams, T, method="start_cache")

    return jax.jit(run)(params, source_BS)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"residual": pre_norm, "positions": Learned, "max_length": S},
        {"attend": "tempered", "vocab_multiple": 8, "attention_bias": True},
        {"attention_window": 3},
    ],
    ids=["post-norm, sinusoidal", "pre-norm, learned", "attention of one's own", "window"],
)
def test_cached_equals_uncached(make_model, params_of, apply, sentences, tempered, changes):
    if "attend" in changes:
        changes = {**changes, "attend": tempered}
    model = make_model(**changes)
    params = params_of(model)
    source_BS = sentences(SOURCE_LENGTHS, S)
    cache = start(model, params, source_BS)
    rng = np.random.default_rng(0)
    # What each hypothesis has read so far, as plain rows.
    past_BMT = np.zeros((B, M, T), np.int32)
    token_BM = np.full((B, M), BOS, np.int32)
    for t in range(T):
        past_BMT[:, :, t] = token_BM
        logits_BMW, cache = apply(model, params, token_BM, cache, method="decode_step")
        expected_NTW = apply(
            model, params, np.repeat(source_BS, M, axis=0), past_BMT.reshape(B * M, T)
        )
        expected_BMW = np.asarray(expected_NTW)[:, t].reshape(B, M, -1)
        np.testing.assert_allclose(logits_BMW, expected_BMW, rtol=0, atol=1e-4)
        # Some hypotheses have two heirs, others none.
        beam_BM = rng.integers(0, M, (B, M))
        past_BMT = np.take_along_axis(past_BMT, beam_BM[:, :, None], axis=1)
        cache = jax.jit(reorder)(cache, beam_BM)
        token_BM = rng.integers(4, model.vocab_size, (B, M)).astype(np.int32)


def test_the_cache_holds_the_sources_keys_once_a_sentence(make_model, params_of, sentences):
    model = make_model()
    cache = start(model, params_of(model), sentences(SOURCE_LENGTHS, S))
    for layer in cache.layers:
        assert layer.key_BPMHK.shape == (B, T, M, 2, 7)
        assert layer.value_BPMHV.shape == (B, T, M, 2, 11)
        assert layer.memory_key_BSHK.shape == (B, S, 2, 7)
        assert layer.memory_value_BSHV.shape == (B, S, 2, 11)


def test_under_a_window_only_its_keys_are_read(make_model, params_of, apply, sentences):
    seen = []

    def attend(query_BTHK, key_BSHK, *others):
        seen.append((query_BTHK.shape[1], key_BSHK.shape[1]))
        return dot_product_attention(query_BTHK, key_BSHK, *others)

    model = make_model(attend=attend, attention_window=3)
    params = params_of(model)
    cache = start(model, params, sentences(SOURCE_LENGTHS, S))
    seen.clear()
    apply(model, params, np.full((B, M), BOS, np.int32), cache, method="decode_step")
    # The hypotheses' places in the window, and all of the source, in each of two layers.
    assert seen == [(M, 3 * M), (M, S)] * 2


def test_reordering_moves_neither_keys_nor_values(make_model, params_of, sentences):
    model = make_model()
    cache = start(model, params_of(model), sentences(SOURCE_LENGTHS, S))
    assert reorder(cache, jnp.zeros((B, M), jnp.int32)).layers is cache.layers


def test_a_source_of_padding_is_finite(make_model, params_of, apply, sentences):
    model = make_model()
    params = params_of(model)
    cache = start(model, params, sentences([0, 0], S))
    token_BM = np.full((B, M), BOS, np.int32)
    logits_BMW, _ = apply(model, params, token_BM, cache, method="decode_step")
    assert np.isfinite(logits_BMW).all()
