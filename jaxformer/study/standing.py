"""How far the members of a sweep are, as their workdirs say."""

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jaxformer.files import as_path, read_json
from jaxformer.study.manifest import SPLIT, Member

# Enough for several lines of metrics.
_TAIL = 16_384


def read_scores(folder: str | os.PathLike[str], member: Member) -> dict[str, Any] | None:
    """Returns the member's evaluation; None while it is not finished.

    It is finished when its last checkpoint has been scored, by its protocol too if it has one.
    """
    path = as_path(folder) / member.workdir / "evaluation" / f"{SPLIT}.json"
    try:
        scores = read_json(path)
        is_last = scores["checkpoints"][0] == member.num_steps
        if member.protocol:
            is_last &= scores["published_protocol"]["protocol"] == member.protocol
        # What is not finite is text.
        scores |= {name: float(scores[name]) for name in ("bleu", "perplexity")}
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError):
        return None
    return scores if is_last else None


def last_step(folder: str | os.PathLike[str], member: Member) -> int:
    """Returns the step of the last line of the member's metrics; 0 while there is none."""
    path = Path(folder) / member.workdir / "metrics.jsonl"
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return 0
    # The last line may be torn, for it may be being written.
    for line in reversed(lines[-2:]):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
            continue
    return 0


class Forecast:
    """The time that is left, from the steps done since the start.

    A step is taken to last as long in one member as in another.
    """

    def __init__(
        self,
        members: Iterable[Member],
        folder: str | os.PathLike[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes note of the steps that members still have to do.

        Args:
          clock: in seconds.
        """
        self._folder, self._clock, self._start = folder, clock, clock()
        self._left = {member.id: self._to_do(member) for member in members}
        self._done = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def advance(self, member: Member) -> None:
        """Takes note of how far a member is that runs."""
        left = min(self._to_do(member), self._left[member.id])
        self._done += self._left[member.id] - left
        self._left[member.id] = left

    def end(self, member: Member, is_finished: bool) -> None:
        """Takes note that a member has ended: nothing of it is left."""
        self.advance(member)
        left = self._left.pop(member.id)
        self._done += left if is_finished else 0

    def seconds_left(self) -> float | None:
        """Returns seconds, for all members together; None before the first steps."""
        if not self._done:
            return None
        return self.elapsed * sum(self._left.values()) / self._done

    def _to_do(self, member: Member) -> int:
        return max(0, member.num_steps - last_step(self._folder, member))
