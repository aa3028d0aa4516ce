"""What evaluation and translation read of a run: its vocabulary and its averaged parameters."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.data.tokenizer import Tokenizer
from jaxformer.files import as_path
from jaxformer.io.checkpoint import Checkpoints
from jaxformer.model import Transformer
from jaxformer.model.layout import ALONE
from jaxformer.run.preparation import load_tokenizer
from jaxformer.train import Params, average


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
      steps: those of the checkpoints whose parameters were averaged, newest first.
    """

    model: Transformer
    params: Params
    tokenizer: Tokenizer
    steps: list[int]


def checkpoints_path(workdir: str | os.PathLike[str]) -> Path:
    """Where a run keeps its checkpoints."""
    return as_path(workdir) / "checkpoints"


def restore(
    workdir: str | os.PathLike[str],
    make_model: Callable[[int], Transformer],
    num_average: int,
    which: str = "newest",
) -> Trained:
    """Reads a run's vocabulary and the mean of its newest `num_average` checkpoints (6.1).

    Fewer are averaged where there are fewer.

    Args:
      make_model: size of the vocabulary -> model.
      which: "best" reads the one checkpoint with the smallest `valid_nll` instead.

    Raises: ValueError if there is no checkpoint, or what is there cannot be read or does not fit;
      if the best is asked for and none was saved at the step of an evaluation, or it is gone.
    """
    with Checkpoints(checkpoints_path(workdir), read_only=True) as checkpoints:
        meta = checkpoints.read_meta()
        tokenizer = load_tokenizer(workdir, meta["tokenizer"])
        model = make_model(tokenizer.vocab_size)
        shapes = abstract_params(model)
        if which == "best":
            steps = [_best_step(workdir, meta)]
            (params,) = checkpoints.params_of(steps, shapes)
        else:
            steps = checkpoints.last_steps(num_average)
            params = average(checkpoints.params_of(steps, shapes))
    return Trained(model, params, tokenizer, steps)


def _best_step(workdir: str | os.PathLike[str], meta: Mapping[str, Any]) -> int:
    step = meta.get("patience", {}).get("saved_step")
    if step is None:
        raise ValueError(
            f"No checkpoint of {workdir} is known as the best: none was saved at the step of an "
            "evaluation, or the run is older than that knowledge. Read the newest: "
            "decode.checkpoint=newest."
        )
    return step


def abstract_params(model: Transformer) -> Params:
    """Returns shapes and types of the model's parameters."""
    token_BT = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    # One row is not spread over devices.
    init = model.clone(layout=ALONE).init
    return jax.eval_shape(init, jax.random.key(0), token_BT, token_BT)["params"]


def count_parameters(model: Transformer) -> int:
    """Returns the number of parameters, rows that only fill up the vocabulary not counted."""
    params = abstract_params(model)
    rows = params["embedding"]["table"].shape[0]
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    return total - (rows - model.vocab_size) * model.d_model
