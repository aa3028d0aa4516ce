"""How arrays lie on devices, as an argument of the model, which so needs to know of no mesh."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Layout(NamedTuple):
    """What the model asks for where arrays lie on several devices (see jaxformer.sharding).

    Attributes:
      constrain: (array, *axes) -> the same array, laid out so: a name or None for each axis of it,
        those left out at the end are None. The names are those of `jaxformer.sharding.RULES`.
      sum_over_rows: (function, rows, shared) -> function(rows, shared), where every array of `rows`
        begins with the axis B and the function gives sums over it. Devices that have some of the
        rows each work off their own, and only what they have summed up is added over devices.
    """

    constrain: Callable[..., jax.Array]
    sum_over_rows: Callable[[Callable[[Any, Any], Any], Any, Any], Any]


def _leave(array: jax.Array, *axes: str | None) -> jax.Array:
    del axes
    return array


def _apply(function: Callable[[Any, Any], Any], rows: Any, shared: Any) -> Any:
    return function(rows, shared)


ALONE = Layout(constrain=_leave, sum_over_rows=_apply)
"""Of one device, or of a caller that sees to it."""
