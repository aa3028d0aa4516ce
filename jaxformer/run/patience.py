"""What evaluations of the validation split decide: an early end, and which checkpoint is best."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self


@dataclasses.dataclass
class Patience:
    """Counts evaluations that bring nothing, and knows the best saved; kept in every checkpoint.

    Attributes:
      limit: as many of them in a row end the training; 0: never.
      best: the smallest negative log-likelihood on the validation split so far.
      waited: evaluations since that one.
      saved_best: the smallest of those whose step was due to be saved.
      saved_step: the step of that one; None as long as there is none.
    """

    limit: int
    best: float = math.inf
    waited: int = 0
    saved_best: float = math.inf
    saved_step: int | None = None

    def see(self, nll: float) -> None:
        """Takes note of an evaluation; one that is not a number brings nothing."""
        if nll < self.best:
            self.best, self.waited = nll, 0
        else:
            self.waited += 1

    def see_saved(self, step: int, nll: float) -> None:
        """Takes note of an evaluation whose step is due to be saved."""
        if nll < self.saved_best:
            self.saved_best, self.saved_step = nll, step

    @property
    def is_spent(self) -> bool:
        """Whether the training is to end."""
        return 0 < self.limit <= self.waited

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` goes on from."""
        fields = dataclasses.asdict(self)
        del fields["limit"]
        return fields

    @classmethod
    def from_json(cls, limit: int, fields: Mapping[str, Any]) -> Self:
        """Goes on from what `to_json` gave, perhaps with another limit; {} is the beginning."""
        # In JSON an infinite number is text.
        return cls(
            limit,
            float(fields.get("best", math.inf)),
            int(fields.get("waited", 0)),
            float(fields.get("saved_best", math.inf)),
            fields.get("saved_step"),
        )
