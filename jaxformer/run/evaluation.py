"""Perplexity and translation scores of a split."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxformer.files import as_path, replace_file
from jaxformer.io.record import to_json
from jaxformer.io.score import Score
from jaxformer.loss import LossSums
from jaxformer.train import Batch, Params

EvalStep = Callable[[Params, Batch], LossSums]


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """How well a model expects the target tokens, EOS included.

    Attributes:
      nll: unsmoothed, mean a token, nats.
      accuracy: share of tokens that were the most probable ones.
      tokens: how many there are.
    """

    nll: float
    accuracy: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """exp(nll), per word piece; infinite where that overflows."""
        return math.inf if self.nll >= 700 else math.exp(self.nll)


def likelihood(eval_step: EvalStep, params: Params, batches: Iterable[Batch]) -> Likelihood:
    """Returns means over all batches.

    Args:
      eval_step: compiled.
    """
    # Kept on the device until all batches have been handed to it.
    return _likelihood([eval_step(params, batch) for batch in batches])


def likelihoods(eval_step: EvalStep, params: Params, batches: Iterable[Batch]) -> list[Likelihood]:
    """`likelihood` of every row of a population.

    Args:
      eval_step: a population's, compiled.
      params: stacked, as are the sums that the step gives.
    """
    sums = jax.device_get([eval_step(params, batch) for batch in batches])
    return [
        _likelihood([jax.tree.map(lambda field, row=row: field[row], each) for each in sums])
        for row in range(len(sums[0].tokens))
    ]


def _likelihood(sums: Sequence[LossSums]) -> Likelihood:
    tokens = sum(float(each.tokens) for each in sums)
    return Likelihood(
        nll=sum(float(each.nll) for each in sums) / max(tokens, 1.0),
        accuracy=sum(float(each.correct) for each in sums) / max(tokens, 1.0),
        tokens=int(tokens),
    )


def write_evaluation(
    workdir: str | os.PathLike[str],
    split: str,
    *,
    translations: Iterable[str],
    score: Score,
    likelihood: Likelihood,
    details: Mapping[str, Any],
) -> tuple[Path, Path]:
    """Writes workdir/translations/<split>.txt and workdir/evaluation/<split>.json.

    Args:
      details: what else belongs to the record, such as the checkpoints and the beam.

    The record is strict JSON, with numbers that are not finite as text (see `to_json`).

    Returns: the two paths.
    """
    text_path = as_path(workdir) / "translations" / f"{split}.txt"
    record_path = as_path(workdir) / "evaluation" / f"{split}.json"
    record = {
        "split": split,
        **dataclasses.asdict(score),
        "nll": likelihood.nll,
        "perplexity": likelihood.perplexity,
        "accuracy": likelihood.accuracy,
        "target_tokens": likelihood.tokens,
        **details,
    }
    replace_file(text_path, "".join(f"{line}\n" for line in translations))
    replace_file(record_path, json.dumps(to_json(record), indent=2, allow_nan=False) + "\n")
    return text_path, record_path
