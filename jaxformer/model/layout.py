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
      by_row_and_head: attend -> the same attention function, which each device calls with the rows
        and heads that it has; for one without parameters, which gives no weights.
    """

    constrain: Callable[..., jax.Array]
    sum_over_rows: Callable[[Callable[[Any, Any], Any], Any, Any], Any]
    by_row_and_head: Callable[[Callable[..., Any]], Callable[..., Any]]


def _leave(array: jax.Array, *axes: str | None) -> jax.Array:
    del axes
    return array


def _apply(function: Callable[[Any, Any], Any], rows: Any, shared: Any) -> Any:
    return function(rows, shared)


def _as_it_is(attend: Callable[..., Any]) -> Callable[..., Any]:
    return attend


ALONE = Layout(constrain=_leave, sum_over_rows=_apply, by_row_and_head=_as_it_is)
"""Of one device, or of a caller that sees to it."""
