"""Numbers that are no longer finite: told before they are kept, and traced to their operation."""

import math
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from jaxformer.train import Batch, TrainState

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]

_LIBRARIES = tuple(Path(package.__path__[0]) for package in (jax, flax, optax))
_LOOPS = ("scan", "while", "cond")
_PLACES = 3


class NotFinite(ArithmeticError):
    """A step whose numbers are NaN or infinite; its text names the step and its batch."""


def are_finite(metrics: Mapping[str, Any]) -> bool:
    """Returns whether a step's loss, gradient norm and learning rate are finite."""
    return all(math.isfinite(metrics[name]) for name in ("loss", "grad_norm", "learning_rate"))


def describe(step: int, batch: str, metrics: Mapping[str, Any]) -> str:
    """Returns in words what a step is whose metrics are not finite.

    Args:
      step: counted from 1.
      batch: its name.
    """
    return (
        f"Step {step:,} ({batch}) is not finite: loss {float(metrics['loss']):.4g}, gradient norm "
        f"{float(metrics['grad_norm']):.4g}, learning rate {float(metrics['learning_rate']):.4g}."
    )


@jax.jit
def is_finite(tree: Any) -> jax.Array:
    """Returns whether all floats in a tree are finite, a bool scalar."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in floats]))


def debugged(train_step: TrainStep, name_batch: Callable[[int], str]) -> TrainStep:
    """Returns a step that finds the operation which makes a NaN; it is slower.

    Args:
      train_step: compiled; it must not donate its state, which is needed once more.
      name_batch: step, counted from 1 -> its batch in words.

    Its NotFinite says in a few lines which operation it is, and where in the code.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        with jax.debug_nans(True):
            try:
                return train_step(state, batch)
            except FloatingPointError as error:
                found = error
            if _name(found) in _LOOPS:
                # Without compilation its body is run one operation after another.
                try:
                    with jax.disable_jit():
                        train_step(state, batch)
                except FloatingPointError as error:
                    found = error
        number = int(state.step) + 1
        raise NotFinite(
            f"Step {number:,} ({name_batch(number)}) makes a NaN in {_operation(found)}"
        ) from found

    return step


def _name(error: FloatingPointError) -> str:
    named = re.search(r"encountered in ([\w.-]+)", str(error))
    return named[1] if named else str(error)


def _operation(error: FloatingPointError) -> str:
    places = [
        f"  {place.filename}:{place.lineno}, in {place.name}: {place.line}"
        for place in traceback.extract_tb(error.__traceback__)
        if not any(Path(place.filename).is_relative_to(library) for library in _LIBRARIES)
        and Path(place.filename) != Path(__file__)
    ]
    return "\n".join([f"`{_name(error)}`:", *places[-_PLACES:]])
