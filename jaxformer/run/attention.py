"""The attention of a trained model over one sentence: every layer, every head (Figures 3 to 5)."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxformer.data.tokenizer import Side, Tokenizer
from jaxformer.decode import LengthPenalty, gnmt_penalty
from jaxformer.io.attention_map import AttentionMap, readable
from jaxformer.model import BOS, PAD, Transformer, attention_weights
from jaxformer.run.translation import make_decode
from jaxformer.train import Params

# Sentences are padded to a multiple of this, so that few programs are compiled.
_WIDTH = 16


@dataclass(frozen=True)
class SentenceAttention:
    """A sentence, its translation, and what every head did.

    Attributes:
      maps: "encoder": each piece of the source looks at the source. "decoder": each piece of the
        target, while it is written, looks at what stands before it, the start <s> first. "cross":
        each piece of the target, while it is written, looks at the source.
    """

    source: str
    target: str
    maps: dict[str, AttentionMap]


def sentence_attention(
    model: Transformer,
    params: Params,
    tokenizer: Tokenizer,
    source: str,
    target: str | None = None,
    *,
    num_beams: int = 4,
    alpha: float = 0.6,
    extra_length: int = 50,
    length_penalty: LengthPenalty = gnmt_penalty,
    longest: int | None = None,
) -> SentenceAttention:
    """Returns the weights of encoder, decoder and cross attention for a sentence.

    Args:
      target: the translation to look at; None for the model's own.
      num_beams, alpha, extra_length, length_penalty: of the decoding, as for `make_decode`.
      longest: tokens that a sentence may have, EOS included, such as the most that the model was
        trained on; None for any number.

    Raises: ValueError if a sentence is blank or too long, or the model's attention function gives
      no weights.
    """
    source_S = _encode(tokenizer, "source", source, longest)
    if target is None:
        decode = make_decode(
            model,
            num_beams=num_beams,
            alpha=alpha,
            extra_length=extra_length,
            length_penalty=length_penalty,
        )
        target_T = np.asarray(decode(params, _padded(source_S)))[0]
        target_T = target_T[target_T != PAD]
        target = " ".join(tokenizer.decode(target_T).splitlines())
    else:
        target_T = _encode(tokenizer, "target", target, longest)
    weights = _weights(model, params, _padded(source_S), _padded(target_T))
    source_names, target_names = (
        readable(tokenizer.pieces(tokens), tokenizer.starts_word(tokens))
        for tokens in (source_S, target_T)
    )
    before = [BOS, *target_T[:-1]]
    before_names = readable(tokenizer.pieces(before), tokenizer.starts_word(before))
    return SentenceAttention(
        source,
        target,
        {
            kind: AttentionMap(_trimmed(weights[kind], queries, keys), queries, keys)
            for kind, queries, keys in (
                ("encoder", source_names, source_names),
                ("decoder", target_names, before_names),
                ("cross", target_names, source_names),
            )
        },
    )


# Compiled once a model and a pair of widths, however often it is asked.
@functools.partial(jax.jit, static_argnames="model")
def _weights(
    model: Transformer, params: Params, source_BS: jax.Array, target_BT: jax.Array
) -> dict[str, list[jax.Array]]:
    return attention_weights(model, params, source_BS, target_BT)


def _encode(tokenizer: Tokenizer, side: Side, text: str, longest: int | None) -> np.ndarray:
    if not text.strip():
        raise ValueError(f"The {side} sentence is blank. Give one with words.")
    (tokens,) = tokenizer.encode([text], side)
    if longest is not None and len(tokens) > longest:
        raise ValueError(
            f"The {side} sentence has {len(tokens)} tokens, more than the {longest} of the longest "
            "sentences that the model was trained on. Give a shorter one, or a part of it."
        )
    return tokens


def _padded(tokens: np.ndarray) -> jax.Array:
    width = -(-max(1, len(tokens)) // _WIDTH) * _WIDTH
    return jnp.asarray(np.pad(tokens, (0, width - len(tokens)), constant_values=PAD)[None])


def _trimmed(
    layers: Sequence[jax.Array], queries: Sequence[str], keys: Sequence[str]
) -> np.ndarray:
    return np.stack(
        [
            np.asarray(weights_BHTS[0, :, : len(queries), : len(keys)], np.float32)
            for weights_BHTS in layers
        ]
    )
