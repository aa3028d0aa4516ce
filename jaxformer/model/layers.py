"""Position-wise feed-forward (Eq. 2) and the encoder's and the decoder's layer (section 3.1)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxformer.model.attention import Attend, MultiHeadAttention, dot_product_attention
from jaxformer.model.cache import LayerCache
from jaxformer.model.dropout import Dropout, fold
from jaxformer.model.layout import ALONE, Layout
from jaxformer.model.masks import Mask, Positions
from jaxformer.model.products import product_in
from jaxformer.model.residual import Residual, post_norm

Activation = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """What a layer is made of; the same for every layer of a stack."""

    d_model: int
    d_ff: int
    num_heads: int
    d_k: int
    d_v: int
    attend: Attend = dot_product_attention
    residual: Residual = post_norm
    activation: Activation = jax.nn.relu
    attention_bias: bool = False
    norm_epsilon: float = 1e-6
    dtype: Any = jnp.float32
    product_dtype: Any = None
    layout: Layout = ALONE

    def make_attention(self) -> MultiHeadAttention:
        """Returns a multi-head attention of this layer."""
        return MultiHeadAttention(
            d_model=self.d_model,
            num_heads=self.num_heads,
            d_k=self.d_k,
            d_v=self.d_v,
            attend=self.attend,
            use_bias=self.attention_bias,
            dtype=self.dtype,
            product_dtype=self.product_dtype,
            layout=self.layout,
        )

    def make_feed_forward(self) -> "FeedForward":
        """Returns the position-wise network of this layer."""
        return FeedForward(
            self.d_model, self.d_ff, self.activation, self.dtype, self.product_dtype, self.layout
        )

    def make_norm(self) -> nn.LayerNorm:
        """Returns a layer norm; its statistics are float32 whatever `dtype` is."""
        return nn.LayerNorm(
            epsilon=self.norm_epsilon, dtype=self.dtype, force_float32_reductions=True
        )


class FeedForward(nn.Module):
    """max(0, x W_1 + b_1) W_2 + b_2 (Eq. 2)."""

    d_model: int
    d_ff: int
    activation: Activation = jax.nn.relu
    dtype: Any = jnp.float32
    product_dtype: Any = None
    layout: Layout = ALONE

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Returns the network's output at every position, out_BTD."""
        inner_BTF = self._dense(self.d_ff, "inner")(x_BTD)
        inner_BTF = self.layout.constrain(inner_BTF, "batch", None, "inner")
        out_BTD = self._dense(self.d_model, "outer")(self.activation(inner_BTF))
        return self.layout.constrain(out_BTD, "batch")

    def _dense(self, width: int, name: str) -> nn.Dense:
        return nn.Dense(
            width,
            kernel_init=nn.initializers.xavier_uniform(),
            dtype=self.dtype,
            dot_general=product_in(self.product_dtype),
            name=name,
        )


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each on the residual stream."""

    spec: LayerSpec

    def setup(self) -> None:
        """Makes both sub-layers and their norms."""
        self.attention = self.spec.make_attention()
        self.attention_norm = self.spec.make_norm()
        self.feed_forward = self.spec.make_feed_forward()
        self.feed_forward_norm = self.spec.make_norm()

    def __call__(
        self, x_BSD: jax.Array, mask: Mask, positions: Positions, dropout: Dropout | None
    ) -> jax.Array:
        """Returns the layer's output, x_BSD."""
        connect = self.spec.residual.connect
        x_BSD = connect(
            x_BSD,
            lambda x: self.attention(x, x, mask, positions),
            self.attention_norm,
            fold(dropout, "attention"),
        )
        return connect(
            x_BSD, self.feed_forward, self.feed_forward_norm, fold(dropout, "feed_forward")
        )


class DecoderLayer(nn.Module):
    """Masked self-attention, attention over the encoder's output, feed-forward."""

    spec: LayerSpec

    def setup(self) -> None:
        """Makes the three sub-layers and their norms."""
        self.attention = self.spec.make_attention()
        self.attention_norm = self.spec.make_norm()
        self.cross_attention = self.spec.make_attention()
        self.cross_attention_norm = self.spec.make_norm()
        self.feed_forward = self.spec.make_feed_forward()
        self.feed_forward_norm = self.spec.make_norm()

    def __call__(
        self,
        x_BTD: jax.Array,
        memory_BSD: jax.Array,
        mask: Mask,
        cross_mask: Mask,
        positions: Positions,
        cross_positions: Positions,
        dropout: Dropout | None,
    ) -> jax.Array:
        """Returns the layer's output for whole targets, x_BTD."""
        return self._connect_all(
            x_BTD,
            lambda x: self.attention(x, x, mask, positions),
            lambda x: self.cross_attention(x, memory_BSD, cross_mask, cross_positions),
            dropout,
        )

    def step(
        self,
        x_BMD: jax.Array,
        cache: LayerCache,
        mask: Mask,
        cross_mask: Mask,
        positions: Positions,
        cross_positions: Positions,
        length: jax.Array,
    ) -> tuple[jax.Array, LayerCache]:
        """Decodes one position of M hypotheses a sentence; returns (x_BMD, cache with it)."""
        after = cache

        def attend_over_past(x_BMD: jax.Array) -> jax.Array:
            nonlocal after
            after = cache.write(*self.attention.project(x_BMD), length)
            past = after.keys_and_values(length, mask.window)
            return self.attention.read(x_BMD, *past, mask, positions)

        def attend_over_memory(x_BMD: jax.Array) -> jax.Array:
            return self.cross_attention.read(
                x_BMD, cache.memory_key_BSHK, cache.memory_value_BSHV, cross_mask, cross_positions
            )

        x_BMD = self._connect_all(x_BMD, attend_over_past, attend_over_memory, None)
        return x_BMD, after

    def _connect_all(
        self,
        x_BTD: jax.Array,
        attend: Callable[[jax.Array], jax.Array],
        attend_over_memory: Callable[[jax.Array], jax.Array],
        dropout: Dropout | None,
    ) -> jax.Array:
        connect = self.spec.residual.connect
        x_BTD = connect(x_BTD, attend, self.attention_norm, fold(dropout, "attention"))
        x_BTD = connect(
            x_BTD, attend_over_memory, self.cross_attention_norm, fold(dropout, "cross_attention")
        )
        return connect(
            x_BTD, self.feed_forward, self.feed_forward_norm, fold(dropout, "feed_forward")
        )
