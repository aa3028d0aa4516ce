"""Scaled dot-product attention (Eq. 1) and multi-head attention (section 3.2)."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxformer.model.layout import ALONE, Layout
from jaxformer.model.masks import Mask, Positions
from jaxformer.model.products import product_in

Attend = Callable[..., tuple[jax.Array, jax.Array | None]]
"""attend(query_BTHK, key_BSHK, value_BSHV, mask, positions) -> (out_BTHV, weights_BHTS or None).

Also a flax module class whose call has that signature: it is made once a layer, without arguments,
so that an attention may have parameters of its own.
"""


def by_row_and_head(attend: Attend) -> Attend:
    """Marks an attention function in which each row and each head is a case of its own.

    It may then be a kernel that XLA does not know how to divide: over several devices it is called
    by each of them, with the rows and heads that lie there (`Layout.by_row_and_head`).
    """
    attend.is_by_row_and_head = True  # ty: ignore[missing-attribute]
    return attend


# Minus infinity would turn a row without any legal link into NaN; this gives it even weights.
_ILLEGAL_SCORE = -1e30


def dot_product_attention(
    query_BTHK: jax.Array,
    key_BSHK: jax.Array,
    value_BSHV: jax.Array,
    mask: Mask,
    positions: Positions,
) -> tuple[jax.Array, jax.Array]:
    """softmax(Q K^T / sqrt(d_k)) V, illegal links masked before the softmax (Eq. 1).

    The softmax is in float32 whatever the inputs are.

    Returns: (out_BTHV, weights_BHTS); a weight of an illegal link is exactly zero, except in a row
    that has no legal link at all, whose weights are even.
    """
    score_BHTS = jnp.einsum(
        "bthk,bshk->bhts", query_BTHK, key_BSHK, preferred_element_type=jnp.float32
    ) / math.sqrt(query_BTHK.shape[-1])
    legal_BTS = mask.materialise(positions)
    if legal_BTS is not None:
        score_BHTS = jnp.where(legal_BTS[:, None], score_BHTS, _ILLEGAL_SCORE)
    weights_BHTS = jax.nn.softmax(score_BHTS, axis=-1)
    out_BTHV = jnp.einsum("bhts,bshv->bthv", weights_BHTS.astype(value_BSHV.dtype), value_BSHV)
    return out_BTHV, weights_BHTS


class MultiHeadAttention(nn.Module):
    """Concat(head_1 ... head_h) W^O, with d_k and d_v free of d_model (section 3.2.2).

    The weights of each head are sown as `weights` in the collection "attention": they are computed
    for the caller only if that collection is mutable.
    """

    d_model: int
    num_heads: int
    d_k: int
    d_v: int
    attend: Attend = dot_product_attention
    use_bias: bool = False
    dtype: Any = jnp.float32
    product_dtype: Any = None
    layout: Layout = ALONE

    def setup(self) -> None:
        """Names the four projections as the paper does: W^Q, W^K, W^V, W^O."""
        self.query = self._project_to_heads(self.d_k)
        self.key = self._project_to_heads(self.d_k)
        self.value = self._project_to_heads(self.d_v)
        self.out = nn.DenseGeneral(
            self.d_model,
            axis=(-2, -1),
            use_bias=self.use_bias,
            kernel_init=nn.initializers.xavier_uniform(),
            dtype=self.dtype,
            dot_general=product_in(self.product_dtype),
        )
        is_module = isinstance(self.attend, type) and issubclass(self.attend, nn.Module)
        self.attention = self.attend() if is_module else self.attend

    def _project_to_heads(self, width: int) -> nn.DenseGeneral:
        return nn.DenseGeneral(
            (self.num_heads, width),
            use_bias=self.use_bias,
            kernel_init=nn.initializers.xavier_uniform(),
            dtype=self.dtype,
            dot_general=product_in(self.product_dtype),
        )

    def __call__(
        self, query_BTD: jax.Array, memory_BSD: jax.Array, mask: Mask, positions: Positions
    ) -> jax.Array:
        """Attends from query_BTD over memory_BSD (the same array in self-attention)."""
        return self.read(query_BTD, *self.project(memory_BSD), mask, positions)

    def project(self, memory_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (key_BSHK, value_BSHV), what a cache keeps."""
        return self._by_heads(self.key(memory_BSD)), self._by_heads(self.value(memory_BSD))

    def read(
        self,
        query_BTD: jax.Array,
        key_BSHK: jax.Array,
        value_BSHV: jax.Array,
        mask: Mask,
        positions: Positions,
    ) -> jax.Array:
        """Attends from query_BTD over projected keys and values; returns out_BTD."""
        attend = self.attention
        if getattr(attend, "is_by_row_and_head", False):
            attend = self.layout.by_row_and_head(attend)
        out_BTHV, weights_BHTS = attend(
            self._by_heads(self.query(query_BTD)), key_BSHK, value_BSHV, mask, positions
        )
        if weights_BHTS is not None:
            self.sow("attention", "weights", weights_BHTS)
        return self.layout.constrain(self.out(self._by_heads(out_BTHV)), "batch")

    def _by_heads(self, x_BTHK: jax.Array) -> jax.Array:
        return self.layout.constrain(x_BTHK, "batch", None, "heads")
