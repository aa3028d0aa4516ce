"""The record of the study: a line for each thing measured, which a later start does not repeat."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.table1.cases import Case, Program, facts, prepare, seconds, shuffled
from experiments.table1.layers import LAYERS
from experiments.table1.paths import path_length
from jaxformer.cli.mistakes import Mistake
from jaxformer.io.record import Metrics, read_metrics

FILE = "metrics.jsonl"
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
    path = folder / FILE
    rows = read_metrics(path) if path.exists() else []
    done = {_key(row) for row in rows}
    programs: dict[Case, Program] = {}
    # A line's number, which a file of metrics calls its step.
    number = len(rows)
    with Metrics(path, resume_step=number) as metrics:
        for key, row in _rows(found, lengths, passes, done, programs):
            number += 1
            metrics.write({"step": number, **row})
            done.add(key)
            report(f"{' '.join(map(str, key))}: {_brief(row)}")
        metrics.sync()


def _rows(
    found: Sequence[Case],
    lengths: Sequence[int],
    passes: int,
    done: set[tuple[Any, ...]],
    programs: dict[Case, Program],
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Yields (key, row) of what is measured, one after another."""
    for name in LAYERS:
        for length in lengths:
            row: dict[str, Any] = {"path": name, "n": length}
            if _key(row) not in done:
                yield _key(row), {**row, "layers": path_length(name, length)}
    for turn in range(1, passes + 1):
        for case in shuffled(list(found), turn):
            timed: dict[str, Any] = {"case": case.name, "pass": turn}
            stated: dict[str, Any] = {"case": case.name}
            if _key(timed) in done:
                continue
            if case not in programs:
                programs[case] = prepare(case)
            # Before the first time is on record, this is.
            if _key(stated) not in done:
                yield _key(stated), {**stated, **facts(case, programs[case])}
            taken, calls = seconds(programs[case])
            yield _key(timed), {**timed, "seconds": float(f"{taken:.4g}"), "calls": calls}


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _IDENTITY if name in row)


def _brief(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {row[name]:.4g}" for name in row if name not in _IDENTITY)


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
    path = folder / FILE
    if not path.is_file():
        raise Mistake(f"{folder} holds no {FILE}: nothing was measured there. Leave --report out.")
    stated: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = defaultdict(list)
    paths = {}
    for row in read_metrics(path):
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
