"""How far apart the ends of a row are: layers until the last position hears of the first."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.table1.layers import LAYERS, convolve, lstm_step

# Which positions a gradient reaches does not depend on the width.
WIDTH = 4

Application = Callable[[jax.Array], jax.Array]


def path_length(name: str, length: int) -> int:
    """Returns how many layers lie between position n's output and position 1's input, by gradients.

    Counted down from the last position: the gradient of its output with regard to a layer's input
    tells which positions of the layer below count, and so on until the first is among them. Only
    which gradients are not zero is handed down, at random sizes, since through hundreds of layers
    their values would come to less than a float can hold.

    For the recurrent layer, which joins all positions itself, what is counted is its cell: one
    application goes from the state of each position to that of the next.
    """
    generator = np.random.default_rng(0)
    shape = length, WIDTH
    reached_T = np.arange(length) == length - 1
    layers = _pullbacks(name, generator, shape)
    count = 0
    while not reached_T[0]:
        size_TD = 1.0 + generator.random(shape, np.float32)
        gradient_TD = next(layers)(size_TD * reached_T[:, None])
        reached_T = np.any(np.asarray(gradient_TD) != 0.0, axis=1)
        count += 1
    return count


def _pullbacks(
    name: str, generator: np.random.Generator, shape: tuple[int, int]
) -> Iterator[Application]:
    """Yields gradient functions, output to input, of a stack's layers from the last one down."""
    layer = LAYERS[name]
    params = layer.draw(generator, WIDTH, layer.size)
    x_TD = generator.normal(size=shape).astype(np.float32)

    def pullback(run: Application) -> Application:
        # As a constant of the program, the input would be computed with while it is compiled.
        compiled = jax.jit(lambda x_TD, gradient_TD: jax.vjp(run, x_TD)[1](gradient_TD)[0])
        return lambda gradient_TD: compiled(x_TD, gradient_TD)

    if name == "dilated":
        dilation = 1
        while True:
            yield pullback(_dilated(params, dilation))
            dilation *= layer.size
    run = _cell(params, generator, shape) if name == "recurrent" else layer.make(WIDTH, layer.size)
    alike = pullback(lambda x_TD: run(params, x_TD))
    while True:
        yield alike


def _dilated(params: Any, dilation: int) -> Application:
    return lambda x_TD: convolve(params, x_TD, dilation=dilation)


def _cell(
    params: Any, generator: np.random.Generator, shape: tuple[int, int]
) -> Callable[[Any, jax.Array], jax.Array]:
    """Returns one application of the recurrent layer's cell, from all positions to their next."""
    gates_TF = jnp.asarray(generator.normal(size=(shape[0], 4 * shape[1])), jnp.float32)

    def run(params: Any, hidden_TD: jax.Array) -> jax.Array:
        before_TD = jnp.pad(hidden_TD[:-1], ((1, 0), (0, 0)))
        _, after_TD = lstm_step(params, (before_TD, jnp.ones_like(before_TD)), gates_TF)
        return after_TD

    return run
