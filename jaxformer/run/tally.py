"""Sums over the steps since the last line of metrics.jsonl."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np


@dataclasses.dataclass
class Tally:
    """What a line of metrics is computed from; kept in a checkpoint when saved between two lines.

    Attributes:
      steps: how many there are.
      loss, nll: sums over target tokens, nats.
      grad_norm: sum over steps.
      source_tokens, target_tokens: real tokens.
      slots: places for tokens, both sides together.
      learning_rate: of the last step.
      seconds: of training, evaluation and saving left out.
      skipped: steps whose update was left out, which only this and `seconds` count.
    """

    steps: int = 0
    loss: float = 0.0
    nll: float = 0.0
    grad_norm: float = 0.0
    source_tokens: float = 0.0
    target_tokens: float = 0.0
    slots: int = 0
    learning_rate: float = 0.0
    seconds: float = 0.0
    skipped: int = 0

    def add(self, metrics: Mapping[str, Any], slots: int, seconds: float) -> None:
        """Adds a step's metrics, as the train step gives them."""
        self.seconds += seconds
        if metrics.get("skipped"):
            self.skipped += 1
            return
        tokens = float(metrics["target_tokens"])
        self.steps += 1
        self.loss += float(metrics["loss"]) * tokens
        self.nll += float(metrics["nll"]) * tokens
        self.grad_norm += float(metrics["grad_norm"])
        self.source_tokens += float(metrics["source_tokens"])
        self.target_tokens += tokens
        self.slots += slots
        self.learning_rate = float(metrics["learning_rate"])

    def row(self, step: int) -> dict[str, Any]:
        """Returns the line of metrics of the steps up to `step`: means a target token, sums.

        It has `skipped` only where that is not 0; the means of no step are NaN.
        """
        tokens = max(self.target_tokens, 1.0) if self.steps else math.nan
        row = {
            "step": step,
            "loss": self.loss / tokens,
            "nll": self.nll / tokens,
            "learning_rate": np.float32(self.learning_rate),
            "grad_norm": self.grad_norm / (self.steps or math.nan),
            "source_tokens": int(self.source_tokens),
            "target_tokens": int(self.target_tokens),
            "padding": self.padding,
            "seconds": round(self.seconds, 4),
        }
        return {**row, "skipped": self.skipped} if self.skipped else row

    @property
    def is_empty(self) -> bool:
        """Whether there is no step."""
        return self.steps + self.skipped == 0

    @property
    def padding(self) -> float:
        """Share of slots without a token."""
        return 1.0 - (self.source_tokens + self.target_tokens) / max(self.slots, 1)

    def to_json(self) -> dict[str, Any]:
        """Returns all sums, for `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Returns the tally that `to_json` was called on."""
        return cls(**fields)
