"""The record of the study: a line for each process, which a later start does not repeat."""

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.growth.cases import Case, Grid
from experiments.growth.laws import memory, operations
from experiments.shared.passes import Key, Row, append_rows, key_of, read_rows, shuffled
from experiments.shared.processes import run_alone

_IDENTITY = ("case", "pass")


def measure(
    folder: Path,
    grid: Grid,
    *,
    passes: int,
    seconds: float,
    allocator: dict[str, str],
    cache: Path,
    report: Callable[[str], None],
) -> None:
    """Measures what the record lacks, each case in a process of its own, so many times over.

    Args:
      seconds: of timed steps a process.
      allocator: of `processes.allocators`.
      cache: folder of compiled programs, which the passes share.
      report: gets a line of text for each process.
    """

    def make_rows(done: set[Key]) -> Iterator[Row]:
        for turn in range(1, passes + 1):
            for case in shuffled(grid.cases(), turn):
                row: Row = {"case": case.name, "pass": turn}
                if key_of(row, _IDENTITY) not in done:
                    found = run_alone(
                        sys.executable,
                        "experiments.growth.process",
                        [case.name, f"--seconds={seconds}"],
                        allocator=allocator,
                        environment={"XDG_CACHE_HOME": str(cache)},
                    )
                    yield {**row, **found}

    append_rows(folder, _IDENTITY, make_rows, report)


class Measured(NamedTuple):
    """All that is known of a case.

    Attributes:
      seconds: of a training step, or of a search, one entry a pass.
      held_bytes: the most that the process held meanwhile, likewise.
      plan_bytes: of the compiled program.
      output_tokens: mean length of a search's outputs; 0 for a training step.
    """

    case: Case
    seconds: list[float]
    held_bytes: list[int]
    plan_bytes: int
    output_tokens: float

    def point(self, value: int) -> dict[str, float]:
        """Returns the costs, measured and as they should be, at a value of an axis."""
        return {
            "size": value,
            "seconds": statistics.median(self.seconds),
            "operations": operations(self.case),
            "plan_bytes": self.plan_bytes,
            "held_bytes": statistics.median(self.held_bytes),
            "memory": memory(self.case),
        }


Findings = dict[tuple[str, str], dict[int, Measured]]
"""(training or decoding, axis) -> value -> what was measured there."""


def read(folder: Path, grid: Grid) -> Findings:
    """Reads a record, as far as it has come.

    Raises: Mistake if the folder has none.
    """
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(folder):
        rows[row["case"]].append(row)

    def measured(case: Case) -> Measured:
        found = rows[case.name]
        return Measured(
            case,
            [row["seconds"] for row in found],
            [row["held_bytes"] for row in found],
            found[0]["plan_bytes"],
            found[0].get("output_tokens", 0.0),
        )

    return {
        key: {value: measured(case) for value, case in points.items() if case.name in rows}
        for key, points in grid.axes().items()
    }
