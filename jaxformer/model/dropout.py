"""Dropout from a counter-based hash: a mask is a function of (key, place, row, position).

`jax.random.bernoulli` on a threefry key costs a third of a training step on a CPU. A hash of the
counters is nearly free, and because the counters are those of the global batch, the mask does not
depend on how the batch is split for accumulation or over devices.

Departs: the paper says nothing of the generator; the statistics are tested against jax.random's.
"""

import zlib

import jax
import jax.numpy as jnp
from flax import struct


def _mix(word: jax.Array) -> jax.Array:
    """A bijection of 32-bit words that flips each output bit with probability one half."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * jnp.uint32(0x846CA68B)
    return word ^ (word >> 16)


class Dropout(struct.PyTreeNode):
    """The dropout of one step: its rate and where its random numbers come from.

    Attributes:
      rate: probability that an entry is dropped, float32 scalar in [0, 1); may be traced.
      word_low, word_high: 64 bits of state, uint32 scalars.
      row_B: uint32, each row's index in the global batch.
    """

    rate: jax.Array
    word_low: jax.Array
    word_high: jax.Array
    row_B: jax.Array

    @classmethod
    def create(cls, key: jax.Array, rate: jax.Array | float, row_B: jax.Array) -> "Dropout":
        """Starts from a PRNG key (typed or raw) and the rows' indices in the global batch."""
        data = key if jnp.issubdtype(key.dtype, jnp.uint32) else jax.random.key_data(key)
        return cls(
            rate=jnp.asarray(rate, jnp.float32),
            word_low=data[-1],
            word_high=data[0],
            row_B=row_B.astype(jnp.uint32),
        )

    def fold(self, place: str | int | jax.Array) -> "Dropout":
        """Returns the dropout of a place inside this one: a layer's number, a sub-layer's name.

        A number may be traced: it gives the same masks.
        """
        number = zlib.crc32(place.encode()) if isinstance(place, str) else place
        word_low = _mix(self.word_low ^ _mix(jnp.uint32(number) + jnp.uint32(0x9E3779B9)))
        # The product keeps the words apart where word_high is 0, as it is in `jax.random.key(7)`.
        word_high = _mix(self.word_high + word_low * jnp.uint32(0x9E3779B1))
        return self.replace(word_low=word_low, word_high=word_high)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Returns x with entries zeroed at `rate` and the others scaled by 1 / (1 - rate)."""
        _, length, width = x_BTD.shape
        position_T = jnp.arange(length, dtype=jnp.uint32)
        feature_D = jnp.arange(width, dtype=jnp.uint32)
        row_hash_B = _mix(self.word_low ^ (self.row_B * jnp.uint32(0x9E3779B9)))
        token_hash_BT = _mix(row_hash_B[:, None] + position_T * jnp.uint32(0x85EBCA6B))
        feature_hash_D = _mix(self.word_high ^ feature_D)
        draw_BTD = _mix(token_hash_BT[:, :, None] ^ feature_hash_D)
        # Comparing 31 bits as signed integers is what vector units do in one instruction.
        threshold = (self.rate * 2.0**31).astype(jnp.int32)
        keep_BTD = (draw_BTD >> 1).astype(jnp.int32) >= threshold
        kept_BTD = (x_BTD.astype(jnp.float32) / (1.0 - self.rate)).astype(x_BTD.dtype)
        return jnp.where(keep_BTD, kept_BTD, jnp.zeros((), x_BTD.dtype))


def fold(dropout: Dropout | None, place: str | int | jax.Array) -> Dropout | None:
    """`Dropout.fold` where there may be no dropout."""
    return None if dropout is None else dropout.fold(place)


def apply(dropout: Dropout | None, x_BTD: jax.Array) -> jax.Array:
    """Drops out x_BTD, or returns it untouched where there is no dropout."""
    return x_BTD if dropout is None else dropout(x_BTD)
