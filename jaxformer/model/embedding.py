"""One matrix for source, target and the pre-softmax projection (section 3.4)."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxformer.model.layout import ALONE, Layout

# Far below any logit, far above float32's lowest: a difference of two stays finite.
MASKED_LOGIT = -1e9


class SharedEmbedding(nn.Module):
    """The shared matrix, table_WD, padded to a multiple of `vocab_multiple` rows.

    Padded rows start at zero, have no gradient and are never looked up; their logits are
    MASKED_LOGIT, so that no softmax sees them.

    Attributes:
      is_scaled: whether embeddings are the rows times sqrt(d_model), as the paper has them.
    """

    vocab_size: int
    d_model: int
    vocab_multiple: int = 1
    dtype: Any = jnp.float32
    product_dtype: Any = None
    layout: Layout = ALONE
    is_scaled: bool = True

    def setup(self) -> None:
        """Makes the table."""
        self.table_WD = self.param(
            "table", self._init_table, (self.padded_size, self.d_model), jnp.float32
        )

    @property
    def padded_size(self) -> int:
        """The number of rows of the table, padding included."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    def _init_table(self, key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
        table_WD = nn.initializers.normal(self.d_model**-0.5)(key, shape, dtype)
        is_real_W = jnp.arange(shape[0]) < self.vocab_size
        return jnp.where(is_real_W[:, None], table_WD, 0.0)

    def embed(self, token_BT: jax.Array) -> jax.Array:
        """Returns the tokens' rows, scaled, embedding_BTD."""
        table_WD = gathered(self.table_WD, self.layout)
        embedding_BTD = jnp.take(table_WD, token_BT, axis=0, mode="clip")
        scale = math.sqrt(self.d_model) if self.is_scaled else 1.0
        return self.layout.constrain((embedding_BTD * scale).astype(self.dtype), "batch")

    def logits(self, hidden_BTD: jax.Array) -> jax.Array:
        """Returns logits_BTW, float32, MASKED_LOGIT in the padded rows."""
        dtype = self.product_dtype or self.dtype
        logits_BTW = jnp.einsum(
            "btd,wd->btw",
            hidden_BTD.astype(dtype),
            gathered(self.table_WD, self.layout).astype(dtype),
            preferred_element_type=jnp.float32,
        )
        return mask_padded_rows(logits_BTW, self.vocab_size)


def gathered(table_WD: jax.Array, layout: Layout) -> jax.Array:
    """Returns the shared matrix as look-up and logits take it, from wherever it is kept."""
    return layout.constrain(table_WD, "gathered_vocab")


def mask_padded_rows(logits_BTW: jax.Array, vocab_size: int) -> jax.Array:
    """Returns the logits with MASKED_LOGIT from row `vocab_size` on."""
    rows = logits_BTW.shape[-1]
    if rows == vocab_size:
        return logits_BTW
    return jnp.where(jnp.arange(rows) < vocab_size, logits_BTW, MASKED_LOGIT)
