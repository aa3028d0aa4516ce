"""The way through a stack of equal layers: what is kept, and how often each is compiled.

Neither changes a number but by rounding, nor the tree of parameters, which stay those of each layer
by its own name: checkpoints, `silence_head` and `attention_weights` know nothing of it.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxformer.model.dropout import Dropout, fold

REMAT = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
"""What the forward pass keeps of a layer beside its input: all that the backward pass reads;
nothing, so that the whole layer is computed twice; the outputs of the projections, so that the
scores of Eq. 1, the softmax and all that is elementwise are."""


def run_layers(
    layers: Sequence[nn.Module],
    x_BTD: jax.Array,
    *facts: Any,
    dropout: Dropout | None,
    remat: str = "none",
    scan: bool = False,
) -> jax.Array:
    """Returns x_BTD after all layers, each called as layer(x_BTD, *facts, dropout of its number).

    Args:
      layers: of one kind and one size, bound to their parameters.
      facts: what every layer reads: memory, masks, positions.
      remat: a name of REMAT.
      scan: one program for all layers, which a loop runs over their stacked parameters, instead of
        one for each. Parameters are stacked within the step: a copy of them, for the sake of one
        tree of parameters whatever the program.

    Where parameters are made, or weights of attention sown, layers run one by one.
    """
    if not layers:
        return x_BTD
    first = layers[0]
    if first.is_initializing() or first.is_mutable_collection("attention"):
        remat, scan = "none", False
    if remat == "none" and not scan:
        for number, layer in enumerate(layers):
            x_BTD = layer(x_BTD, *facts, fold(dropout, number))
        return x_BTD

    # The layer as a function of its parameters.
    unbound = first.clone(parent=None, name=None)

    def apply(x_BTD: jax.Array, params: Any, number: int | jax.Array) -> Any:
        return unbound.apply({"params": params}, x_BTD, *facts, fold(dropout, number))

    run_layer = apply
    if remat != "none":
        # Within a loop the compiler cannot undo it.
        run_layer = jax.checkpoint(apply, policy=REMAT[remat], prevent_cse=not scan)
    params = [layer.variables["params"] for layer in layers]
    if not scan:
        for number, of_layer in enumerate(params):
            x_BTD = run_layer(x_BTD, of_layer, number)
        return x_BTD
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    number_L = jnp.arange(len(layers), dtype=jnp.uint32)
    x_BTD, _ = jax.lax.scan(
        lambda x_BTD, layer: (run_layer(x_BTD, *layer), None), x_BTD, (stacked, number_L)
    )
    return x_BTD
