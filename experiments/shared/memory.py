"""The memory of a program, as its compiler has laid it out."""

from typing import Any

import jax


def peak_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the memory of arguments, results and all between, as XLA has laid it out.

    This is what the program asks for (`memory_analysis`), not what a process was seen to take.
    """
    memory: Any = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
