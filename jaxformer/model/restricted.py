"""Self-attention restricted to a neighbourhood (section 4), without an array of all links."""

import jax
import jax.numpy as jnp

from jaxformer.model.attention import dot_product_attention
from jaxformer.model.masks import Mask, Positions

# Products of smaller blocks take longer than the links that they save.
_LEAST_BLOCK = 8


def restricted_attention(
    query_BTHK: jax.Array,
    key_BSHK: jax.Array,
    value_BSHV: jax.Array,
    mask: Mask,
    positions: Positions,
) -> tuple[jax.Array, None]:
    """Eq. 1 within `mask.window`, in time and memory O(r n d) as in Table 1, r = 2 window - 1.

    A row is cut into blocks of window - 1 positions. The queries of a block are laid beside the
    keys of their own block and of its neighbours, among which the mask chooses. This takes T equal
    to S to mean self-attention: query and key of an index are one token, and within a sentence the
    positions count up by one.

    Where there is no such row, or its dense matrix is not larger, this is dense attention: without
    a window, as over the encoder's output; with fewer queries than keys, as in decoding, where the
    cache gives the keys of the window only; with `allowed_BTS`, which is such a matrix already.

    Returns: (out_BTHV, None), equal to dense attention's to rounding; where a query has no legal
      link its output is finite, and another one.
    """
    batch, length = query_BTHK.shape[:2]
    block = max((mask.window or 0) - 1, _LEAST_BLOCK)
    is_row = key_BSHK.shape[1] == length and mask.allowed_BTS is None
    neighbours = 2 if mask.causal else 3
    if mask.window is None or not is_row or length <= neighbours * block:
        out_BTHV, _ = dot_product_attention(query_BTHK, key_BSHK, value_BSHV, mask, positions)
        return out_BTHV, None

    count = -(-length // block)

    def cut(x: jax.Array) -> jax.Array:
        """Cuts (B, T, ...) into (B, count, block, ...), zeros in the end."""
        x = jnp.broadcast_to(x, (batch, *x.shape[1:]))
        x = _pad(x, 0, count * block - length)
        return x.reshape(batch, count, block, *x.shape[2:])

    def own(x: jax.Array) -> jax.Array:
        """Returns every block of (B, T, ...) as a row."""
        return cut(x).reshape(batch * count, block, *x.shape[2:])

    def around(x: jax.Array) -> jax.Array:
        """Returns every block of (B, S, ...) between its neighbours as a row."""
        blocks = _pad(cut(x), 1, neighbours - 2)
        beside = [blocks[:, shift : shift + count] for shift in range(neighbours)]
        rows = jnp.concatenate(beside, axis=2)
        return rows.reshape(batch * count, neighbours * block, *x.shape[2:])

    valid_BS = mask.key_valid_BS
    if valid_BS is None:
        valid_BS = jnp.ones((1, length), bool)
    out_BTHV, _ = dot_product_attention(
        own(query_BTHK),
        around(key_BSHK),
        around(value_BSHV),
        Mask(
            # What the ends of the row were filled up with is no key.
            key_valid_BS=around(valid_BS),
            # None stays None.
            query_segment_BT=jax.tree.map(own, mask.query_segment_BT),
            key_segment_BS=jax.tree.map(around, mask.key_segment_BS),
            causal=mask.causal,
            window=mask.window,
        ),
        Positions(own(positions.query_BT), around(positions.key_BS)),
    )
    return out_BTHV.reshape(batch, count * block, *out_BTHV.shape[2:])[:, :length], None


def _pad(x: jax.Array, before: int, after: int) -> jax.Array:
    """Adds zeros along axis 1."""
    return jnp.pad(x, [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))
