r"""Table 3 at a smaller scale: which of the paper's differences from base come out, and how sure.

    jaxformer report runs/table3 --output=experiments/results/table3_laptop
    python -m experiments.table3_variations --output=experiments/results/table3_laptop \
        [--page=docs/table3.md]

reads OUTPUT/report.json and writes OUTPUT/order.md; with --page also between that page's marks,
with the picture in a folder beside it, else in OUTPUT. A difference is said to be the paper's, or
against it, if the interval of 95% of the difference of means leaves out zero. Its width comes from
rows with several seeds; trainings are taken to lie equally far apart in every row.
"""

import argparse
import sys
from pathlib import Path

from experiments.shared.pages import publish
from experiments.table3.order import read_rows
from experiments.table3.pictures import draw
from experiments.table3.tables import tables
from jaxformer.cli.mistakes import answered


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="table3_variations", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--output", required=True, type=Path, help="folder of report.json")
    parser.add_argument("--page", help="page whose tables and picture are made anew")
    chosen = parser.parse_args()
    return answered("table3_variations", lambda: write(chosen.output, chosen.page))


def write(folder: Path, page: str | None) -> None:
    """Writes tables and picture of the report in a folder.

    Raises: Mistake if it is not one of Table 3 with scores of base, or the page lacks its marks.
    """
    rows = read_rows(folder / "report.json")
    publish(tables(rows), folder / "order.md", page, lambda place: draw(rows, place))


if __name__ == "__main__":
    sys.exit(main())
