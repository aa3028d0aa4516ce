"""Label-smoothed cross-entropy against one-hot targets in NumPy; its chunked form against it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.loss import (
    _split_columns,
    cross_entropy_sums,
    projected_cross_entropy_sums,
    tokens_at_a_time,
)
from jaxformer.model import PAD
from jaxformer.model.embedding import mask_padded_rows
from tests.closeness import is_close

B, T, D, W, ROWS = 5, 13, 17, 41, 48
RNG = np.random.default_rng(0)
LOGITS_BTW = (3 * RNG.normal(size=(B, T, W))).astype(np.float32)
HIDDEN_BTD = RNG.normal(size=(B, T, D)).astype(np.float32)
TABLE_WD = RNG.normal(size=(ROWS, D)).astype(np.float32)
TARGET_BT = np.where(
    np.arange(T) < np.array([13, 2, 7, 0, 11])[:, None], RNG.integers(1, W, (B, T)), PAD
).astype(np.int32)
# Some tokens are the likeliest, of either kind of logits.
TARGET_BT[0, :5] = LOGITS_BTW[0, :5].argmax(axis=-1)
TARGET_BT[2, :5] = (HIDDEN_BTD[2, :5] @ TABLE_WD[:W].T).argmax(axis=-1)


def as_floats(sums):
    return {name: float(value) for name, value in sums._asdict().items()}


def reference(logits_BTW, target_BT, label_smoothing):
    """Sums of cross-entropy against smoothed one-hot targets, in float64."""
    logits_BTW = logits_BTW.astype(np.float64)
    log_p_BTW = logits_BTW - np.log(np.sum(np.exp(logits_BTW), axis=-1, keepdims=True))
    one_hot_BTW = np.eye(W)[target_BT]
    smooth_BTW = (1 - label_smoothing) * one_hot_BTW + label_smoothing / W
    is_real_BT = target_BT != PAD
    is_correct_BT = logits_BTW.argmax(axis=-1) == target_BT
    return {
        "loss": -np.sum((smooth_BTW * log_p_BTW)[is_real_BT]),
        "nll": -np.sum((one_hot_BTW * log_p_BTW)[is_real_BT]),
        "correct": np.sum(is_correct_BT[is_real_BT]),
        "tokens": np.sum(is_real_BT),
    }


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.4])
def test_sums_are_those_of_one_hot_targets(label_smoothing):
    sums = cross_entropy_sums(LOGITS_BTW, TARGET_BT, label_smoothing, W)
    expected = reference(LOGITS_BTW, TARGET_BT, label_smoothing)
    assert as_floats(sums) == pytest.approx(expected, rel=1e-5)
    assert 5 <= expected["correct"] < expected["tokens"]


def test_rows_that_pad_the_vocabulary_change_nothing():
    padding_BTW = np.zeros((B, T, ROWS - W), np.float32)
    padded_BTW = mask_padded_rows(np.concatenate([LOGITS_BTW, padding_BTW], axis=-1), W)
    padded = cross_entropy_sums(padded_BTW, TARGET_BT, 0.1, W)
    plain = cross_entropy_sums(LOGITS_BTW, TARGET_BT, 0.1, W)
    assert as_floats(padded) == pytest.approx(as_floats(plain), rel=1e-6)


def explicit(hidden_BTD, table_WD, label_smoothing, vocab_size):
    logits_BTW = jnp.einsum("btd,wd->btw", hidden_BTD, table_WD)
    logits_BTW = mask_padded_rows(logits_BTW, vocab_size)
    return cross_entropy_sums(logits_BTW, TARGET_BT, label_smoothing, vocab_size)


@functools.partial(jax.jit, static_argnames=("vocab_size", "chunk_tokens"))
def projected(hidden_BTD, table_WD, label_smoothing, vocab_size, chunk_tokens):
    return projected_cross_entropy_sums(
        hidden_BTD, table_WD, TARGET_BT, label_smoothing, vocab_size, chunk_tokens
    )


@functools.partial(jax.jit, static_argnames=("function", "vocab_size", "chunk_tokens"))
def differentiated(function, hidden_BTD, label_smoothing, vocab_size, **static):
    """Returns the sums, and the gradients with respect to hidden states and table."""

    def run(hidden_BTD, table_WD):
        sums = function(hidden_BTD, table_WD, label_smoothing, vocab_size, **static)
        # A loss is scaled on its way to the gradient.
        return 0.3 * sums.loss, sums

    gradients, sums = jax.grad(run, (0, 1), has_aux=True)(hidden_BTD, jnp.asarray(TABLE_WD))
    return sums, gradients


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("vocab_size", [W, ROWS])
# Less than a column; three columns and a remainder; all of them.
@pytest.mark.parametrize("chunk_tokens", [1, 3 * B + 1, 256])
def test_the_projected_loss_is_that_of_explicit_logits(label_smoothing, vocab_size, chunk_tokens):
    expected_sums, expected_gradients = differentiated(
        explicit, HIDDEN_BTD, label_smoothing, vocab_size
    )
    arguments = label_smoothing, vocab_size
    sums, gradients = differentiated(projected, HIDDEN_BTD, *arguments, chunk_tokens=chunk_tokens)
    plain_sums = projected(HIDDEN_BTD, TABLE_WD, *arguments, chunk_tokens=chunk_tokens)
    assert expected_sums.correct >= 3
    assert as_floats(sums) == pytest.approx(as_floats(expected_sums), rel=1e-5)
    assert as_floats(plain_sums) == pytest.approx(as_floats(expected_sums), rel=1e-5)
    assert all(map(is_close, gradients, expected_gradients))


def test_rows_that_pad_the_vocabulary_have_no_gradient():
    _, (_, gradient_WD) = differentiated(projected, HIDDEN_BTD, 0.1, W, chunk_tokens=256)
    assert np.all(np.any(gradient_WD[:W], axis=1))
    assert not np.any(gradient_WD[W:])


def test_padding_has_no_gradient():
    _, (gradient_BTD, _) = differentiated(projected, HIDDEN_BTD, 0.1, W, chunk_tokens=256)
    np.testing.assert_array_equal(np.any(gradient_BTD, axis=-1), TARGET_BT != PAD)


def test_the_projected_loss_in_bfloat16_is_near_float32s():
    hidden_BTD = jnp.asarray(HIDDEN_BTD, jnp.bfloat16)
    expected_sums, expected_gradients = differentiated(explicit, HIDDEN_BTD, 0.1, W)
    sums, gradients = differentiated(projected, hidden_BTD, 0.1, W, chunk_tokens=16)
    assert {value.dtype for value in sums} == {np.dtype("float32")}
    assert [gradient.dtype for gradient in gradients] == [jnp.bfloat16, jnp.float32]
    assert float(sums.loss) == pytest.approx(float(expected_sums.loss), rel=0.01)
    # Operands are rounded, their products are not; nor is the loss, but for its normaliser where
    # the gradient is asked for.
    rounded_BTD = hidden_BTD.astype(jnp.float32)
    rounded_WD = jnp.asarray(TABLE_WD, jnp.bfloat16).astype(jnp.float32)
    rounded_sums = explicit(rounded_BTD, rounded_WD, 0.1, W)
    plain_sums = projected(hidden_BTD, TABLE_WD, 0.1, W, 16)
    assert as_floats(plain_sums) == pytest.approx(as_floats(rounded_sums), rel=1e-5)
    assert as_floats(sums) == pytest.approx(as_floats(rounded_sums), rel=1e-3)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert is_close(gradient, expected, tolerance=0.02)
        assert not is_close(gradient, expected)


# One chunk and several, of which XLA makes different programs.
@pytest.mark.parametrize("chunk_tokens", [2 * B, 256])
def test_products_of_float32_may_have_operands_in_bfloat16(chunk_tokens):
    product = functools.partial(
        projected_cross_entropy_sums,
        target_BT=TARGET_BT,
        label_smoothing=0.1,
        vocab_size=W,
        chunk_tokens=chunk_tokens,
        product_dtype=jnp.bfloat16,
    )
    _, expected_gradients = differentiated(explicit, HIDDEN_BTD, 0.1, W)
    differentiate = jax.jit(jax.grad(lambda h, t: 0.3 * product(h, t).loss, (0, 1)))
    gradients = differentiate(HIDDEN_BTD, TABLE_WD)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == jnp.float32
        assert is_close(gradient, expected, tolerance=0.02)
        assert not is_close(gradient, expected)


def test_a_batch_of_padding_sums_to_nothing():
    nothing_BT = np.full((B, T), PAD, np.int32)
    sums = cross_entropy_sums(LOGITS_BTW, nothing_BT, 0.1, W)
    assert list(sums) == [0.0] * 4
    sums = projected_cross_entropy_sums(HIDDEN_BTD, TABLE_WD, nothing_BT, 0.1, W)
    assert list(sums) == [0.0] * 4


@pytest.mark.parametrize(("rows", "length"), [(2, 160), (3, 512), (48, 512), (1, 7), (300, 5)])
def test_chunks_are_filled_up_by_less_than_a_column_each(rows, length):
    shapes = (
        jax.ShapeDtypeStruct((rows, length, 5), np.float32),
        jax.ShapeDtypeStruct((rows, length), np.int32),
    )
    chunks = jax.eval_shape(functools.partial(_split_columns, chunk_tokens=256), *shapes)
    number, tokens = chunks.target_N.shape
    assert tokens <= max(256, rows)
    assert rows * length <= number * tokens < rows * (length + number)


def test_an_accelerator_has_more_logits_at_a_time_than_a_cpu():
    assert tokens_at_a_time("tpu") == tokens_at_a_time("gpu") > tokens_at_a_time("cpu")
