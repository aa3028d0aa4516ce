"""What a function costs by its program: operations, and products one after another."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

# What counts as a step: a matrix product. All else is small beside it, or parallel.
_PRODUCTS = {"dot_general", "conv_general_dilated"}


def flops(lowered: jax.stages.Lowered) -> float:
    """Returns the floating-point operations of a program by XLA's cost analysis.

    Of the program as it was written: a compiled one computes some cheap things twice instead of
    storing them. The body of a loop is counted once, however often it runs; `loop_flops` mends
    that.
    """
    analysis: Any = lowered.cost_analysis()
    return float(analysis["flops"])


def loop_flops(once: jax.stages.Lowered, twice: jax.stages.Lowered, length: int) -> float:
    """Returns the operations of a program whose loops all run `length` times.

    Args:
      once: the program with one turn in each loop's body.
      twice: the same with two turns in it, and half as many turns; what XLA counts more is a turn.
    """
    return flops(once) + (length - 1) * (flops(twice) - flops(once))


def sequential_products(function: Callable[..., Any], *args: Any) -> int:
    """Returns the most matrix products of a function that must wait for one another.

    A loop of `jax.lax.scan` is followed turn by turn. A product of a loop waits for those before it
    only if it needs what they gave.
    """
    jaxpr = jax.make_jaxpr(function)(*args)
    return max(_depths(jaxpr.jaxpr, [0] * len(jaxpr.in_avals)), default=0)


def _depths(jaxpr: core.Jaxpr, depths: Sequence[int]) -> list[int]:
    """Returns the products before each result, given those before each argument."""
    known = dict(zip(jaxpr.invars, depths, strict=True))

    def depth(atom: Any) -> int:
        # Literals and constants wait for nothing.
        return 0 if isinstance(atom, core.Literal) else known.get(atom, 0)

    for equation in jaxpr.eqns:
        before = [depth(atom) for atom in equation.invars]
        name, params = equation.primitive.name, equation.params
        inner = params.get("jaxpr", params.get("call_jaxpr"))
        # Some are closed over constants, some are not.
        inner = getattr(inner, "jaxpr", inner)
        if name == "scan":
            after = _scan_depths(equation, inner, before)
        elif inner is not None:
            after = _depths(inner, before)
        else:
            deepest = max(before, default=0) + (name in _PRODUCTS)
            after = [deepest] * len(equation.outvars)
        known.update(zip(equation.outvars, after, strict=True))
    return [depth(atom) for atom in jaxpr.outvars]


def _scan_depths(equation: Any, body: core.Jaxpr, depths: Sequence[int]) -> list[int]:
    # Among a loop's arguments and results the stacked ones, which come last, have one axis more
    # than in its body.
    def count_stacked(outside: Sequence[Any], inside: Sequence[Any]) -> int:
        return sum(a.aval.ndim > b.aval.ndim for a, b in zip(outside, inside, strict=True))

    stacked = len(depths) - count_stacked(equation.invars, body.invars)
    carries = len(body.outvars) - count_stacked(equation.outvars, body.outvars)
    fixed, carry = list(depths[: stacked - carries]), list(depths[stacked - carries : stacked])
    results = [0] * (len(body.outvars) - carries)
    for _ in range(equation.params["length"]):
        after = _depths(body, [*fixed, *carry, *depths[stacked:]])
        carry, turn = after[:carries], after[carries:]
        results = list(map(max, results, turn))
    return [*carry, *results]
