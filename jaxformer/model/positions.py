"""Positional encodings that are added to the embeddings (section 3.5).

Each is a factory `make(d_model=..., max_length=..., dtype=...)` of a module that maps positions to
vectors. Forms that act inside attention (rotary, relative) use `NoPositions` here and read the
`positions` argument of their attention function.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Sinusoidal(nn.Module):
    """PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos of the same."""

    d_model: int
    max_length: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, position_BT: jax.Array) -> jax.Array:
        """Returns encoding_BTD; any position is possible, `max_length` does not bind."""
        even = jnp.arange(0, self.d_model, 2, dtype=jnp.float32)
        rate = jnp.exp(even * (-math.log(10000.0) / self.d_model))
        angle_BTD = position_BT[..., None].astype(jnp.float32) * rate
        pair_BTD2 = jnp.stack([jnp.sin(angle_BTD), jnp.cos(angle_BTD)], axis=-1)
        encoding_BTD = pair_BTD2.reshape(*position_BT.shape, -1)
        return encoding_BTD[..., : self.d_model].astype(self.dtype)


class Learned(nn.Module):
    """A learned vector for each of `max_length` positions: row (E) of Table 3.

    Attributes:
      is_scaled: whether the vectors are the table's rows times sqrt(d_model), as the token
        embeddings are, so that both start at the same size.
    """

    d_model: int
    max_length: int
    dtype: Any = jnp.float32
    is_scaled: bool = True

    @nn.compact
    def __call__(self, position_BT: jax.Array) -> jax.Array:
        """Returns encoding_BTD; a position past the table's end takes its last vector.

        Positions count within a sentence, and a row may hold several, so that a row longer than
        the table is no mistake; whether sentences are is known before they become arrays.
        """
        table_PD = self.param(
            "table",
            nn.initializers.normal(self.d_model**-0.5),
            (self.max_length, self.d_model),
            jnp.float32,
        )
        encoding_BTD = jnp.take(table_PD, position_BT, axis=0, mode="clip")
        scale = math.sqrt(self.d_model) if self.is_scaled else 1.0
        return (encoding_BTD * scale).astype(self.dtype)


class NoPositions(nn.Module):
    """Adds nothing: for attention functions that know positions themselves."""

    d_model: int
    max_length: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, position_BT: jax.Array) -> jax.Array:
        """Returns zeros that broadcast to encoding_BTD."""
        return jnp.zeros((*position_BT.shape, 1), self.dtype)
