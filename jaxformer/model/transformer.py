"""The Transformer (Figure 1): encode, decode whole targets, decode one position."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxformer.model import dropout as dropout_lib
from jaxformer.model.attention import Attend, dot_product_attention
from jaxformer.model.cache import NOT_DECODED, Cache, LayerCache, grow, reorder
from jaxformer.model.dropout import Dropout, fold
from jaxformer.model.embedding import SharedEmbedding
from jaxformer.model.layers import Activation, DecoderLayer, EncoderLayer, LayerSpec
from jaxformer.model.layout import ALONE, Layout
from jaxformer.model.masks import Mask, Positions
from jaxformer.model.positions import Sinusoidal
from jaxformer.model.residual import Residual, post_norm
from jaxformer.model.stack import REMAT, run_layers
from jaxformer.model.tokens import BOS, EOS, PAD

__all__ = ["Cache", "Transformer", "attention_weights", "grow", "reorder", "shift_right"]


class Encoder(nn.Module):
    """A stack of encoder layers."""

    spec: LayerSpec
    num_layers: int
    remat: str = "none"
    scan_layers: bool = False

    def setup(self) -> None:
        """Makes the layers, and the last norm where the residual asks for one."""
        self.layer = [EncoderLayer(self.spec) for _ in range(self.num_layers)]
        if self.spec.residual.final_norm:
            self.norm = self.spec.make_norm()

    def __call__(
        self, x_BSD: jax.Array, mask: Mask, positions: Positions, dropout: Dropout | None
    ) -> jax.Array:
        """Returns memory_BSD."""
        x_BSD = run_layers(
            self.layer,
            x_BSD,
            mask,
            positions,
            dropout=dropout,
            remat=self.remat,
            scan=self.scan_layers,
        )
        return self.norm(x_BSD) if self.spec.residual.final_norm else x_BSD


class Decoder(nn.Module):
    """A stack of decoder layers."""

    spec: LayerSpec
    num_layers: int
    remat: str = "none"
    scan_layers: bool = False

    def setup(self) -> None:
        """Makes the layers, and the last norm where the residual asks for one."""
        self.layer = [DecoderLayer(self.spec) for _ in range(self.num_layers)]
        if self.spec.residual.final_norm:
            self.norm = self.spec.make_norm()

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
        """Returns hidden_BTD for whole targets."""
        x_BTD = run_layers(
            self.layer,
            x_BTD,
            memory_BSD,
            mask,
            cross_mask,
            positions,
            cross_positions,
            dropout=dropout,
            remat=self.remat,
            scan=self.scan_layers,
        )
        return self.norm(x_BTD) if self.spec.residual.final_norm else x_BTD

    def start(
        self,
        memory_BSD: jax.Array,
        source_valid_BS: jax.Array,
        num_beams: int,
        max_length: int,
        window: int | None,
    ) -> Cache:
        """Returns the cache before the first position."""
        batch = memory_BSD.shape[0]
        place = (batch, max_length, num_beams, self.spec.num_heads)
        layers = []
        for layer in self.layer:
            memory_key_BSHK, memory_value_BSHV = layer.cross_attention.project(memory_BSD)
            layers.append(
                LayerCache(
                    key_BPMHK=jnp.zeros((*place, self.spec.d_k), memory_key_BSHK.dtype),
                    value_BPMHV=jnp.zeros((*place, self.spec.d_v), memory_value_BSHV.dtype),
                    memory_key_BSHK=memory_key_BSHK,
                    memory_value_BSHV=memory_value_BSHV,
                )
            )
        return Cache(
            layers=tuple(layers),
            source_valid_BS=source_valid_BS,
            ancestor_BMP=jnp.full((batch, num_beams, max_length), NOT_DECODED, jnp.int32),
            length=jnp.zeros((), jnp.int32),
            window=window,
        )

    def step(self, x_BMD: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Returns (hidden_BMD, cache) after one position of M hypotheses a sentence."""
        cache = cache.begin_position()
        mask, positions = cache.mask(), cache.positions()
        cross_mask = Mask(key_valid_BS=cache.source_valid_BS)
        layers = []
        for layer, layer_cache in zip(self.layer, cache.layers, strict=True):
            x_BMD, layer_cache = layer.step(
                x_BMD,
                layer_cache,
                mask,
                cross_mask,
                positions,
                cache.memory_positions(),
                cache.length,
            )
            layers.append(layer_cache)
        if self.spec.residual.final_norm:
            x_BMD = self.norm(x_BMD)
        return x_BMD, cache.replace(layers=tuple(layers), length=cache.length + 1)


