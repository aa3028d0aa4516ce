"""Label-smoothed cross-entropy as sums over tokens (section 5.4)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.model.embedding import mask_padded_rows
from jaxformer.model.tokens import PAD


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
    chunk_tokens: int = 256,
) -> LossSums:
    """`cross_entropy_sums` of the logits hidden_BTD table_WD^T, which never exist as a whole.

    Columns of the batch are worked off in chunks of about `chunk_tokens` tokens (never less than
    one column, so that rows stay on their devices). Where the gradient is asked for, each chunk's
    is computed while its logits are at hand: three matrix products in all, and memory for one
    chunk. The products take hidden_BTD's type and give float32.

    Only `loss` has a gradient, with respect to hidden_BTD and table_WD.
    """
    label_smoothing = jnp.asarray(label_smoothing, jnp.float32)
    return _projected_sums(
        hidden_BTD, table_WD, target_BT, label_smoothing, vocab_size, chunk_tokens
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _projected_sums(
    hidden_BTD: jax.Array,
    table_WD: jax.Array,
    target_BT: jax.Array,
    label_smoothing: jax.Array,
    vocab_size: int,
    chunk_tokens: int,
) -> LossSums:
    table_WD = table_WD.astype(hidden_BTD.dtype)

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
) -> tuple[LossSums, tuple[jax.Array, jax.Array]]:
    dtype = hidden_BTD.dtype
    cast_table_WD = table_WD.astype(dtype)
    piece_W = jnp.arange(table_WD.shape[0])

    def add_chunk(
        carry: tuple[LossSums, jax.Array], chunk: _Chunk
    ) -> tuple[tuple[LossSums, jax.Array], jax.Array]:
        total, table_gradient_WD = carry
        logits_NW = _chunk_logits(chunk, cast_table_WD, vocab_size)
        real_N1 = (chunk.target_N != PAD).astype(jnp.float32)[:, None]
        max_N1 = jnp.max(logits_NW, axis=-1, keepdims=True)
        exp_NW = jnp.exp(logits_NW - max_N1)
        sum_N1 = jnp.sum(exp_NW, axis=-1, keepdims=True)
        is_own_NW = piece_W == chunk.target_N[:, None]
        own_N1 = jnp.take_along_axis(logits_NW, chunk.target_N[:, None], axis=-1)
        log_normaliser_N1 = jnp.log(sum_N1) + max_N1
        mean_N1 = _mean_over_real(logits_NW, vocab_size)
        nll_N1 = log_normaliser_N1 - own_N1
        loss_N1 = nll_N1 + label_smoothing * (own_N1 - mean_N1)
        sums = LossSums(
            loss=jnp.sum(loss_N1 * real_N1),
            nll=jnp.sum(nll_N1 * real_N1),
            correct=jnp.sum((own_N1 >= max_N1) * real_N1),
            tokens=jnp.sum(real_N1),
        )
        # d loss / d logits is softmax minus the smoothed target.
        even = label_smoothing / vocab_size
        if table_WD.shape[0] > vocab_size:
            even = jnp.where(piece_W < vocab_size, even, 0.0)
        gradient_NW = exp_NW * (real_N1 / sum_N1) - real_N1 * (
            even + jnp.where(is_own_NW, 1.0 - label_smoothing, 0.0)
        )
        gradient_NW = gradient_NW.astype(dtype)
        hidden_gradient_ND = jnp.dot(gradient_NW, cast_table_WD)
        table_gradient_WD = table_gradient_WD + jnp.einsum(
            "nw,nd->wd", gradient_NW, chunk.hidden_ND, preferred_element_type=jnp.float32
        )
        carry = (LossSums(*map(jnp.add, total, sums)), table_gradient_WD)
        return carry, hidden_gradient_ND

    chunks = _split_columns(hidden_BTD, target_BT, chunk_tokens)
    zeros_WD = jnp.zeros(table_WD.shape, jnp.float32)
    (sums, table_gradient_WD), hidden_gradient_CND = jax.lax.scan(
        add_chunk, (_zero_sums(), zeros_WD), chunks
    )
    batch, length, width = hidden_BTD.shape
    hidden_gradient_BTD = (
        hidden_gradient_CND.reshape(hidden_gradient_CND.shape[0], batch, -1, width)
        .swapaxes(0, 1)
        .reshape(batch, -1, width)[:, :length]
    )
    return sums, (hidden_gradient_BTD, table_gradient_WD)


def _projected_sums_backward(
    vocab_size: int,
    chunk_tokens: int,
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
        "nd,wd->nw", chunk.hidden_ND, table_WD, preferred_element_type=jnp.float32
    )
    return mask_padded_rows(logits_NW, vocab_size)


def _mean_over_real(logits_NW: jax.Array, vocab_size: int) -> jax.Array:
    if logits_NW.shape[-1] > vocab_size:
        is_real_W = jnp.arange(logits_NW.shape[-1]) < vocab_size
        logits_NW = jnp.where(is_real_W, logits_NW, 0.0)
    return jnp.sum(logits_NW, axis=-1, keepdims=True) / vocab_size


def _zero_sums() -> LossSums:
    return LossSums(*(jnp.zeros(()) for _ in LossSums._fields))
