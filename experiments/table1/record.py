"""The record of the study: a line for each thing measured, which a later start does not repeat."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.shared.passes import Key, Row, append_rows, key_of, read_rows, shuffled
from experiments.table1.cases import Case, Program, facts, prepare, seconds
from experiments.table1.layers import LAYERS
from experiments.table1.paths import path_length

# What names a line of the record; all else is what was measured.
_IDENTITY = ("path", "n", "case", "pass")
Report = Callable[[str], None]


def measure(
    folder: Path, found: Sequence[Case], lengths: Sequence[int], passes: int, report: Report
) -> None:
    """Measures what the record lacks: path lengths, then all cases, so many times over.

    Args:
      lengths: of the rows whose path lengths are measured.
      report: gets a line of text for each measurement.
    """
    programs: dict[Case, Program] = {}

    def make_rows(done: set[Key]) -> Iterator[Row]:
        return _rows(found, lengths, passes, done, programs)

    append_rows(folder, _IDENTITY, make_rows, report)


def _rows(
    found: Sequence[Case],
    lengths: Sequence[int],
    passes: int,
    done: set[Key],
    programs: dict[Case, Program],
) -> Iterator[Row]:
    """Yields what is measured, one row after another."""
    for name in LAYERS:
        for length in lengths:
            row: Row = {"path": name, "n": length}
            if key_of(row, _IDENTITY) not in done:
                yield {**row, "layers": path_length(name, length)}
    for turn in range(1, passes + 1):
        for case in shuffled(found, turn):
            timed: Row = {"case": case.name, "pass": turn}
            stated: Row = {"case": case.name}
            if key_of(timed, _IDENTITY) in done:
                continue
            if case not in programs:
                programs[case] = prepare(case)
            # Before the first time is on record, this is.
            if key_of(stated, _IDENTITY) not in done:
                yield {**stated, **facts(case, programs[case])}
            taken, calls = seconds(programs[case])
            yield {**timed, "seconds": float(f"{taken:.4g}"), "calls": calls}


class Measured(NamedTuple):
    """All that is known of a case.

    Attributes:
      seconds: of a call, one entry a pass.
    """

    case: Case
    flops: float
    peak_bytes: float
    sequential: int
    seconds: list[float]

    def point(self) -> dict[str, float]:
        """Returns variables and costs by name, for a fit; the time is the passes' median."""
        return {
            "n": self.case.length,
            "d": self.case.width,
            "size": self.case.size,
            "flops": self.flops,
            "peak_bytes": self.peak_bytes,
            "sequential": self.sequential,
            "seconds": statistics.median(self.seconds),
        }


class Findings(NamedTuple):
    """A record, read.

    Attributes:
      cases: all that are measured in at least one pass.
      paths: (name of a layer, length) -> layers between the ends of a row.
    """

    cases: list[Measured]
    paths: dict[tuple[str, int], int]

    def of(self, layer: str, direction: str, **fixed: int) -> list[Measured]:
        """Returns the cases of a layer by length, of its usual size unless `size` is given."""
        wanted = {"size": LAYERS[layer].size, **fixed}
        chosen = [
            measured
            for measured in self.cases
            if (measured.case.layer, measured.case.direction) == (layer, direction)
            and all(getattr(measured.case, name) == value for name, value in wanted.items())
        ]
        return sorted(chosen, key=lambda measured: measured.case)


def read(folder: Path) -> Findings:
    """Reads a record.

    Raises: Mistake if the folder has none.
    """
    stated: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = defaultdict(list)
    paths = {}
    for row in read_rows(folder):
        if "path" in row:
            paths[row["path"], row["n"]] = row["layers"]
        elif "pass" in row:
            times[row["case"]].append(row["seconds"])
        else:
            stated[row["case"]] = row
    return Findings(
        [
            Measured(
                Case.from_name(name),
                row["flops"],
                row["peak_bytes"],
                row["sequential"],
                times[name],
            )
            for name, row in stated.items()
            if times[name]
        ],
        paths,
    )
