"""Attention by a TPU's kernel, which keeps the scores within the processor (section 3.2.1)."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.model.attention import by_row_and_head, dot_product_attention
from jaxformer.model.masks import Mask, Positions

# The kernel works on tiles of so many positions at least, and at most.
_TILE = 128
_LARGEST_TILE = 512

# Of keys and of queries that a link may not have; other segments are numbered from 0.
_NO_KEY, _NO_QUERY = -1, -2


@by_row_and_head
def splash_attention(
    query_BTHK: jax.Array,
    key_BSHK: jax.Array,
    value_BSHV: jax.Array,
    mask: Mask,
    positions: Positions,
) -> tuple[jax.Array, None]:
    """Eq. 1 on a TPU by the kernel that comes with jax, elsewhere by `dot_product_attention`.

    The kernel (jax.experimental.pallas.ops.tpu.splash_attention) works off tiles of queries and
    keys, and what is written to memory is the output and a number for each query, not the scores:
    arrays of B x H x T x S are most of what a training step moves otherwise. Rows are filled up to
    whole tiles. The mask's facts are read as they are. As `restricted_attention` does, this takes T
    equal to S under `causal` or `window` to mean self-attention: query and key of an index are one
    token, and within a sentence the positions count up by one.

    Dense attention too, on any device: fewer queries than half a tile, as in decoding; `causal` or
    `window` over another number of keys than of queries; `allowed_BTS`.

    Returns: (out_BTHV, None), equal to dense attention's to rounding; where a query has no legal
      link its output is finite, and another one.
    """
    length, num_keys = query_BTHK.shape[1], key_BSHK.shape[1]
    is_row = length == num_keys or not (mask.causal or mask.window)
    arguments = query_BTHK, key_BSHK, value_BSHV, mask, positions
    if mask.allowed_BTS is not None or not is_row or 2 * length < _TILE:
        return dot_product_attention(*arguments)[0], None
    out_BTHV = jax.lax.platform_dependent(
        *arguments,
        tpu=lambda *arguments: attend_by_kernel(*arguments[:-1]),
        default=lambda *arguments: dot_product_attention(*arguments)[0],
    )
    return out_BTHV, None


def attend_by_kernel(
    query_BTHK: jax.Array,
    key_BSHK: jax.Array,
    value_BSHV: jax.Array,
    mask: Mask,
    interpret: bool = False,
) -> jax.Array:
    """Returns out_BTHV of the kernel alone.

    Args:
      interpret: run it by jax's interpreter, on any device, slowly.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

    batch, length, num_heads, d_k = query_BTHK.shape
    num_keys = key_BSHK.shape[1]
    query_tile, key_tile = _tile(length), _tile(num_keys)
    query_fill, key_fill = -length % query_tile, -num_keys % key_tile
    attend = splash.make_splash_mha_single_device(
        _links(mask, length + query_fill, num_keys + key_fill, num_heads),
        block_sizes=splash.BlockSizes(
            block_q=query_tile,
            block_kv=key_tile,
            block_q_dkv=query_tile,
            block_kv_dkv=key_tile,
            block_q_dq=query_tile,
            block_kv_dq=key_tile,
        ),
        interpret=interpret,
    )
    query_segment_BT, key_segment_BS = _segments(mask, batch, length, num_keys)
    fill = ((0, 0), (0, query_fill)), ((0, 0), (0, key_fill))
    segments = splash.SegmentIds(
        jnp.pad(query_segment_BT, fill[0], constant_values=_NO_QUERY),
        jnp.pad(key_segment_BS, fill[1], constant_values=_NO_KEY),
    )
    out_BHTV = jax.vmap(lambda query, key, value, ids: attend(query, key, value, segment_ids=ids))(
        _heads_first(query_BTHK / math.sqrt(d_k), query_fill),
        _heads_first(key_BSHK, key_fill),
        _heads_first(value_BSHV, key_fill),
        segments,
    )
    return out_BHTV.swapaxes(1, 2)[:, :length]


def _tile(length: int) -> int:
    """Returns the largest tile that leaves as little to fill up as the smallest does."""
    tiles = -(-length // _TILE)
    most = _LARGEST_TILE // _TILE
    return _TILE * max(size for size in range(1, most + 1) if tiles % size == 0)


def _links(mask: Mask, length: int, num_keys: int, num_heads: int) -> Any:
    """Returns the kernel's mask of what does not depend on the batch."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    if not (mask.causal or mask.window):
        links = masks.FullMask((length, num_keys))
    else:
        behind = mask.window - 1 if mask.window else None
        ahead = 0 if mask.causal else behind
        links = masks.LocalMask((length, num_keys), (behind, ahead), offset=0)
    return masks.MultiHeadMask([links] * num_heads)


def _segments(mask: Mask, batch: int, length: int, num_keys: int) -> tuple[jax.Array, jax.Array]:
    """Returns (query_segment_BT, key_segment_BS), a link being legal where they are equal."""
    query_segment_BT = jnp.zeros((batch, length), jnp.int32)
    key_segment_BS = jnp.zeros((batch, num_keys), jnp.int32)
    if mask.query_segment_BT is not None and mask.key_segment_BS is not None:
        query_segment_BT = query_segment_BT + mask.query_segment_BT
        key_segment_BS = key_segment_BS + mask.key_segment_BS
    if mask.key_valid_BS is not None:
        key_segment_BS = jnp.where(mask.key_valid_BS, key_segment_BS, _NO_KEY)
    return query_segment_BT, key_segment_BS


def _heads_first(x_BTHK: jax.Array, fill: int) -> jax.Array:
    return jnp.pad(x_BTHK.swapaxes(1, 2), ((0, 0), (0, 0), (0, fill), (0, 0)))
