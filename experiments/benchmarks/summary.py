"""Figures of several passes: medians, their spread, and ratios pass by pass."""

import statistics
from collections.abc import Mapping, Sequence


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns median, least and most.

    Raises: ValueError if there is no value.
    """
    if not values:
        raise ValueError("There is no figure to take the median of. Give one a pass.")
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Returns the spread of ours / theirs, pass by pass, so that what slows a pass cancels.

    Raises: ValueError if there is none, or not as many of one as of the other.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} figures cannot be divided by {len(theirs)} one by one.")
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def best(rates: Mapping[str, Sequence[float]]) -> str | None:
    """Returns the name of the highest median, None if there is nothing."""
    if not rates:
        return None
    return max(rates, key=lambda name: statistics.median(rates[name]))
