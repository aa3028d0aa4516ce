"""An encoder alone, which reads a text: the form of BERT (Devlin et al., 2019)."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxformer.model import dropout as dropout_lib
from jaxformer.model.attention import Attend, dot_product_attention
from jaxformer.model.dropout import Dropout, fold
from jaxformer.model.embedding import SharedEmbedding
from jaxformer.model.layers import Activation, LayerSpec
from jaxformer.model.masks import Mask, Positions
from jaxformer.model.positions import Learned
from jaxformer.model.residual import Residual, post_norm
from jaxformer.model.transformer import Encoder


class TextEncoder(nn.Module):
    """Tokens to a vector for each: the encoder of section 3.1 without a decoder.

    Departs: as BERT does, from the paper's encoder. Positions and the kind of a text are learned
    rows that are added to the tokens' ones, none of them scaled; a layer norm follows; attention
    has biases. What varies is an argument, as with `Transformer`.

    Attributes:
      max_length: rows of the table of positions; positions past it take its last row.
      num_types: kinds of text that a row may hold; 0 for none.
      norm_epsilon: of all layer norms.
    """

    vocab_size: int
    d_model: int
    d_ff: int
    num_heads: int
    num_layers: int
    max_length: int = 512
    num_types: int = 2
    attend: Attend = dot_product_attention
    residual: Residual = post_norm
    positions: Callable[..., nn.Module] = functools.partial(Learned, is_scaled=False)
    activation: Activation = jax.nn.relu
    attention_bias: bool = True
    norm_epsilon: float = 1e-12
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Makes embeddings, their norm, and the encoder.

        Raises: ValueError if d_model is not divisible by num_heads.
        """
        if self.d_model % self.num_heads:
            raise ValueError(
                f"d_model={self.d_model} is not divisible by num_heads={self.num_heads}. Choose a "
                f"multiple of {self.num_heads}."
            )
        width = self.d_model // self.num_heads
        spec = LayerSpec(
            d_model=self.d_model,
            d_ff=self.d_ff,
            num_heads=self.num_heads,
            d_k=width,
            d_v=width,
            attend=self.attend,
            residual=self.residual,
            activation=self.activation,
            attention_bias=self.attention_bias,
            norm_epsilon=self.norm_epsilon,
            dtype=self.dtype,
        )
        self.embedding = SharedEmbedding(
            self.vocab_size, self.d_model, dtype=self.dtype, is_scaled=False
        )
        self.place = self.positions(
            d_model=self.d_model, max_length=self.max_length, dtype=self.dtype
        )
        if self.num_types:
            self.type = SharedEmbedding(
                self.num_types, self.d_model, dtype=self.dtype, is_scaled=False
            )
        self.norm = spec.make_norm()
        self.encoder = Encoder(spec, self.num_layers)

    def __call__(
        self,
        token_BS: jax.Array,
        is_token_BS: jax.Array,
        type_BS: jax.Array | None = None,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Returns a vector for each token, hidden_BSD.

        Args:
          is_token_BS: False at padding, which no token sees.
          type_BS: kind of text of each token; None for kind 0 throughout.
          dropout: of this step; None for none.
        """
        position_1S = jnp.arange(token_BS.shape[1], dtype=jnp.int32)[None]
        x_BSD = self.embedding.embed(token_BS) + self.place(position_1S)
        if self.num_types:
            kind_BS = jnp.zeros_like(token_BS) if type_BS is None else type_BS
            x_BSD = x_BSD + self.type.embed(kind_BS)
        x_BSD = dropout_lib.apply(fold(dropout, "embedding"), self.norm(x_BSD))
        mask = Mask(key_valid_BS=is_token_BS)
        positions = Positions(position_1S, position_1S)
        return self.encoder(x_BSD, mask, positions, fold(dropout, "encoder"))


def hidden_and_weights(
    model: TextEncoder,
    params: Any,
    token_BS: jax.Array,
    is_token_BS: jax.Array,
    type_BS: jax.Array | None = None,
) -> tuple[jax.Array, list[jax.Array]]:
    """Returns (hidden_BSD, [weights_BHSS of each layer, the first one first]).

    Raises: ValueError if the model's attention function gives no weights.
    """
    hidden_BSD, sown = model.apply(
        {"params": params}, token_BS, is_token_BS, type_BS, mutable=["attention"]
    )
    layers = sown.get("attention", {}).get("encoder", {})
    if len(layers) != model.num_layers:
        raise ValueError(
            f"The attention function {model.attend!r} returns no weights. Use one that returns "
            "(out, weights), such as jaxformer.model.dot_product_attention."
        )
    return hidden_BSD, [
        layers[f"layer_{number}"]["attention"]["weights"][0] for number in range(model.num_layers)
    ]


def pool(hidden_BSD: jax.Array, chosen_BS: jax.Array) -> jax.Array:
    """Returns the mean of the chosen tokens' vectors, scaled to length 1: embedding_BD.

    A row of which nothing is chosen gives zeros.
    """
    weight_BS1 = chosen_BS.astype(hidden_BSD.dtype)[:, :, None]
    mean_BD = jnp.sum(hidden_BSD * weight_BS1, axis=1) / jnp.maximum(weight_BS1.sum(axis=1), 1)
    return mean_BD / jnp.maximum(jnp.linalg.norm(mean_BD, axis=-1, keepdims=True), 1e-12)
