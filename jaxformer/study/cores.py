"""Giving each of several processes processor cores of its own, where the system knows how (Linux).

The threads of a small model's step wait for each other at every product.
`experiments/benchmarks/jobs.py` measures what it is worth that each training has a core for itself.
"""

import contextlib
import os
import sys
from collections.abc import Generator, Iterable
from pathlib import Path

ANY: frozenset[int] = frozenset()
"""What a process has that may run on all cores."""

_CPUS = Path("/sys/devices/system/cpu")


def share(taken: Iterable[frozenset[int]], processes: int) -> frozenset[int]:
    """Returns the cores for the next process; ANY if there is no core for each, or only one.

    All get equally many, so that a process has as many threads whatever runs beside it. Threads of
    one physical core, and cores of one package, stay together as far as that goes.

    Args:
      taken: the cores of each process that runs, fewer than `processes` of them.
      processes: at most so many run at a time.
    """
    if sys.platform != "linux" or processes == 1:
        return ANY
    cores = sorted(os.sched_getaffinity(0), key=_place)
    others = frozenset().union(*taken)
    return frozenset([core for core in cores if core not in others][: len(cores) // processes])


@contextlib.contextmanager
def keep_to(cores: frozenset[int]) -> Generator[None]:
    """What the calling thread starts in this context stays on these cores; ANY changes nothing.

    So it is if the system refuses: it is for speed alone.
    """
    if sys.platform != "linux" or not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, before)


def _place(core: int) -> tuple[int, int, int]:
    """Returns (package, physical core, number), as far as the system tells."""
    try:
        package, physical = (
            int((_CPUS / f"cpu{core}" / "topology" / name).read_text(encoding="ascii"))
            for name in ("physical_package_id", "core_id")
        )
    except (OSError, ValueError):
        return (0, 0, core)
    return (package, physical, core)
