"""Label-smoothed cross-entropy as sums over tokens (section 5.4)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.model.embedding import mask_padded_rows
from jaxformer.model.tokens import PAD

CHUNK_TOKENS = 256
"""Tokens whose logits are there at a time, if nothing else is asked for."""


def tokens_at_a_time(platform: str) -> int:
    """Returns how many tokens' logits the loss should have at a time on a device.

    A CPU is fastest where they fit into its cache. An accelerator reads and writes the table's
    gradient once for each chunk, which is most of the loss's traffic if chunks are small.

    Args:
      platform: as of `jax.Device`: "cpu", "gpu", "tpu".
    """
    return CHUNK_TOKENS if platform == "cpu" else 2048


class LossSums(NamedTuple):
    """Sums over the real target tokens of a batch; divide by `tokens` for means.

    Attributes:
      loss: smoothed cross-entropy, nats.
      nll: unsmoothed negative log-likelihood, nats; exp(nll / tokens) is the perplexity.
      correct: tokens whose largest logit is their own.
      tokens: how many there are, EOS included.
    """

    loss: jax.Array
    nll: jax.Array
    correct: jax.Array
    tokens: jax.Array


def cross_entropy_sums(
    logits_BTW: jax.Array,
    target_BT: jax.Array,
    label_smoothing: jax.Array | float,
    vocab_size: int,
) -> LossSums:
    """Cross-entropy against targets smoothed evenly over the vocabulary, without one-hot targets.

    With smoothing e the target distribution is (1 - e) on the token plus e / vocab_size on every
    word piece, so the loss is (1 - e) nll + e mean(-log p). PAD in target_BT counts for nothing.

    Args:
      logits_BTW: float32; W may exceed vocab_size by padded rows, which enter neither mean nor sum
        (their logits must be far below all others, as the model gives them).
      label_smoothing: e in [0, 1); may be traced.
      vocab_size: real word pieces.
    """
    logits_BTW = logits_BTW.astype(jnp.float32)
    log_normaliser_BT = jax.nn.logsumexp(logits_BTW, axis=-1)
    own_logit_BT = jnp.take_along_axis(logits_BTW, target_BT[..., None], axis=-1)[..., 0]
    mean_logit_BT = _mean_over_real(logits_BTW, vocab_size)[..., 0]
    nll_BT = log_normaliser_BT - own_logit_BT
    uniform_BT = log_normaliser_BT - mean_logit_BT
    loss_BT = (1.0 - label_smoothing) * nll_BT + label_smoothing * uniform_BT
    real_BT = target_BT != PAD
    correct_BT = own_logit_BT >= jnp.max(logits_BTW, axis=-1)

    def total(value_BT: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(real_BT, value_BT, 0.0))

    return LossSums(
        loss=total(loss_BT),
        nll=total(nll_BT),
        correct=total(correct_BT.astype(jnp.float32)),
        tokens=jnp.sum(real_BT).astype(jnp.float32),
    )


class _Chunk(NamedTuple):
    """Some columns of a batch, flattened to N = B * columns tokens."""

    hidden_ND: jax.Array
    target_N: jax.Array


def projected_cross_entropy_sums(
    hidden_BTD: jax.Array,
    table_WD: jax.Array,
    target_BT: jax.Array,
    label_smoothing: jax.Array | float,
    vocab_size: int,
    chunk_tokens: int = CHUNK_TOKENS,
    product_dtype: Any = None,
) -> LossSums:
    """`cross_entropy_sums` of the logits hidden_BTD table_WD^T, which never exist as a whole.

    Columns of the batch are worked off in chunks of about `chunk_tokens` tokens (never less than
    one column, so that rows stay on their devices). Where the gradient is asked for, each chunk's
    is computed while its logits are at hand: three matrix products in all, and memory for one
    chunk. The products' operands are rounded to product_dtype, or hidden_BTD's type where that is
    None, and their sums are float32.

    Only `loss` has a gradient, with respect to hidden_BTD and table_WD.
    """
    label_smoothing = jnp.asarray(label_smoothing, jnp.float32)
    dtype = jnp.dtype(product_dtype or hidden_BTD.dtype)
    return _projected_sums(
        hidden_BTD, table_WD, target_BT, label_smoothing, vocab_size, chunk_tokens, dtype
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _projected_sums(
    hidden_BTD: jax.Array,
    table_WD: jax.Array,
    target_BT: jax.Array,
    label_smoothing: jax.Array,
    vocab_size: int,
    chunk_tokens: int,
    dtype: Any,
) -> LossSums:
    table_WD = table_WD.astype(dtype)

    def add_chunk(total: LossSums, chunk: _Chunk) -> tuple[LossSums, None]:
        logits_NW = _chunk_logits(chunk, table_WD, vocab_size)
        sums = cross_entropy_sums(
            logits_NW[None], chunk.target_N[None], label_smoothing, vocab_size
        )
        return LossSums(*map(jnp.add, total, sums)), None

    chunks = _split_columns(hidden_BTD, target_BT, chunk_tokens)
    return jax.lax.scan(add_chunk, _zero_sums(), chunks)[0]


def _projected_sums_forward(
    hidden_BTD: jax.Array,
    table_WD: jax.Array,
    target_BT: jax.Array,
    label_smoothing: jax.Array,
    vocab_size: int,
    chunk_tokens: int,
    dtype: Any,
) -> tuple[LossSums, tuple[jax.Array, jax.Array]]:
    cast_table_WD = table_WD.astype(dtype)
    # The mean of a token's logits is its product with the mean of the rows.
    mean_row_D = jnp.sum(cast_table_WD[:vocab_size].astype(jnp.float32), axis=0) / vocab_size

    def add_chunk(
        carry: tuple[LossSums, jax.Array], chunk_and_transposed: tuple[_Chunk, jax.Array]
    ) -> tuple[tuple[LossSums, jax.Array], jax.Array]:
        total, table_gradient_DW = carry
        chunk, hidden_DN = chunk_and_transposed
        logits_NW = _chunk_logits(chunk, cast_table_WD, vocab_size)
        real_N = (chunk.target_N != PAD).astype(jnp.float32)
        max_N = jnp.max(logits_NW, axis=-1)
        # Rounded before the sum, so that the gradient's softmax sums to 1.
        exp_NW = jnp.exp(logits_NW - max_N[:, None]).astype(dtype)
        sum_N = jnp.sum(exp_NW, axis=-1, dtype=jnp.float32)
        own_N = jnp.take_along_axis(logits_NW, chunk.target_N[:, None], axis=-1)[:, 0]
        mean_N = chunk.hidden_ND.astype(jnp.float32) @ mean_row_D
        nll_N = jnp.log(sum_N) + max_N - own_N
        loss_N = nll_N + label_smoothing * (own_N - mean_N)
        sums = LossSums(
            loss=jnp.sum(loss_N * real_N),
            nll=jnp.sum(nll_N * real_N),
            correct=jnp.sum((own_N >= max_N) * real_N),
            tokens=jnp.sum(real_N),
        )
        # d loss / d logits is softmax minus the smoothed target. This is the softmax's part; its
        # division by the sum is done to the smaller operand or result.
        weight_N = real_N / sum_N
        hidden_gradient_ND = weight_N[:, None] * jnp.dot(
            exp_NW, cast_table_WD, preferred_element_type=jnp.float32
        )
        weighted_DN = (hidden_DN.astype(jnp.float32) * weight_N).astype(dtype)
        table_gradient_DW = table_gradient_DW + jnp.dot(
            weighted_DN.astype(outer_dtype),
            exp_NW.astype(outer_dtype),
            preferred_element_type=jnp.float32,
        )
        carry = (LossSums(*map(jnp.add, total, sums)), table_gradient_DW)
        return carry, hidden_gradient_ND

    chunks = _split_columns(hidden_BTD, target_BT, chunk_tokens)
    # Laid out as the product wants it: XLA would merge a transposition with the product, for which
    # it has no fast kernel on CPUs.
    hidden_CDN = chunks.hidden_ND.swapaxes(1, 2)
    # XLA undoes a loop over a single chunk, and with it the layout; what is left has no kernel for
    # bfloat16 on CPUs.
    outer_dtype = dtype if hidden_CDN.shape[0] > 1 else jnp.float32
    zeros_DW = jnp.zeros(table_WD.shape[::-1], jnp.float32)
    (sums, table_gradient_DW), hidden_gradient_CND = jax.lax.scan(
        add_chunk, (_zero_sums(), zeros_DW), (chunks, hidden_CDN)
    )
    batch, length, width = hidden_BTD.shape
    hidden_gradient_BTD = (
        hidden_gradient_CND.reshape(hidden_gradient_CND.shape[0], batch, -1, width)
        .swapaxes(0, 1)
        .reshape(batch, -1, width)[:, :length]
    )
    # The smoothed target's part needs no logits.
    real_BT1 = (target_BT != PAD).astype(jnp.float32)[..., None]
    own_row_BTD = jnp.take(cast_table_WD, target_BT, axis=0).astype(jnp.float32)
    hidden_gradient_BTD -= real_BT1 * (
        (1.0 - label_smoothing) * own_row_BTD + label_smoothing * mean_row_D
    )
    real_hidden_BTD = real_BT1 * hidden_BTD.astype(jnp.float32)
    even_D = label_smoothing / vocab_size * jnp.sum(real_hidden_BTD, axis=(0, 1))
    is_real_W1 = (jnp.arange(table_WD.shape[0]) < vocab_size)[:, None]
    table_gradient_WD = table_gradient_DW.T - jnp.where(is_real_W1, even_D, 0.0)
    table_gradient_WD = table_gradient_WD.at[target_BT].add(
        (label_smoothing - 1.0) * real_hidden_BTD
    )
    return sums, (hidden_gradient_BTD.astype(hidden_BTD.dtype), table_gradient_WD)


def _projected_sums_backward(
    vocab_size: int,
    chunk_tokens: int,
    dtype: Any,
    gradients: tuple[jax.Array, jax.Array],
    cotangent: LossSums,
) -> tuple[Any, Any, None, None]:
    hidden_gradient_BTD, table_gradient_WD = gradients
    scale = cotangent.loss
    return (
        hidden_gradient_BTD * scale.astype(hidden_gradient_BTD.dtype),
        table_gradient_WD * scale,
        None,
        None,
    )


_projected_sums.defvjp(_projected_sums_forward, _projected_sums_backward)


def _split_columns(hidden_BTD: jax.Array, target_BT: jax.Array, chunk_tokens: int) -> _Chunk:
    """Returns all chunks, stacked; the last is filled up with PAD."""
    batch, length, width = hidden_BTD.shape
    most = min(length, max(1, chunk_tokens // batch))
    # Chunks as even as can be, or most of the last might be filling.
    columns = -(-length // -(-length // most))
    fill = -length % columns
    hidden_BTD = jnp.pad(hidden_BTD, ((0, 0), (0, fill), (0, 0)))
    target_BT = jnp.pad(target_BT, ((0, 0), (0, fill)), constant_values=PAD)
    chunks = (length + fill) // columns

    def stack(array: jax.Array, *rest: int) -> jax.Array:
        columns_first = array.reshape(batch, chunks, columns, *rest).swapaxes(0, 1)
        return columns_first.reshape(chunks, batch * columns, *rest)

    return _Chunk(stack(hidden_BTD, width), stack(target_BT))


def _chunk_logits(chunk: _Chunk, table_WD: jax.Array, vocab_size: int) -> jax.Array:
    logits_NW = jnp.einsum(
        "nd,wd->nw",
        chunk.hidden_ND.astype(table_WD.dtype),
        table_WD,
        preferred_element_type=jnp.float32,
    )
    return mask_padded_rows(logits_NW, vocab_size)


def _mean_over_real(logits_NW: jax.Array, vocab_size: int) -> jax.Array:
    if logits_NW.shape[-1] > vocab_size:
        is_real_W = jnp.arange(logits_NW.shape[-1]) < vocab_size
        logits_NW = jnp.where(is_real_W, logits_NW, 0.0)
    return jnp.sum(logits_NW, axis=-1, keepdims=True) / vocab_size


def _zero_sums() -> LossSums:
    return LossSums(*(jnp.zeros(()) for _ in LossSums._fields))
