"""Table 1: what a layer costs by length and width, measured beside the paper's O(...).

    python -m experiments.table1_complexity --output=runs/table1 [--quick] [--page=docs/table1.md]

Self-attention, recurrent, convolutional and restricted self-attention layers, forward alone and
with their backward pass: operations and memory as XLA states them for the compiled program, the
time of a call, matrix products one after another, and layers between the ends of a row. Each thing
measured is a line of OUTPUT/metrics.jsonl; the same command goes on where it was stopped, and
passes over all cases come in another order each. Then the tables go to OUTPUT/table1.md, and with
--page also between that page's marks, with the pictures in a folder beside it. Give the machine
nothing else to do meanwhile; 8 GB of memory are needed, with --quick less than one.
"""

import argparse
import sys
from pathlib import Path

from experiments.shared.pages import publish
from experiments.table1.cases import FULL, QUICK, Grid, cases
from experiments.table1.layers import LAYERS
from experiments.table1.pictures import draw
from experiments.table1.record import measure, read
from experiments.table1.tables import tables
from jaxformer.cli.mistakes import answered
from jaxformer.cli.options import whole_number
from jaxformer.io.record import check_config, write_config, write_run
from jaxformer.run.allocator import keep_freed_memory


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="folder of the record")
    parser.add_argument("--quick", action="store_true", help="small lengths and widths only")
    parser.add_argument("--passes", type=whole_number, default=3, help="over all cases (default 3)")
    parser.add_argument("--report", action="store_true", help="measure nothing, read the record")
    parser.add_argument("--page", help="page whose tables and pictures are made anew")
    chosen = parser.parse_args()

    def work() -> None:
        if not chosen.report:
            run(Path(chosen.output), QUICK if chosen.quick else FULL, chosen.passes)
        report(Path(chosen.output), chosen.page)

    return answered("table1_complexity", work)


def run(folder: Path, grid: Grid, passes: int) -> None:
    """Measures what the record in `folder` lacks of a grid.

    Raises: ValueError if the folder holds the record of another grid.
    """
    settings = {
        "lengths": grid.lengths,
        "widths": grid.widths,
        "sizes": [list(each) for each in grid.sizes],
    }
    check_config(folder, settings)
    allocator = keep_freed_memory()
    write_config(folder, settings)
    argv = ["python", "-m", "experiments.table1_complexity", *sys.argv[1:]]
    # The seeds of the cases' order are the passes' numbers; all others are 0, or the sizes.
    write_run(folder, argv=argv, overrides={}, seeds={}, mesh={}, allocator=allocator)
    found = cases(grid)

    def show(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    lines = len(LAYERS) * len(grid.lengths) + len(found) * (1 + passes)
    show(f"{len(found)} cases, {passes} passes: {lines:,} lines, less those of an earlier start.")
    measure(folder, found, grid.lengths, passes, show)


def report(folder: Path, page: str | None) -> None:
    """Writes tables and pictures of a record.

    Raises: Mistake if there is no record, or the page lacks its marks.
    """
    findings = read(folder)
    publish(tables(findings), folder / "table1.md", page, lambda place: draw(findings, place))


if __name__ == "__main__":
    sys.exit(main())
