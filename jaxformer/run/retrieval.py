"""How well a search finds the one right entry: recall, reciprocal rank, and their uncertainty."""

import functools
from collections.abc import Sequence

import numpy as np


def ranks(found: Sequence[Sequence[str]], right: Sequence[str]) -> np.ndarray:
    """Returns the rank of each query's right entry, rank_N from 1; 0 where it was not found.

    Args:
      found: names of the entries that each query found, the nearest first.
      right: the name that each query should have found.
    """
    return np.array(
        [
            names.index(name) + 1 if name in names else 0
            for names, name in zip(map(list, found), right, strict=True)
        ]
    )


def recall(rank_N: np.ndarray, limit: int) -> np.ndarray:
    """Returns for each query whether its right entry is among the first `limit`: 0.0 or 1.0."""
    return ((rank_N > 0) & (rank_N <= limit)).astype(float)


def reciprocal(rank_N: np.ndarray) -> np.ndarray:
    """Returns 1 / rank for each query, 0 where nothing was found; its mean is the MRR."""
    return np.where(rank_N > 0, 1 / np.maximum(rank_N, 1), 0.0)


def interval(
    value_N: np.ndarray, other_N: np.ndarray | None = None, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95% interval of a mean over queries, by the percentile bootstrap.

    Args:
      other_N: the same queries' values with another method; the interval is that of the difference
        of the means then (value less other), query by query.
      samples: draws of as many queries as there are, with replacement.

    Raises: ValueError if there are no queries.
    """
    if not value_N.size:
        raise ValueError("There are no queries to draw from. Give at least one.")
    difference_N = value_N if other_N is None else value_N - other_N
    draws = _draws(value_N.size, samples, seed) @ difference_N / value_N.size
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


@functools.lru_cache(maxsize=2)
def _draws(size: int, samples: int, seed: int) -> np.ndarray:
    """Returns how often each draw holds each query; the same draws for all that is compared."""
    rng = np.random.default_rng(seed)
    return np.stack(
        [np.bincount(rng.integers(0, size, size), minlength=size) for _ in range(samples)]
    ).astype(float)
