"""Sums over the steps since the last line of metrics.jsonl."""

import dataclasses
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

    def add(self, metrics: Mapping[str, Any], slots: int, seconds: float) -> None:
        """Adds a step's metrics, as the train step gives them."""
        tokens = float(metrics["target_tokens"])
        self.steps += 1
        self.loss += float(metrics["loss"]) * tokens
        self.nll += float(metrics["nll"]) * tokens
        self.grad_norm += float(metrics["grad_norm"])
        self.source_tokens += float(metrics["source_tokens"])
        self.target_tokens += tokens
        self.slots += slots
        self.learning_rate = float(metrics["learning_rate"])
        self.seconds += seconds

    def row(self, step: int) -> dict[str, Any]:
        """Returns the line of metrics of the steps up to `step`: means a target token, sums."""
        tokens = max(self.target_tokens, 1.0)
        return {
            "step": step,
            "loss": self.loss / tokens,
            "nll": self.nll / tokens,
            "learning_rate": np.float32(self.learning_rate),
            "grad_norm": self.grad_norm / max(self.steps, 1),
            "source_tokens": int(self.source_tokens),
            "target_tokens": int(self.target_tokens),
            "padding": self.padding,
            "seconds": round(self.seconds, 4),
        }

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
