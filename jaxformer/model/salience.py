"""How much attention each token of a text receives, from the weights of an encoder's layers."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def received(weights_BHTS: jax.Array, is_token_BS: jax.Array) -> jax.Array:
    """Returns the share of one layer's attention that each token receives, share_BS.

    The mean over the heads and over the tokens that look; padding neither looks nor is seen. The
    shares of a text sum to 1.
    """
    return _mean_over_queries(jnp.mean(weights_BHTS, axis=1), is_token_BS)


def rolled_out(weights: Sequence[jax.Array], is_token_BS: jax.Array) -> jax.Array:
    """Returns each token's share of what reaches the last layer, share_BS.

    Attention rollout (Abnar and Zuidema, 2020): each layer's weights, as a mean over its heads,
    and what the residual connection passes on count half each, and layers multiply.

    Args:
      weights: weights_BHSS of each layer, the first one first.
    """
    flow_BTS = jnp.eye(is_token_BS.shape[1], dtype=jnp.float32)[None]
    for weights_BHTS in weights:
        layer_BTS = (jnp.mean(weights_BHTS, axis=1) + jnp.eye(weights_BHTS.shape[-1])) / 2
        flow_BTS = layer_BTS @ flow_BTS
    return _mean_over_queries(flow_BTS, is_token_BS)


def _mean_over_queries(share_BTS: jax.Array, is_token_BT: jax.Array) -> jax.Array:
    looks_BT = is_token_BT.astype(share_BTS.dtype)
    total_BS = jnp.einsum("bt,bts->bs", looks_BT, share_BTS)
    return total_BS / jnp.maximum(looks_BT.sum(axis=1, keepdims=True), 1)
