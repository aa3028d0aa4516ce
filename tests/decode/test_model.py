"""Decoding with the Transformer's own cache, against reading the whole output at every step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.decode import beam_search, sample
from jaxformer.model import BOS, EOS, Transformer, grow, reorder, shift_right

B, S, T, W = 3, 7, 11, 29
LIMITS = jnp.array([10, 4, 7])

MODEL = Transformer(
    vocab_size=W,
    d_model=16,
    d_ff=23,
    num_heads=2,
    d_k=5,
    d_v=3,
    num_encoder_layers=1,
    num_decoder_layers=2,
    vocab_multiple=8,
)


@pytest.fixture(scope="module")
def sentences():
    rng = np.random.default_rng(0)
    source_BS = rng.integers(4, W, size=(B, S))
    source_BS[:, -1] = EOS
    source_BS[1, 4:] = [EOS, 0, 0]
    source_BS = jnp.asarray(source_BS, jnp.int32)
    params = MODEL.init(jax.random.key(0), source_BS, source_BS)
    # Larger than at the start of training, so that the past matters.
    return jax.tree.map(lambda x: x * 2.5, params), source_BS


def cached(params, source_BS, beams):
    """The Transformer's step, how its cache is reordered, and the cache."""
    memory_BSD = MODEL.apply(params, source_BS, method="encode")
    cache = MODEL.apply(params, memory_BSD, source_BS, beams, T, method="start_cache")
    return partial(MODEL.apply, params, method="decode_step"), reorder, cache


def uncached(params, source_BS, beams):
    """Likewise, with a cache of nothing but the tokens so far."""

    def step(token_BM, cache):
        past_BMT, time = cache
        past_BMT = past_BMT.at[:, :, time].set(token_BM)
        read = partial(MODEL.apply, params, source_BS)
        logits_BMTW = jax.vmap(read, in_axes=1, out_axes=1)(past_BMT)
        return logits_BMTW[:, :, time], (past_BMT, time + 1)

    def gather(cache, beam_BM):
        past_BMT, time = cache
        return jnp.take_along_axis(past_BMT, beam_BM[..., None], axis=1), time

    return step, gather, (jnp.full((B, beams, T), BOS), 0)


def test_beam_search_with_and_without_cache(sentences):
    def run(make, params, source_BS):
        step, reorder_cache, cache = make(params, source_BS, 5)
        return beam_search(step, reorder_cache, cache, LIMITS, num_beams=5, max_length=T)

    one, other = (jax.jit(partial(run, make))(*sentences) for make in (cached, uncached))
    np.testing.assert_array_equal(one.token_BMT, other.token_BMT)
    np.testing.assert_allclose(one.score_BM, other.score_BM, rtol=1e-4)
    assert np.all(np.isfinite(one.score_BM))
    assert np.all(np.asarray(one.token_BMT) < W)

    # Room that is given when it is needed changes nothing.
    def run_in_rooms(rooms, params, source_BS):
        step, reorder_cache, _ = cached(params, source_BS, 5)
        memory_BSD = MODEL.apply(params, source_BS, method="encode")
        cache = MODEL.apply(params, memory_BSD, source_BS, 5, rooms[0], method="start_cache")
        return beam_search(
            *(step, reorder_cache, cache, LIMITS),
            num_beams=5, max_length=T, grow=grow, rooms=rooms,
        )  # fmt: skip

    grown = jax.jit(partial(run_in_rooms, (1, 4, T)))(*sentences)
    np.testing.assert_array_equal(grown.token_BMT, one.token_BMT)
    np.testing.assert_allclose(grown.score_BM, one.score_BM, rtol=1e-5)

    # Teacher-forced, the outputs have the log probability that the search found.
    params, source_BS = sentences
    for m in range(5):
        target_BT = one.token_BMT[:, m]
        log_prob_BTW = jax.nn.log_softmax(MODEL.apply(params, source_BS, shift_right(target_BT)))
        own_BT = jnp.take_along_axis(log_prob_BTW, target_BT[..., None], axis=2)[..., 0]
        total_B = jnp.sum(jnp.where(jnp.arange(T) < one.length_BM[:, m, None], own_BT, 0.0), axis=1)
        np.testing.assert_allclose(total_B, one.log_prob_BM[:, m], rtol=1e-4)


def test_sampling_with_and_without_cache(sentences):
    def run(make, params, source_BS):
        step, _, cache = make(params, source_BS, 5)
        key, row_B = jax.random.key(0), jnp.arange(B)
        return sample(step, cache, LIMITS, key, max_length=T, row_B=row_B, num_samples=5, top_k=11)

    one, other = (jax.jit(partial(run, make))(*sentences) for make in (cached, uncached))
    np.testing.assert_array_equal(one.token_BMT, other.token_BMT)
    np.testing.assert_allclose(one.score_BM, other.score_BM, rtol=1e-4)
