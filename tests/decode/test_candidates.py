"""The blockwise search for the best continuations, against jax.lax.top_k over all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.decode.candidates import best_continuations, extend, log_normaliser

B, M = 5, 3

compiled = jax.jit(best_continuations, static_argnums=3)


def plain(logits_BMW, log_prob_BM, normaliser_BM, count):
    batch, _, vocab = logits_BMW.shape
    total_BMW = extend(log_prob_BM[..., None], logits_BMW, normaliser_BM[..., None])
    total_BC, index_BC = jax.lax.top_k(total_BMW.reshape(batch, -1), count)
    return total_BC, index_BC // vocab, index_BC % vocab


def ragged(rng, vocab):
    return rng.normal(size=(B, M, vocab)) * 3


def tied(rng, vocab):
    return rng.integers(0, 3, size=(B, M, vocab))


def mostly_impossible(rng, vocab):
    logits_BMW = np.full((B, M, vocab), -1e9)
    logits_BMW[..., rng.permutation(vocab)[:3]] = rng.integers(0, 2, size=(B, M, 3))
    return logits_BMW


# 97 is prime, so each of its blocks is one token; 640 has blocks of 64, fewer than 31 in all.
@pytest.mark.parametrize(
    ("vocab", "count"), [(7, 6), (7, 21), (60, 1), (97, 6), (640, 6), (640, 31), (1111, 22)]
)
@pytest.mark.parametrize("make", [ragged, tied, mostly_impossible])
def test_equals_plain_top_k_exactly(make, vocab, count):
    rng = np.random.default_rng(vocab + count)
    logits_BMW = jnp.asarray(make(rng, vocab), jnp.float32)
    # Equal ones, so that ties go across hypotheses too, and a dead one.
    log_prob_BM = jnp.asarray([[-1.0, -1.0, -1.0], [0.0, -np.inf, -np.inf]] * 2 + [[-2.0, -1, 0]])
    normaliser_BM = log_normaliser(logits_BMW)
    got = compiled(logits_BMW, log_prob_BM, normaliser_BM, count)
    want = plain(logits_BMW, log_prob_BM, normaliser_BM, count)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("vocab", [7, 97, 640])
def test_normaliser(vocab):
    logits_BMW = np.random.default_rng(vocab).normal(size=(B, M, vocab)).astype(np.float32) * 30
    want_BM = np.log(np.sum(np.exp(logits_BMW.astype(np.float64)), axis=-1))
    np.testing.assert_allclose(log_normaliser(jnp.asarray(logits_BMW)), want_BM, rtol=1e-6)


def test_normaliser_does_not_overflow():
    logits_BMW = jnp.full((1, 1, 7), 1e30)
    np.testing.assert_allclose(log_normaliser(logits_BMW), 1e30, rtol=1e-6)


def test_what_cannot_follow_has_no_probability():
    logits = jnp.array([0.0, -1e9, -jnp.inf, jnp.nan])
    assert extend(jnp.float32(-1.0), logits, jnp.float32(0.5)).tolist() == [-1.5, *[-np.inf] * 3]
    for logit in (-1e9, -np.inf):
        logits_BMW = jnp.full((1, 1, 7), logit)
        normaliser_BM = log_normaliser(logits_BMW)
        total_BMW = extend(jnp.zeros((1, 1, 1)), logits_BMW, normaliser_BM[..., None])
        assert np.all(total_BMW == -np.inf)


def test_a_token_never_raises_the_log_probability():
    logit = jnp.float32(3.0)
    # As rounding may have it, the normaliser is a little below the highest logit.
    assert extend(jnp.float32(-1.0), logit, logit - 1e-3) == -1.0
