"""The heads of a trained model: silencing one, and how widely each spreads its attention."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.model.tokens import PAD
from jaxformer.model.transformer import Transformer, attention_weights

# Where the parameters of an attention are: its stack, and its name in a layer.
_PLACES = {
    "encoder": ("encoder", "attention"),
    "decoder": ("decoder", "attention"),
    "cross": ("decoder", "cross_attention"),
}


class Head(NamedTuple):
    """One head of a model.

    Attributes:
      kind: "encoder" or "decoder" for self-attention, "cross" for the decoder's attention over the
        encoder's output.
      layer, number: counted from 0.
    """

    kind: str
    layer: int
    number: int


def heads_of(model: Transformer) -> list[Head]:
    """Returns all heads: the encoder's, the decoder's, the cross ones, first layers first."""
    layers = {
        "encoder": model.num_encoder_layers,
        "decoder": model.num_decoder_layers,
        "cross": model.num_decoder_layers,
    }
    return [
        Head(kind, layer, number)
        for kind, num_layers in layers.items()
        for layer in range(num_layers)
        for number in range(model.num_heads)
    ]


def silence_head(params: Mapping[str, Any], head: Head) -> dict[str, Any]:
    """Returns parameters under which one head gives zero at every position (section 3.2.2).

    The head's rows of W^O are zero, so that nothing of it enters the concatenation's projection.
    Neither another model nor another compiled program is needed, since parameters are an argument.

    Raises: ValueError if the model has no such head.
    """
    stack, sublayer = _PLACES.get(head.kind, ("", ""))
    path = (stack, f"layer_{head.layer}", sublayer, "out", "kernel")
    kernel_HVD: Any = params
    for name in path:
        kernel_HVD = kernel_HVD.get(name, {})
    if not 0 <= head.number < len(kernel_HVD):
        raise ValueError(
            f"{head} is not in these parameters. Give one that heads_of(model) returns."
        )
    return _replace(params, path, jnp.asarray(kernel_HVD).at[head.number].set(0))


def entropy_sums(
    model: Transformer, params: Any, source_BS: jax.Array, target_BT: jax.Array
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns the entropies of all heads' weights, in nats, summed over the positions of tokens.

    Sums of many batches make a mean over all positions. The entropy is 0 where one link has all
    the weight, and log(n) where n links have as much each.

    Returns: kind of attention -> (sum_LH, number of positions), L being the layers.
    Raises: ValueError if the model's attention function gives no weights.
    """
    sums = {}
    for kind, layers in attention_weights(model, params, source_BS, target_BT).items():
        is_token_BT = (source_BS if kind == "encoder" else target_BT) != PAD
        entropy_LBHT = [
            jnp.sum(jax.scipy.special.entr(weights_BHTS.astype(jnp.float32)), axis=-1)
            for weights_BHTS in layers
        ]
        sum_LH = jnp.stack(
            [
                jnp.sum(jnp.where(is_token_BT[:, None], entropy_BHT, 0), axis=(0, 2))
                for entropy_BHT in entropy_LBHT
            ]
        )
        sums[kind] = sum_LH, jnp.sum(is_token_BT)
    return sums


def _replace(tree: Mapping[str, Any], path: tuple[str, ...], leaf: jax.Array) -> dict[str, Any]:
    first, *rest = path
    return {**tree, first: _replace(tree[first], tuple(rest), leaf) if rest else leaf}
