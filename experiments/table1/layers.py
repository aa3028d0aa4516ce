"""The layers of Table 1: pure functions from one row of vectors to another of the same shape.

The legend of shapes is that of jaxformer.model. F stands for the four gates of an LSTM here, which
are as wide as the model each, and C for the positions that a kernel covers.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxformer.model import (
    Mask,
    MultiHeadAttention,
    Positions,
    dot_product_attention,
    restricted_attention,
)
from jaxformer.model.attention import Attend

# Of a head, as in the paper's models.
HEAD_WIDTH = 64

Params = dict[str, Any]
Run = Callable[[Params, jax.Array], jax.Array]
Carry = tuple[jax.Array, jax.Array]


class Layer(NamedTuple):
    """A row of Table 1, or a variant of one.

    Attributes:
      title: for tables and pictures.
      operations, sequential, path: the table's O(...), with n, d, k and r.
      make: (width, size) -> the function (params, x_TD) -> y_TD.
      draw: (generator, width, size) -> params.
      size: the table's k, or its r, unless another is asked for; 0 where there is none.
      size_name: "k", "r" or "".
    """

    title: str
    operations: str
    sequential: str
    path: str
    make: Callable[[int, int], Run]
    draw: Callable[[np.random.Generator, int, int], Params]
    size: int = 0
    size_name: str = ""


def attend_alone(attend: Attend, width: int, window: int | None = None) -> Run:
    """Eq. 1 over the vectors as they are, cut into heads: what the table counts of attention."""
    d_k = min(HEAD_WIDTH, width)

    def run(params: Params, x_TD: jax.Array) -> jax.Array:
        del params
        x_BTHK = x_TD.reshape(1, len(x_TD), width // d_k, d_k)
        out_BTHV, _ = attend(x_BTHK, x_BTHK, x_BTHK, Mask(window=window), _positions(x_TD))
        return out_BTHV.reshape(x_TD.shape)

    return run


def attend_projected(width: int) -> Run:
    """Multi-head attention with its four projections, as a model has it (section 3.2.2)."""
    module = _multi_head(width)

    def run(params: Params, x_TD: jax.Array) -> jax.Array:
        x_BTD = x_TD[None]
        return module.apply({"params": params}, x_BTD, x_BTD, Mask(), _positions(x_TD))[0]

    return run


def lstm_step(params: Params, carry: Carry, gates_F: jax.Array) -> tuple[Carry, jax.Array]:
    """One position of an LSTM: ((hidden_D, cell_D), the input's part of the gates) -> the next."""
    hidden_D, cell_D = carry
    gates_F = gates_F + hidden_D @ params["hidden_DF"]
    in_D, forget_D, new_D, out_D = jnp.split(gates_F, 4, axis=-1)
    cell_D = jax.nn.sigmoid(forget_D) * cell_D + jax.nn.sigmoid(in_D) * jnp.tanh(new_D)
    hidden_D = jax.nn.sigmoid(out_D) * jnp.tanh(cell_D)
    return (hidden_D, cell_D), hidden_D


def recur(params: Params, x_TD: jax.Array, *, unroll: int = 1) -> jax.Array:
    """An LSTM from left to right; only the state's products are made one after another.

    Args:
      unroll: positions in the body of the compiled loop, which changes no result.
    """
    gates_TF = x_TD @ params["input_DF"] + params["bias_F"]
    start_D = jnp.zeros_like(x_TD[0])
    step = functools.partial(lstm_step, params)
    _, hidden_TD = jax.lax.scan(step, (start_D, start_D), gates_TF, unroll=unroll)
    return hidden_TD


def convolve(params: Params, x_TD: jax.Array, *, dilation: int) -> jax.Array:
    """A convolution over the row: a product for each of the k positions that its kernel covers.

    These are a position's own and those before it, as in a decoder. Dilated kernels that look to
    both sides would have to go beyond the row's ends on their way between them.

    Args:
      dilation: how far they are apart; 1 in a stack of contiguous kernels.
    """
    kernel_CDD = params["kernel_CDD"]
    wide_TD = jnp.pad(x_TD, (((len(kernel_CDD) - 1) * dilation, 0), (0, 0)))
    parts = [
        wide_TD[number * dilation :][: len(x_TD)] @ kernel_DD
        for number, kernel_DD in enumerate(kernel_CDD)
    ]
    return functools.reduce(jnp.add, parts)


def window_of(neighbourhood: int) -> int:
    """Returns `Mask.window` of a neighbourhood of r positions, the token's own in its middle."""
    return neighbourhood // 2 + 1


def _multi_head(width: int) -> MultiHeadAttention:
    d_k = min(HEAD_WIDTH, width)
    return MultiHeadAttention(d_model=width, num_heads=width // d_k, d_k=d_k, d_v=d_k)


def _positions(x_TD: jax.Array) -> Positions:
    index_BT = jnp.arange(len(x_TD), dtype=jnp.int32)[None]
    return Positions(index_BT, index_BT)


def _normal(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Returns a matrix, or several, whose products are about as large as what they multiply."""
    return generator.normal(scale=1 / math.sqrt(shape[-2]), size=shape).astype(np.float32)


def _draw_projections(generator: np.random.Generator, width: int, size: int) -> Params:
    x_TD = jnp.zeros((2, width))
    arguments = x_TD[None], x_TD[None], Mask(), _positions(x_TD)
    shapes = jax.eval_shape(_multi_head(width).init, jax.random.key(0), *arguments)["params"]
    scale = 1 / math.sqrt(width)
    return jax.tree.map(
        lambda leaf: generator.normal(scale=scale, size=leaf.shape).astype(np.float32), shapes
    )


def _draw_lstm(generator: np.random.Generator, width: int, size: int) -> Params:
    return {
        "input_DF": _normal(generator, width, 4 * width),
        "hidden_DF": _normal(generator, width, 4 * width),
        "bias_F": np.zeros(4 * width, np.float32),
    }


def _draw_kernel(generator: np.random.Generator, width: int, size: int) -> Params:
    return {"kernel_CDD": _normal(generator, size, width, width) / math.sqrt(size)}


LAYERS = {
    "attention": Layer(
        "self-attention (Eq. 1)",
        *("n^2 d", "1", "1"),
        make=lambda width, size: attend_alone(dot_product_attention, width),
        draw=lambda generator, width, size: {},
    ),
    "attention_projected": Layer(
        "self-attention with projections",
        *("n^2 d + n d^2", "1", "1"),
        make=lambda width, size: attend_projected(width),
        draw=_draw_projections,
    ),
    "recurrent": Layer(
        "recurrent (LSTM)",
        *("n d^2", "n", "n"),
        make=lambda width, size: recur,
        draw=_draw_lstm,
    ),
    "convolutional": Layer(
        "convolutional, stacked",
        *("k n d^2", "1", "n / k"),
        make=lambda width, size: functools.partial(convolve, dilation=1),
        draw=_draw_kernel,
        size=3,
        size_name="k",
    ),
    "dilated": Layer(
        "convolutional, dilated",
        *("k n d^2", "1", "log_k n"),
        # The second layer of a stack: neighbours k positions apart.
        make=lambda width, size: functools.partial(convolve, dilation=size),
        draw=_draw_kernel,
        size=3,
        size_name="k",
    ),
    "restricted": Layer(
        "self-attention, restricted",
        *("r n d", "1", "n / r"),
        make=lambda width, size: attend_alone(restricted_attention, width, window_of(size)),
        draw=lambda generator, width, size: {},
        size=33,
        size_name="r",
    ),
}
