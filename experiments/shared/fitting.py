"""Exponents of a cost: a straight line, or plane, through logarithms."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Fit(NamedTuple):
    """value = factor * product of variable ** exponent, by least squares of logarithms.

    Attributes:
      exponents: variable -> exponent.
      errors: variable -> its standard error.
    """

    exponents: dict[str, float]
    errors: dict[str, float]


def fit_powers(points: Sequence[Mapping[str, float]], value: str, variables: Sequence[str]) -> Fit:
    """Fits the exponents of `variables`, each of which must vary, to `value`.

    Raises: ValueError if the points are not more than the unknowns, or leave one undetermined.
    """
    logs = [{name: math.log(point[name]) for name in (value, *variables)} for point in points]
    return fit_sums(logs, value, variables)


def fit_sums(points: Sequence[Mapping[str, float]], value: str, variables: Sequence[str]) -> Fit:
    """Fits value = constant + sum of exponent * variable, for a cost that grows with a logarithm.

    Raises: ValueError as `fit_powers`.
    """
    matrix = np.array([[1.0, *(point[name] for name in variables)] for point in points])
    values = np.array([point[value] for point in points])
    freedom = len(points) - 1 - len(variables)
    if freedom < 1 or np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        raise ValueError(
            f"{len(points)} points do not determine the exponents of {', '.join(variables)}. "
            "Measure more cases."
        )
    solution, *_ = np.linalg.lstsq(matrix, values, rcond=None)
    variance = float(np.sum((values - matrix @ solution) ** 2)) / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(matrix.T @ matrix)))
    return Fit(
        exponents=dict(zip(variables, solution[1:].tolist(), strict=True)),
        errors=dict(zip(variables, errors[1:].tolist(), strict=True)),
    )


def crossing(
    lengths: Sequence[float], first: Sequence[float], second: Sequence[float]
) -> float | None:
    """Returns the length from which on `first` costs more than `second`, None if it is not there.

    Between two lengths both costs are taken for powers of the length.
    """
    gaps = [math.log(a / b) for a, b in zip(first, second, strict=True)]
    # The last change counts: before it, what is small may be noise.
    for index in range(len(gaps) - 1, 0, -1):
        before, after = gaps[index - 1], gaps[index]
        if before < 0 <= after:
            share = before / (before - after)
            low, high = math.log(lengths[index - 1]), math.log(lengths[index])
            return math.exp(low + share * (high - low))
        if after < 0:
            return None
    return None
