"""What is measured of Table 1, and one measurement of it."""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.shared.memory import peak_bytes
from experiments.table1.layers import LAYERS, recur
from experiments.table1.program import flops, loop_flops, sequential_products

DIRECTIONS = ("forward", "training")
# Seconds: calls of a program are repeated until they have taken so long together.
_ENOUGH = 0.06
_FEWEST_CALLS = 3
# Seconds: a program that takes longer is called once a pass, its first call too.
_LONG = 0.5


class Grid(NamedTuple):
    """Lengths and widths of all layers, and more sizes of kernel and neighbourhood at one place.

    Attributes:
      sizes: (name of a layer, length, width, sizes).
    """

    lengths: tuple[int, ...]
    widths: tuple[int, ...]
    sizes: tuple[tuple[str, int, int, tuple[int, ...]], ...]


FULL = Grid(
    lengths=(64, 128, 256, 512, 1024, 2048, 4096),
    widths=(64, 256, 1024),
    sizes=(
        ("convolutional", 512, 256, (5, 9, 17)),
        ("restricted", 4096, 256, (65, 129, 257, 513)),
    ),
)
QUICK = Grid(
    lengths=(64, 128, 256, 512),
    widths=(64, 128),
    sizes=(("convolutional", 128, 64, (5, 9)), ("restricted", 512, 64, (65, 129))),
)


class Case(NamedTuple):
    """A program to measure: a layer forward, or forward and backward as in training.

    Attributes:
      size: k or r; 0 for layers without.
    """

    layer: str
    direction: str
    length: int
    width: int
    size: int

    @property
    def name(self) -> str:
        """Names the case in the record."""
        size = f"/{LAYERS[self.layer].size_name}={self.size}" if self.size else ""
        return f"{self.layer}/{self.direction}/n={self.length}/d={self.width}{size}"

    @classmethod
    def from_name(cls, name: str) -> "Case":
        """Returns the case of that name."""
        layer, direction, *values = name.split("/")
        numbers = [int(value.partition("=")[2]) for value in values]
        return cls(layer, direction, *numbers, *[0] * (3 - len(numbers)))


def cases(grid: Grid) -> list[Case]:
    """Returns all cases of a grid."""
    places = [
        (name, length, width, layer.size)
        for name, layer in LAYERS.items()
        for width in grid.widths
        for length in grid.lengths
    ]
    places += [
        (name, length, width, size) for name, length, width, sizes in grid.sizes for size in sizes
    ]
    return [Case(name, direction, *place) for name, *place in places for direction in DIRECTIONS]


class Program(NamedTuple):
    """A case ready to run."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    lowered: jax.stages.Lowered
    compiled: jax.stages.Compiled

    def run(self) -> float:
        """Runs the program once; returns the seconds it took."""
        start = time.perf_counter()
        jax.block_until_ready(self.compiled(*self.arguments))
        return time.perf_counter() - start


def prepare(case: Case) -> Program:
    """Compiles a case for random parameters and vectors."""
    function, arguments = _function(case), _arguments(case)
    lowered = jax.jit(function).lower(*arguments)
    return Program(function, arguments, lowered, lowered.compile())


def facts(case: Case, program: Program) -> dict[str, Any]:
    """Returns what the program itself says: operations, bytes and products one after another."""
    if case.layer == "recurrent":
        twice = jax.jit(_function(case, unroll=2)).lower(*program.arguments)
        operations = loop_flops(program.lowered, twice, case.length)
    else:
        operations = flops(program.lowered)
    return {
        "flops": operations,
        "peak_bytes": peak_bytes(program.compiled),
        "sequential": sequential_products(program.function, *program.arguments),
    }


def seconds(program: Program) -> tuple[float, int]:
    """Returns the median time of a call, and of how many calls.

    The first call finds caches cold and memory not yet asked for, so it counts only where that is
    little of it.
    """
    first = program.run()
    if first > _LONG:
        return first, 1
    times: list[float] = []
    while len(times) < _FEWEST_CALLS or sum(times) < _ENOUGH:
        times.append(program.run())
    return statistics.median(times), len(times)


def _function(case: Case, **options: Any) -> Callable[..., Any]:
    run = LAYERS[case.layer].make(case.width, case.size)
    if options:
        run = functools.partial(recur, **options)
    if case.direction == "forward":
        return run

    def train(params: Any, x_TD: jax.Array, gradient_TD: jax.Array) -> Any:
        """Returns the layer's output, and the gradients of parameters and input."""
        y_TD, pullback = jax.vjp(run, params, x_TD)
        return y_TD, pullback(gradient_TD)

    return train


def _arguments(case: Case) -> tuple[Any, ...]:
    params, vectors = _params(case.layer, case.width, case.size), _vectors(case.length, case.width)
    return (params, *vectors[: 1 if case.direction == "forward" else 2])


@functools.cache
def _params(name: str, width: int, size: int) -> Any:
    return jax.device_put(LAYERS[name].draw(np.random.default_rng(0), width, size))


@functools.cache
def _vectors(length: int, width: int) -> list[jax.Array]:
    generator = np.random.default_rng([length, width])
    return [
        jax.device_put(generator.normal(size=(length, width)).astype(np.float32)) for _ in range(2)
    ]
