"""The one matrix of section 3.4, and the rows that pad it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model.embedding import MASKED_LOGIT, SharedEmbedding

B, T, D, W, ROWS = 5, 13, 17, 41, 48
TOKEN_BT = np.random.default_rng(0).integers(0, W, (B, T)).astype(np.int32)
HIDDEN_BTD = np.random.default_rng(1).normal(size=(B, T, D)).astype(np.float32)


@pytest.fixture
def module():
    return SharedEmbedding(W, D, vocab_multiple=16)


@pytest.fixture
def table_WD():
    """Rows that pad are not zero here, as they would be if something trained them."""
    return np.random.default_rng(2).normal(size=(ROWS, D)).astype(np.float32)


def test_embeddings_are_scaled_by_the_root_of_the_width(apply, module, table_WD):
    embedding_BTD = apply(module, {"table": table_WD}, TOKEN_BT, method="embed")
    np.testing.assert_allclose(embedding_BTD, table_WD[TOKEN_BT] * math.sqrt(D), rtol=1e-6)


def test_embeddings_that_are_not_scaled_are_rows(apply, table_WD):
    module = SharedEmbedding(ROWS, D, is_scaled=False)
    embedding_BTD = apply(module, {"table": table_WD}, TOKEN_BT, method="embed")
    np.testing.assert_array_equal(embedding_BTD, table_WD[TOKEN_BT])


def test_logits_are_products_with_the_same_rows(apply, module, table_WD):
    logits_BTW = apply(module, {"table": table_WD}, HIDDEN_BTD, method="logits")
    assert logits_BTW.shape == (B, T, ROWS)
    expected_BTW = HIDDEN_BTD @ table_WD[:W].T
    np.testing.assert_allclose(logits_BTW[..., :W], expected_BTW, rtol=0, atol=1e-5)


def test_rows_that_pad_have_a_logit_that_no_softmax_sees(apply, module, table_WD):
    logits_BTW = apply(module, {"table": table_WD}, HIDDEN_BTD, method="logits")
    np.testing.assert_array_equal(logits_BTW[..., W:], MASKED_LOGIT)
    assert not np.any(jax.nn.softmax(logits_BTW)[..., W:])


def test_rows_that_pad_have_no_gradient(module, table_WD):
    @jax.jit
    @jax.grad
    def gradient(table_WD):
        def total(module):
            logits_BTW = module.logits(HIDDEN_BTD + module.embed(TOKEN_BT))
            return jnp.sum(jax.nn.logsumexp(logits_BTW, axis=-1))

        return module.apply({"params": {"table": table_WD}}, method=total)

    gradient_WD = gradient(table_WD)
    assert np.all(np.any(gradient_WD[:W], axis=1))
    assert not np.any(gradient_WD[W:])


def test_rows_that_pad_change_no_bit_of_the_initial_ones():
    def initial_table(vocab_multiple):
        module = SharedEmbedding(W, D, vocab_multiple)
        return module.init(jax.random.key(0), TOKEN_BT, method="embed")["params"]["table"]

    padded_WD = initial_table(16)
    assert padded_WD.shape == (ROWS, D)
    np.testing.assert_array_equal(padded_WD[:W], initial_table(1))
    assert not np.any(padded_WD[W:])


def test_logits_are_float32_under_bfloat16(apply, table_WD):
    module = SharedEmbedding(W, D, dtype=jnp.bfloat16)
    embedding_BTD = apply(module, {"table": table_WD[:W]}, TOKEN_BT, method="embed")
    logits_BTW = apply(module, {"table": table_WD[:W]}, HIDDEN_BTD, method="logits")
    assert (embedding_BTD.dtype, logits_BTW.dtype) == (jnp.bfloat16, jnp.float32)
    # Operands are rounded, their products are not.
    hidden_BTD, table_WD = (
        np.asarray(jnp.asarray(x, jnp.bfloat16).astype(jnp.float32))
        for x in (HIDDEN_BTD, table_WD[:W])
    )
    np.testing.assert_allclose(logits_BTW, hidden_BTD @ table_WD.T, rtol=0, atol=1e-5)
