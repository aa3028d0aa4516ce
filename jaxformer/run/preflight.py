"""What a program will need on a machine, found by compiling it and running nothing."""

import re
import time
from dataclasses import dataclass
from typing import Any

import jax

from jaxformer.run.chips import GIB
from jaxformer.run.hlo import parse
from jaxformer.run.hlo_cost import Cost, cost_of
from jaxformer.run.machine import Machine

_UNITS = {"K": 2**10, "M": 2**20, "G": GIB}


class DoesNotFit(Exception):
    """The compiler found no way to hold a program in a device's memory.

    Attributes:
      needed: bytes that it would take, None if it does not say.
    """

    def __init__(self, needed: int | None) -> None:
        super().__init__("The program does not fit into the device's memory.")
        self.needed = needed


@dataclass(frozen=True)
class Compiled:
    """A compiled program, of one device.

    Attributes:
      seconds: that compiling took.
      arguments: bytes of what it is given.
      results: bytes of what it gives that is not written over an argument.
      temporaries: bytes of all between, activations above all.
      program: bytes of its code.
      cost: see `hlo_cost`.
    """

    seconds: float
    arguments: int
    results: int
    temporaries: int
    program: int
    cost: Cost

    @property
    def memory(self) -> int:
        """Bytes that a device must hold."""
        return self.arguments + self.results + self.temporaries + self.program


@dataclass(frozen=True)
class Bound:
    """Seconds that a program takes at the least, at the chip's published peaks.

    Each would be all of it if the other two took no time; so the largest is a lower bound.
    """

    products: float
    memory: float
    exchange: float

    @property
    def seconds(self) -> float:
        """The bound."""
        return max(self.products, self.memory, self.exchange)

    @property
    def by(self) -> str:
        """What bounds: "products", "memory" or "exchange"."""
        return max(("products", "memory", "exchange"), key=lambda name: getattr(self, name))


def compile_for(function: Any, *arguments: Any) -> Compiled:
    """Compiles a function for shapes that lie where their shardings say.

    Args:
      function: as `jax.jit` gives it.
      arguments: pytrees of `jax.ShapeDtypeStruct`.

    Raises: DoesNotFit if the compiler says so.
    """
    start = time.perf_counter()
    lowered = function.lower(*arguments)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFit(_needed(str(error))) from error
    seconds = time.perf_counter() - start
    memory, text = compiled.memory_analysis(), compiled.as_text()
    if memory is None or text is None:
        raise ValueError("This version of jax does not say what a program needs here.")
    return Compiled(
        seconds=seconds,
        arguments=memory.argument_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        cost=cost_of(parse(text)),
    )


def bound(cost: Cost, machine: Machine) -> Bound | None:
    """Returns the least time that a device needs, None where its chip's peaks are not known."""
    chip = machine.chip
    if chip is None:
        return None
    return Bound(
        products=cost.flops / (chip.flops * machine.share),
        memory=cost.bytes / (chip.bandwidth * machine.share),
        exchange=cost.sent / (chip.link * machine.share),
    )


def bytes_a_device(tree: Any) -> int:
    """Returns what shapes with shardings take on one device."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        local = jax.ShapeDtypeStruct(leaf.sharding.shard_shape(leaf.shape), leaf.dtype)
        total += local.size * _item_size(local.dtype)
    return total


def _item_size(dtype: Any) -> int:
    # A typed key is two words.
    return 8 if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) else dtype.itemsize


def _needed(message: str) -> int | None:
    found = re.search(r"Used ([\d.]+)([KMG]) of", message)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None