class Transformer(nn.Module):
    """The encoder/decoder of section 3. The defaults are the paper's base model.

    A source row holds one sentence or more, each ending in EOS, then PAD; a target row holds as
    many, and sentence number i of it attends to sentence number i of the source. Sentences that
    share a row do not see each other, and each has positions of its own. A row of PAD only is legal
    and counts for nothing. What varies is an argument: `attend`, `residual`, `positions`,
    `activation`.

    Attributes:
      d_k, d_v: widths of a head's queries and keys, and of its values.
      vocab_multiple: the shared matrix is padded to a multiple of this many rows.
      max_length: rows of a table of learned positions; nothing else reads it. Positions past it
        take its last row.
      attention_window: in self-attention a token sees those fewer than so many positions away,
        whatever `attend` is (section 4); None: all. With `restricted_attention` that is what it
        costs, too.
      dtype: of the matrix products and activations; parameters, softmax, layer norm's statistics
        and logits are float32.
      product_dtype: of the operands of matrix products with parameters (see
        `jaxformer.model.products`); None for `dtype`, with Flax's gradient.
      remat: what the backward pass computes again, layer by layer, for less memory: "none", "full"
        or "dots" (see `stack.REMAT`).
      scan_layers: whether a loop runs the layers of a stack, for a program that compiles faster.
      layout: where arrays lie on several devices; see jaxformer.sharding.
    """

    vocab_size: int
    d_model: int = 512
    d_ff: int = 2048
    num_heads: int = 8
    d_k: int = 64
    d_v: int = 64
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    vocab_multiple: int = 1
    max_length: int = 1024
    attend: Attend = dot_product_attention
    attention_window: int | None = None
    residual: Residual = post_norm
    positions: Callable[..., nn.Module] = Sinusoidal
    activation: Activation = jax.nn.relu
    attention_bias: bool = False
    norm_epsilon: float = 1e-6
    dtype: Any = jnp.float32
    product_dtype: Any = None
    remat: str = "none"
    scan_layers: bool = False
    layout: Layout = ALONE

    def setup(self) -> None:
        """Makes embedding, positions, encoder and decoder.

        Raises: ValueError if a size is below 1, or `remat` has no such name.
        """
        sizes = ("vocab_size", "d_model", "d_ff", "num_heads", "d_k", "d_v", "vocab_multiple")
        for name in (*sizes, "attention_window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} is not a size. Set it to 1 or more.")
        if self.remat not in REMAT:
            raise ValueError(
                f"remat={self.remat!r} is unknown. Set it to one of {', '.join(REMAT)}."
            )
        spec = LayerSpec(
            d_model=self.d_model,
            d_ff=self.d_ff,
            num_heads=self.num_heads,
            d_k=self.d_k,
            d_v=self.d_v,
            attend=self.attend,
            residual=self.residual,
            activation=self.activation,
            attention_bias=self.attention_bias,
            norm_epsilon=self.norm_epsilon,
            dtype=self.dtype,
            product_dtype=self.product_dtype,
            layout=self.layout,
        )
        self.embedding = SharedEmbedding(
            self.vocab_size,
            self.d_model,
            self.vocab_multiple,
            self.dtype,
            self.product_dtype,
            self.layout,
        )
        position_fields = {
            "d_model": self.d_model,
            "max_length": self.max_length,
            "dtype": self.dtype,
        }
        self.source_positions = self.positions(**position_fields)
        self.target_positions = self.positions(**position_fields)
        form = self.remat, self.scan_layers
        self.encoder = Encoder(spec, self.num_encoder_layers, *form)
        self.decoder = Decoder(spec, self.num_decoder_layers, *form)

    def __call__(
        self, source_BS: jax.Array, target_input_BT: jax.Array, dropout: Dropout | None = None
    ) -> jax.Array:
        """Returns logits_BTW, float32: at t, of the target's token that follows input t.

        Args:
          source_BS: token ids of the source.
          target_input_BT: token ids of the target, shifted right (see `shift_right`).
          dropout: of this step; None for none.
        """
        return self.embedding.logits(self.hidden(source_BS, target_input_BT, dropout))

    def hidden(
        self, source_BS: jax.Array, target_input_BT: jax.Array, dropout: Dropout | None = None
    ) -> jax.Array:
        """Returns the decoder's output before the projection to logits, hidden_BTD."""
        memory_BSD = self.encode(source_BS, dropout)
        return self.decode(target_input_BT, memory_BSD, source_BS, dropout)

    def encode(self, source_BS: jax.Array, dropout: Dropout | None = None) -> jax.Array:
        """Returns the encoder's output, memory_BSD."""
        dropout = fold(dropout, "encoder")
        source = segments(_starts_after(source_BS, EOS))
        x_BSD = self.embedding.embed(source_BS) + self.source_positions(source.position_BT)
        x_BSD = dropout_lib.apply(fold(dropout, "embedding"), x_BSD)
        mask = Mask(
            key_valid_BS=source_BS != PAD,
            query_segment_BT=source.number_BT,
            key_segment_BS=source.number_BT,
            window=self.attention_window,
        )
        positions = Positions(source.position_BT, source.position_BT)
        return self.encoder(x_BSD, mask, positions, dropout)

    def decode(
        self,
        target_input_BT: jax.Array,
        memory_BSD: jax.Array,
        source_BS: jax.Array,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Returns hidden_BTD of whole targets; the source tells which of memory is padding."""
        dropout = fold(dropout, "decoder")
        source = segments(_starts_after(source_BS, EOS))
        target = segments(target_input_BT == BOS)
        x_BTD = self.embedding.embed(target_input_BT) + self.target_positions(target.position_BT)
        x_BTD = dropout_lib.apply(fold(dropout, "embedding"), x_BTD)
        return self.decoder(
            x_BTD,
            memory_BSD,
            # Padding follows the sentences, so that causality alone hides it from real tokens.
            Mask(
                query_segment_BT=target.number_BT,
                key_segment_BS=target.number_BT,
                causal=True,
                window=self.attention_window,
            ),
            Mask(
                key_valid_BS=source_BS != PAD,
                query_segment_BT=target.number_BT,
                key_segment_BS=source.number_BT,
            ),
            Positions(target.position_BT, target.position_BT),
            Positions(target.position_BT, source.position_BT),
            dropout,
        )

    def start_cache(
        self, memory_BSD: jax.Array, source_BS: jax.Array, num_beams: int, max_length: int
    ) -> Cache:
        """Returns the cache for `max_length` positions of `num_beams` hypotheses a sentence.

        Here a source row holds one sentence.
        """
        return self.decoder.start(
            memory_BSD, source_BS != PAD, num_beams, max_length, self.attention_window
        )

    def decode_step(self, token_BM: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Decodes one position after `token_BM` (BOS first); returns (logits_BMW, cache)."""
        position_11 = cache.length[None, None]
        x_BMD = self.embedding.embed(token_BM) + self.target_positions(position_11)
        hidden_BMD, cache = self.decoder.step(x_BMD, cache)
        return self.embedding.logits(hidden_BMD), cache


class Segments(NamedTuple):
    """The sentences of a row: each token's sentence, counted from 0, and its place there."""

    number_BT: jax.Array
    position_BT: jax.Array


def segments(starts_BT: jax.Array) -> Segments:
    """Returns number and position of every token, given where sentences start."""
    index_BT = jnp.broadcast_to(jnp.arange(starts_BT.shape[1], dtype=jnp.int32), starts_BT.shape)
    first_BT = jax.lax.cummax(jnp.where(starts_BT, index_BT, 0), axis=1)
    # The first token begins sentence 0 whether or not a start is marked there.
    number_BT = jnp.cumsum(starts_BT & (index_BT > 0), axis=1, dtype=jnp.int32)
    return Segments(number_BT, index_BT - first_BT)


def _starts_after(token_BT: jax.Array, end: int) -> jax.Array:
    """Returns True at each row's first token and wherever `end` stands just before."""
    return jnp.pad(token_BT[:, :-1] == end, ((0, 0), (1, 0)), constant_values=True)


def shift_right(target_BT: jax.Array) -> jax.Array:
    """Returns the decoder's input: what stands before each token, BOS before each sentence."""
    return jnp.where(
        _starts_after(target_BT, EOS),
        BOS,
        jnp.pad(target_BT, ((0, 0), (1, 0)))[:, :-1],
    )


def attention_weights(
    model: Transformer, params: Any, source_BS: jax.Array, target_BT: jax.Array
) -> dict[str, list[jax.Array]]:
    """Returns the weights of every layer and head for given sentences.

    Returns: {"encoder": [weights_BHSS, ...], "decoder": [weights_BHTT, ...], "cross":
      [weights_BHTS, ...]}, a list entry a layer.
    Raises: ValueError if the model's attention function gives no weights.
    """
    _, sown = model.apply(
        {"params": params}, source_BS, shift_right(target_BT), mutable=["attention"]
    )
    layers = sown.get("attention", {})

    def of(stack: str, sublayer: str, num_layers: int) -> list[jax.Array]:
        try:
            return [
                layers[stack][f"layer_{number}"][sublayer]["weights"][0]
                for number in range(num_layers)
            ]
        except KeyError:
            raise ValueError(
                f"The attention function {model.attend!r} returns no weights. Use one that "
                "returns (out, weights), such as jaxformer.model.dot_product_attention."
            ) from None

    return {
        "encoder": of("encoder", "attention", model.num_encoder_layers),
        "decoder": of("decoder", "attention", model.num_decoder_layers),
        "cross": of("decoder", "cross_attention", model.num_decoder_layers),
    }
