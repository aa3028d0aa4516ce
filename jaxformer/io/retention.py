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
      every: one is due at each multiple of so many steps; 0: at none.
      best: its step, if it is to stay.
    """

    keep: int
    every: int = 1
    best: int | None = None

    def stays(self, steps: Sequence[int]) -> list[bool]:
        """Tells of each of `steps`, ascending, whether it stays."""
        due = [step for step in steps if self.every > 0 and step % self.every == 0]
        kept = {*due[-self.keep :], *steps[-1:], self.best}
        return [step in kept for step in steps]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Answers Orbax, which asks a `PreservationPolicy` so."""
        del context
        return self.stays([checkpoint.step for checkpoint in checkpoints])
