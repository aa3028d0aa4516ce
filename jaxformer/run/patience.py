"""An end before the last step, once a training has stopped to get better."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self


@dataclasses.dataclass
class Patience:
    """Counts evaluations that bring nothing; kept in every checkpoint.

    Attributes:
      limit: as many of them in a row end the training; 0: never.
      best: the smallest negative log-likelihood on the validation split so far.
      waited: evaluations since that one.
    """

    limit: int
    best: float = math.inf
    waited: int = 0

    def see(self, nll: float) -> None:
        """Takes note of an evaluation; one that is not a number brings nothing."""
        if nll < self.best:
            self.best, self.waited = nll, 0
        else:
            self.waited += 1

    @property
    def is_spent(self) -> bool:
        """Whether the training is to end."""
        return 0 < self.limit <= self.waited

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` goes on from."""
        return {"best": self.best, "waited": self.waited}

    @classmethod
    def from_json(cls, limit: int, fields: Mapping[str, Any]) -> Self:
        """Goes on from what `to_json` gave, perhaps with another limit; {} is the beginning."""
        return cls(limit, float(fields.get("best", math.inf)), int(fields.get("waited", 0)))
