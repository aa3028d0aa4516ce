"""How cost grows: step time and memory by length, width, depth, vocabulary, batch; beam search too.

    python -m experiments.cost_growth --output=runs/growth [--quick] [--page=docs/growth.md]

From one small model, each size is grown alone. Every figure comes from a process of its own; a pass
goes through all cases in an order of its own. Each process is a line of OUTPUT/metrics.jsonl; the
same command goes on where it was stopped. Then the tables go to OUTPUT/growth.md, and with --page
also between that page's marks, with the pictures in a folder beside it. Give the machine nothing
else to do meanwhile; 4 GB of memory are needed.
"""

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

from experiments.growth.cases import FULL, QUICK, Grid
from experiments.growth.pictures import draw
from experiments.growth.record import measure, read
from experiments.growth.tables import tables
from experiments.shared.pages import publish
from experiments.shared.processes import allocators
from jaxformer.cli.mistakes import answered
from jaxformer.cli.options import whole_number
from jaxformer.io.record import check_config, write_config, write_run


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="folder of the record")
    parser.add_argument("--quick", action="store_true", help="a model of almost nothing")
    parser.add_argument("--passes", type=whole_number, default=3, help="over all cases (default 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="timed a process (default 2)")
    parser.add_argument("--report", action="store_true", help="measure nothing, read the record")
    parser.add_argument("--page", help="page whose tables and pictures are made anew")
    chosen = parser.parse_args()
    folder, grid = Path(chosen.output), QUICK if chosen.quick else FULL

    def work() -> None:
        if not chosen.report:
            run(folder, grid, chosen.passes, chosen.seconds)
        report(folder, grid, chosen.page)

    return answered("cost_growth", work)


def run(folder: Path, grid: Grid, passes: int, seconds: float) -> None:
    """Measures what the record in `folder` lacks of a grid.

    Raises: ValueError if the folder holds the record of another grid.
    """
    settings = {
        "training": {"from": dataclasses.asdict(grid.training.size), **grid.training_axes},
        "decoding": {
            "from": {**dataclasses.asdict(grid.decoding.size), "beams": grid.decoding.beams},
            **grid.decoding_axes,
        },
    }
    check_config(folder, settings)
    name, allocator = list(allocators().items())[-1]
    write_config(folder, settings)
    argv = ["python", "-m", "experiments.cost_growth", *sys.argv[1:]]
    # The seeds of the cases' order are the passes' numbers; all others are 0.
    write_run(folder, argv=argv, overrides={}, seeds={}, mesh={}, allocator=name)

    def show(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    count = len(grid.cases())
    show(f"{count} cases, {passes} passes: {count * passes} lines, less those of earlier starts.")
    with tempfile.TemporaryDirectory() as cache:
        measure(
            folder,
            grid,
            passes=passes,
            seconds=seconds,
            allocator=allocator,
            cache=Path(cache),
            report=show,
        )


def report(folder: Path, grid: Grid, page: str | None) -> None:
    """Writes tables and pictures of a record.

    Raises: Mistake if there is no record, or the page lacks its marks.
    """
    findings = read(folder, grid)
    publish(tables(findings), folder / "growth.md", page, lambda place: draw(findings, place))


if __name__ == "__main__":
    sys.exit(main())
