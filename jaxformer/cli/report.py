"""`jaxformer report`: a sweep's table, its comparison with base, and its pictures."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxformer.cli import settings
from jaxformer.cli.mistakes import Mistake, file_mistakes, mistakes
from jaxformer.cli.names import refuse_code_within
from jaxformer.cli.options import Options
from jaxformer.cli.workdir import open_workdir
from jaxformer.files import read_json

_EPILOG = """\
Writes report.md, report.tex, report.csv, report.json and pictures (PNG and SVG) to SWEEP, and
prints report.md. Runs that are missing or unfinished are listed as such. docs/report.md says how to
read it.
"""


def run(argv: Sequence[str]) -> int:
    """Writes the report; returns the exit code."""
    options = Options("report", "Tables and pictures of a sweep, as far as it has come.", _EPILOG)
    options.add_argument("sweep", nargs="?", metavar="SWEEP", help="folder of the sweep")
    options.add_argument("--output", metavar="FOLDER", help="write there instead")
    chosen = options.read(argv)
    if not chosen.sweep:
        raise Mistake("Name the folder of a sweep: jaxformer report runs/table3.")
    folder = open_workdir(chosen.sweep)
    output = open_workdir(chosen.output) if chosen.output else folder
    with mistakes():
        if not (folder / "manifest.json").is_file():
            raise Mistake(
                f"{folder} is not the folder of a sweep: it holds no manifest.json. Give the "
                "--workdir that `jaxformer sweep` was given."
            )
        if output.exists() and not output.is_dir():
            raise Mistake(
                f"{output} is a file, where --output needs a folder. Give another --output."
            )
    _report(folder, output)
    return 0


def _report(folder: Path, output: Path) -> None:
    # Imported late, so that a mistake in the arguments is answered at once.
    from jaxformer.study.pictures import draw
    from jaxformer.study.records import read_sweep
    from jaxformer.study.report import write_report
    from jaxformer.study.rows import make_rows
    from jaxformer.study.significance import compare
    from jaxformer.study.summary import earlier_p_values, summarise

    with mistakes():
        sweep = read_sweep(folder, settings.complete)
        rows = make_rows(sweep.members)
        # What stands where this one will be written counts more.
        earlier = {}
        for place in dict.fromkeys((folder, output)):
            earlier |= earlier_p_values(_read_earlier(place / "report.json"), sweep.split)
    comparisons = compare(rows, lambda config: _references(folder, config, sweep.split), earlier)
    report = summarise(sweep, rows, comparisons)
    with file_mistakes():
        output.mkdir(parents=True, exist_ok=True)
        pictures = draw(sweep, rows, output)
        text = write_report(report, pictures, output)
    print(text)
    names = ["report.md", "report.tex", "report.csv", "report.json"]
    names += [f"{name}.{kind}" for name in pictures for kind in ("png", "svg")]
    print(f"written     {output}: {', '.join(names)}")
    sys.stdout.flush()


def _read_earlier(path: Path) -> object:
    """An earlier report; None if there is none.

    Raises: ValueError if it is damaged: what it says of lost translations would be lost with it.
    """
    if not path.exists():
        return None
    try:
        return read_json(path)
    except ValueError as error:
        raise ValueError(f"{error} Restore this report, or remove it.") from error


def _references(folder: Path, config: Mapping[str, Any], split: str) -> list[str]:
    """Raises: NoReferences if this machine has no such corpus."""
    from jaxformer.cli import build
    from jaxformer.study.significance import NoReferences

    try:
        with mistakes():
            settings.check(config)
            refuse_code_within(folder, config)
            pairs = build.make_corpus(config, [split]).pairs(split)
            return [target for _, target in pairs]
    except Mistake as mistake:
        raise NoReferences(str(mistake)) from mistake
