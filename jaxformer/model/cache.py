"""The decoder's key/value cache: a pytree that goes in and comes out of every decoded position."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxformer.model.masks import Mask, Positions

# In `ancestor_BMP` where no position has been decoded yet: no hypothesis stands in this place.
NOT_DECODED = -1


class LayerCache(struct.PyTreeNode):
    """Keys and values of one layer.

    Self-attention's are kept for every position P of the output and every hypothesis M; those over
    the encoder's output once a sentence, because its hypotheses share them.
    """

    key_BPMHK: jax.Array
    value_BPMHV: jax.Array
    memory_key_BSHK: jax.Array
    memory_value_BSHV: jax.Array

    def write(self, key_BMHK: jax.Array, value_BMHV: jax.Array, length: jax.Array) -> "LayerCache":
        """Returns the cache with one more position, at index `length`."""
        start = (0, length, 0, 0, 0)
        return self.replace(
            key_BPMHK=jax.lax.dynamic_update_slice(self.key_BPMHK, key_BMHK[:, None], start),
            value_BPMHV=jax.lax.dynamic_update_slice(self.value_BPMHV, value_BMHV[:, None], start),
        )

    def keys_and_values(self, length: jax.Array, window: int | None) -> tuple[jax.Array, jax.Array]:
        """Returns every hypothesis' past side by side, (key_BSHK, value_BSHV) with S = P * M.

        With a window P are not all positions, but those that the query at `length` sees.
        """
        key_BPMHK = _seen(self.key_BPMHK, 1, length, window)
        value_BPMHV = _seen(self.value_BPMHV, 1, length, window)
        batch, positions, beams, heads, d_k = key_BPMHK.shape
        d_v = value_BPMHV.shape[-1]
        return (
            key_BPMHK.reshape(batch, positions * beams, heads, d_k),
            value_BPMHV.reshape(batch, positions * beams, heads, d_v),
        )


class Cache(struct.PyTreeNode):
    """What decoding one more position needs.

    Hypotheses change places at every step of a beam search. Instead of moving keys and values, the
    cache remembers in whose place each hypothesis' ancestor stood; attention masks the others.

    Attributes:
      layers: a LayerCache for every decoder layer.
      source_valid_BS: True at the source's tokens.
      ancestor_BMP: the place of hypothesis M's ancestor at position P; NOT_DECODED at later ones.
      length: positions decoded so far, int32 scalar.
      window: a position sees those fewer than `window` before it, and itself; None: all.
    """

    layers: tuple[LayerCache, ...]
    source_valid_BS: jax.Array
    ancestor_BMP: jax.Array
    length: jax.Array
    window: int | None = struct.field(pytree_node=False, default=None)

    def begin_position(self) -> "Cache":
        """Returns the cache in which each hypothesis is its own ancestor at the next position."""
        batch, beams, _ = self.ancestor_BMP.shape
        own_BM1 = jnp.broadcast_to(jnp.arange(beams, dtype=jnp.int32)[:, None], (batch, beams, 1))
        ancestor_BMP = jax.lax.dynamic_update_slice(self.ancestor_BMP, own_BM1, (0, 0, self.length))
        return self.replace(ancestor_BMP=ancestor_BMP)

    def mask(self) -> Mask:
        """Returns the mask from each hypothesis to its own past among the places of all."""
        ancestor_BMP = _seen(self.ancestor_BMP, 2, self.length, self.window)
        batch, beams, positions = ancestor_BMP.shape
        own_BMPM = ancestor_BMP[..., None] == jnp.arange(beams, dtype=jnp.int32)
        return Mask(
            allowed_BTS=own_BMPM.reshape(batch, beams, positions * beams),
            causal=True,
            window=self.window,
        )

    def positions(self) -> Positions:
        """Returns where the hypotheses (queries) and the places of the past (keys) stand."""
        _, beams, positions = self.ancestor_BMP.shape
        position_P = jnp.arange(positions, dtype=jnp.int32)
        return Positions(
            query_BT=jnp.broadcast_to(self.length, (1, beams)),
            key_BS=jnp.repeat(_seen(position_P, 0, self.length, self.window), beams)[None],
        )

    def memory_positions(self) -> Positions:
        """Returns where the hypotheses (queries) and the source's tokens (keys) stand."""
        _, beams, _ = self.ancestor_BMP.shape
        source_length = self.source_valid_BS.shape[1]
        return Positions(
            query_BT=jnp.broadcast_to(self.length, (1, beams)),
            key_BS=jnp.arange(source_length, dtype=jnp.int32)[None],
        )


def grow(cache: Cache, max_length: int) -> Cache:
    """Returns the cache with room for `max_length` positions, as many as it had or more."""
    more = max_length - cache.ancestor_BMP.shape[2]

    def pad(x_BPMHK: jax.Array) -> jax.Array:
        return jnp.pad(x_BPMHK, ((0, 0), (0, more), (0, 0), (0, 0), (0, 0)))

    layers = tuple(
        layer.replace(key_BPMHK=pad(layer.key_BPMHK), value_BPMHV=pad(layer.value_BPMHV))
        for layer in cache.layers
    )
    ancestor_BMP = jnp.pad(
        cache.ancestor_BMP, ((0, 0), (0, 0), (0, more)), constant_values=NOT_DECODED
    )
    return cache.replace(layers=layers, ancestor_BMP=ancestor_BMP)


def _seen(x: jax.Array, axis: int, length: jax.Array, window: int | None) -> jax.Array:
    """Returns the part of the axis of positions that a query at `length` may see."""
    if window is None or window >= x.shape[axis]:
        return x
    first = jnp.maximum(length - (window - 1), 0)
    return jax.lax.dynamic_slice_in_dim(x, first, window, axis)


def reorder(cache: Cache, beam_BM: jax.Array) -> Cache:
    """Returns the cache in which hypothesis m of sentence b continues the old one beam_BM[b, m]."""
    ancestor_BMP = jnp.take_along_axis(cache.ancestor_BMP, beam_BM[:, :, None], axis=1)
    return cache.replace(ancestor_BMP=ancestor_BMP)
