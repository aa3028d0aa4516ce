"""What a profiled step's time went into: its events, summed up by parts of the program.

Nothing here runs a program: the events and the program's text are given.
"""

import heapq
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxformer.run.hlo import Array, Computation, Operation, Program
from jaxformer.run.hlo_flops import product_flops

PRODUCT = "matrix product"
OTHER = "other"
# What runs other operations, which have events of their own.
CONTAINER = "container"
_CONTAINERS = {"while", "call", "conditional"}
# Kinds of what is no product: the first of whose operations one is within.
_KINDS = (
    ("gather, scatter", {"gather", "scatter"}),
    ("random bits", {"xor"}),
    ("exponential", {"exponential"}),
    ("reduction", {"reduce", "reduce-window"}),
)
_MOVES = {
    *("bitcast", "concatenate", "constant", "convert", "copy", "dynamic-slice", "fusion"),
    *("dynamic-update-slice", "pad", "parameter", "reshape", "slice", "transpose", "tuple"),
}
_SOURCE = re.compile(r'op_name="([^"]*)"')
# Part of the step: by what its operations are named after; the first that fits.
_PARTS = (
    ("optimizer", re.compile(r"/optimizer/")),
    ("logits and loss", re.compile(r"\(loss\)|/loss/")),
    ("projections of attention", re.compile(r"attention[\w.]*/(query|key|value|out)/")),
    ("scores of attention", re.compile(r"attention/")),
    ("feed-forward", re.compile(r"feed_forward/")),
    ("layer norm", re.compile(r"_norm/")),
    ("residuals and dropout", re.compile(r"/layer_\d+/")),
    ("embedding", re.compile(r"Transformer\.(encode|decode)/")),
    ("state", re.compile(r"^state\.")),
)
_DIMENSIONS = re.compile(r"(lhs|rhs)_(contracting|batch)_dims=\{([\d,]*)\}")


class Event(NamedTuple):
    """One run of an operation.

    Attributes:
      name: of the operation in the program.
      start, end: seconds, by one clock.
    """

    name: str
    start: float
    end: float


class Product(NamedTuple):
    """The form of a matrix product: operands, and which of their axes are contracted and batched.

    Axes that are not named here are the result's.
    """

    left: Array
    right: Array
    contracted: tuple[tuple[int, ...], tuple[int, ...]]
    batched: tuple[tuple[int, ...], tuple[int, ...]]

    def __str__(self) -> str:
        """Returns operands with their axes in letters: k is contracted, b batched."""
        return " x ".join(
            f"{array.dtype}["
            + ", ".join(
                f"{size}{'k' if axis in contracted else 'b' if axis in batched else ''}"
                for axis, size in enumerate(array.dimensions)
            )
            + "]"
            for array, contracted, batched in zip(
                (self.left, self.right), self.contracted, self.batched, strict=True
            )
        )


class Label(NamedTuple):
    """What an operation is counted under.

    Attributes:
      product: of a matrix product, its form.
      flops: of the products in one run of it.
    """

    part: str
    kind: str
    product: Product | None = None
    flops: float = 0.0


@dataclass
class Sum:
    """What all operations under a label have taken, a step: seconds, how many, and operations."""

    seconds: float = 0.0
    runs: float = 0.0
    flops: float = 0.0

    def add(self, other: "Sum") -> None:
        """Adds another to it."""
        self.seconds += other.seconds
        self.runs += other.runs
        self.flops += other.flops


def divide(events: Sequence[Event]) -> list[float]:
    """Returns each event's seconds, such that they add up to the time in which any is going on.

    While several are going on, on threads of their own, each gets an equal part of the time: they
    share the machine.
    """
    seconds = [0.0] * len(events)
    bounds = sorted({bound for event in events for bound in (event.start, event.end)})
    coming = sorted(range(len(events)), key=lambda index: -events[index].start)
    going: list[tuple[float, int]] = []
    for begin, end in itertools.pairwise(bounds):
        while coming and events[coming[-1]].start <= begin:
            index = coming.pop()
            heapq.heappush(going, (events[index].end, index))
        while going and going[0][0] <= begin:
            heapq.heappop(going)
        for _, index in going:
            seconds[index] += (end - begin) / len(going)
    return seconds


def sum_up(program: Program, steps: Sequence[Sequence[Event]]) -> dict[Label, Sum]:
    """Returns the sums of a step, means over several; all seconds are those of `divide`.

    Raises: ValueError for an event of an operation that the program does not have.
    """
    labels = {
        name: label(program, computation, operation)
        for computation in program.computations.values()
        for name, operation in computation.operations.items()
    }
    sums: dict[Label, Sum] = defaultdict(Sum)
    for events in steps:
        unknown = next((event.name for event in events if event.name not in labels), None)
        if unknown is not None:
            raise ValueError(f"The trace has an operation {unknown!r}, which the program lacks.")
        inner = [event for event in events if labels[event.name].kind != CONTAINER]
        for event, seconds in zip(inner, divide(inner), strict=True):
            found = labels[event.name]
            each = Sum(seconds / len(steps), 1 / len(steps), found.flops / len(steps))
            sums[found].add(each)
    return dict(sums)


def label(program: Program, computation: Computation, operation: Operation) -> Label:
    """Returns what an operation is counted under.

    A fusion is of one kind, whatever else is fused into it, and of the part that its result is of.
    """
    if operation.opcode in _CONTAINERS:
        return Label(OTHER, CONTAINER)
    inner = list(_within(program, computation, operation))
    part = _part(program, computation, operation)
    products = [(each, found) for each, found in inner if product_flops(each, found)]
    if products:
        flops = sum(product_flops(each, found) for each, found in products)
        return Label(part, PRODUCT, _form(*products[0]), flops)
    opcodes = {found.opcode for _, found in inner}
    if opcodes <= _MOVES:
        return Label(part, "copy, conversion")
    kinds = (kind for kind, its in _KINDS if opcodes & its)
    return Label(part, next(kinds, "elementwise"))


def _within(
    program: Program, computation: Computation, operation: Operation
) -> Iterator[tuple[Computation, Operation]]:
    yield computation, operation
    for name in operation.called:
        called = program.computations[name]
        for inner in called.operations.values():
            yield from _within(program, called, inner)


def _part(program: Program, computation: Computation, operation: Operation) -> str:
    """Names the part by the operation, by what is fused into it, or by what it is a copy of."""
    inner = [found for _, found in _within(program, computation, operation)]
    # The result of what is fused is its last operation.
    around = [operation, *reversed(inner)]
    if source := computation.source(operation.name):
        around.append(source)
    for found in around:
        names = _SOURCE.findall(found.rest)
        for part, pattern in _PARTS:
            if names and pattern.search(names[0]):
                return part
    return OTHER


def _form(computation: Computation, product: Operation) -> Product:
    left, right = (each.results[0] for each in computation.operands(product))
    axes = {
        (side, what): tuple(int(axis) for axis in found.split(",") if axis)
        for side, what, found in _DIMENSIONS.findall(product.rest)
    }
    contracted, batched = (
        (axes.get(("lhs", what), ()), axes.get(("rhs", what), ()))
        for what in ("contracting", "batch")
    )
    return Product(left, right, contracted, batched)
