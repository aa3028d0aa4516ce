"""Length penalties (section 6.1): what a hypothesis's log probability is divided by.

Log probabilities are not positive and fall with every token, so that without one short hypotheses
rank first. Lengths are those of `Hypotheses`: EOS counts.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

# (length_T, alpha) -> penalty_T: float32, finite and above 0. It need not rise with the length.
LengthPenalty: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]


def gnmt_penalty(length_T: jax.Array, alpha: jax.Array) -> jax.Array:
    """Returns ((5 + length) / 6)^alpha, the paper's choice (6.1), which is Wu et al.'s (2016)."""
    return ((5.0 + length_T) / 6.0) ** alpha


def length_normalisation(length_T: jax.Array, alpha: jax.Array) -> jax.Array:
    """Returns length^alpha; with alpha = 1 the rank is the mean log probability of a token.

    It is fairseq's penalty (alpha is its `lenpen`), which counts EOS too.

    Departs: the paper has `gnmt_penalty`; this one is for comparison with published results.
    """
    return length_T**alpha


def penalty_table(
    length_penalty: LengthPenalty, max_length: int, alpha: jax.Array | float
) -> jax.Array:
    """Returns penalty_T, float32, of the lengths from 1 to max_length.

    Raises: ValueError if the function does not give each length its own.
    """
    length_T = jnp.arange(1, max_length + 1, dtype=jnp.float32)
    penalty_T = jnp.asarray(length_penalty(length_T, jnp.asarray(alpha, jnp.float32)), jnp.float32)
    if penalty_T.shape != length_T.shape:
        raise ValueError(
            f"The length penalty has shape {penalty_T.shape} for lengths of shape "
            f"{length_T.shape}. It must give each length its own."
        )
    return penalty_T
