"""Where the layer norm stands around a residual connection."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxformer.model import dropout as dropout_lib
from jaxformer.model.dropout import Dropout

Sublayer = Callable[[jax.Array], jax.Array]


class Residual(NamedTuple):
    """A way to put a sub-layer on the residual stream.

    Attributes:
      connect: (x_BTD, sublayer, norm, dropout) -> x_BTD.
      final_norm: whether a stack ends in a layer norm of its own.
    """

    connect: Callable[[jax.Array, Sublayer, Sublayer, Dropout | None], jax.Array]
    final_norm: bool


def _connect_post_norm(
    x_BTD: jax.Array, sublayer: Sublayer, norm: Sublayer, dropout: Dropout | None
) -> jax.Array:
    return norm(x_BTD + dropout_lib.apply(dropout, sublayer(x_BTD)))


def _connect_pre_norm(
    x_BTD: jax.Array, sublayer: Sublayer, norm: Sublayer, dropout: Dropout | None
) -> jax.Array:
    return x_BTD + dropout_lib.apply(dropout, sublayer(norm(x_BTD)))


post_norm = Residual(_connect_post_norm, final_norm=False)
"""LayerNorm(x + Dropout(Sublayer(x))): the paper's (sections 3.1 and 5.4)."""

pre_norm = Residual(_connect_pre_norm, final_norm=True)
"""x + Dropout(Sublayer(LayerNorm(x))), with a last norm after the stack."""
