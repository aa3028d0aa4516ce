"""Which checkpoints stay when a newer one is complete."""

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass
class Retention:
    """Keeps the newest checkpoint, the newest `keep` of those that were due, and the best.

    One that was not due (a signal had ended the run there, or the run was made longer since) gives
    way to the next. So a run that was stopped and gone on with holds the checkpoints, and averages
    the ones, that it would have without the stop.

    Attributes:
      keep: so many that were due.
      recent: their steps, ascending; every checkpoint remembers those of its time.
      best: its step, if it is to stay.
    """

    keep: int
    recent: list[int] = dataclasses.field(default_factory=list)
    best: int | None = None

    def add(self, step: int, *, is_due: bool, best: int | None) -> None:
        """Takes note of a step that is about to be saved."""
        due = [*self.recent, *([step] if is_due else [])]
        self.recent, self.best = due[-self.keep :], best

    def stays(self, steps: Sequence[int]) -> list[bool]:
        """Tells of each of `steps`, ascending, whether it stays."""
        kept = {*self.recent, *steps[-1:], self.best}
        return [step in kept for step in steps]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Answers Orbax, which asks a `PreservationPolicy` so."""
        del context
        return self.stays([checkpoint.step for checkpoint in checkpoints])
