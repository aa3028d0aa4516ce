"""What a measured process does: time its work, look at its memory, print one line of JSON.

Standard library only: it is imported in the peers' processes too.
"""

import contextlib
import json
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_LEAST_STEPS = 3


def time_steps(
    step: Callable[[int], object], wait: Callable[[], object], *, seconds: float, started: float
) -> dict[str, float]:
    """Times a step, taken again and again.

    The first one is timed from `started`, so with all imports and compilations. The second one
    tells how many fit into `seconds`; those are timed together, three at least.

    Args:
      step: takes the step's number, counted from 0.
      wait: returns when all steps so far are done.
      started: when the process was started, as time.time() gives it.

    Returns: `first_step_seconds`, `step_seconds` (a mean), `steps` (how many it is of),
      `peak_bytes` of memory in the whole process, and `peak_bytes_steps` while it was timed, which
      is `peak_bytes` where the system cannot tell.
    """
    step(0)
    wait()
    first_step_seconds = time.time() - started
    begin = time.perf_counter()
    step(1)
    wait()
    steps = max(_LEAST_STEPS, round(seconds / (time.perf_counter() - begin)))
    before = peak_memory()
    _forget_peak()
    begin = time.perf_counter()
    for number in range(2, steps + 2):
        step(number)
    wait()
    step_seconds = (time.perf_counter() - begin) / steps
    during = peak_memory()
    return {
        "first_step_seconds": first_step_seconds,
        "step_seconds": step_seconds,
        "steps": steps,
        "peak_bytes": max(before, during),
        "peak_bytes_steps": during,
    }


def peak_memory() -> int:
    """Returns the most bytes of memory that this process has held."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    # Linux: from here on VmHWM counts anew.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def fastest(work: Callable[[], object], seconds: float) -> float:
    """Returns the seconds of the fastest of many repetitions, which take `seconds` together."""
    work()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def report(found: Mapping[str, Any]) -> None:
    """Prints what a process has found, where its parent looks for it: the last line."""
    print(json.dumps(found, allow_nan=False), flush=True)
