"""Giving each of several processes processor cores of its own, where the system knows how (Linux).

The threads of a small model's step wait for each other at every product. Two trainings that each
have one core wait less than two that share both.
"""

import contextlib
import os
import sys
from collections.abc import Generator, Iterable

ANY: frozenset[int] = frozenset()
"""What a process has that may run on all cores."""


def share(taken: Iterable[frozenset[int]], *, processes: int, to_start: int) -> frozenset[int]:
    """Returns the cores for the next process; ANY if there is no core for each.

    The cores that no other process has are divided evenly among those that may still start beside
    it: so one that is the only one has them all.

    Args:
      taken: the cores of each process that runs, fewer than `processes` of them.
      processes: at most so many run at a time.
      to_start: processes that wait to be started, this one with them.
    """
    if sys.platform != "linux":
        return ANY
    cores = os.sched_getaffinity(0)
    if processes > len(cores):
        return ANY
    taken = list(taken)
    free = sorted(cores.difference(*taken))
    return frozenset(free[: len(free) // min(processes - len(taken), to_start)])


@contextlib.contextmanager
def keep_to(cores: frozenset[int]) -> Generator[None]:
    """What the calling thread starts in this context stays on these cores; ANY changes nothing."""
    if sys.platform != "linux" or not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
