"""Pages in Markdown: tables, figures, and the place on a page where a study's tables stand."""

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.shared.fitting import Fit
from jaxformer.cli.mistakes import Mistake
from jaxformer.files import replace_file

# What a page has where the tables shall stand.
START, END = "<!-- tables: measured -->", "<!-- tables: end -->"


def publish(
    text: str, file: Path, page: str | None, draw: Callable[[Path], Sequence[Path]]
) -> None:
    """Writes a study's tables and pictures, prints the tables, and says what was written.

    Args:
      file: for the tables.
      page: also between this page's marks, with the pictures in a folder beside it; None: the
        pictures lie beside the file.
      draw: draws the pictures into a folder, and returns their files.

    Raises: Mistake if the page lacks its marks.
    """
    written, pictures = [file], file.parent
    if page:
        place = Path(page)
        write_page(place, text)
        written.append(place)
        pictures = place.with_suffix("")
    replace_file(file, text)
    written += draw(pictures)
    print(text)
    print(f"Written: {', '.join(map(str, written))}")


def write_page(place: Path, text: str) -> None:
    """Writes a page anew, with `text` between its marks.

    Raises: Mistake if it does not have both.
    """
    before, start, rest = place.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise Mistake(f"{place} lacks the lines {START} and {END}. Put them where tables shall be.")
    replace_file(place, f"{before}{START}\n\n{text}\n{END}{after}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def show_fit(fit: Fit) -> str:
    """Returns "n 2.00 ± 0.01, d 1.00 ± 0.01"."""
    return ", ".join(
        f"{name} {exponent:.2f} ± {fit.errors[name]:.2f}"
        for name, exponent in fit.exponents.items()
    )


def figure(value: float) -> str:
    """Returns three digits that count, without an exponent."""
    return f"{float(f'{value:.3g}'):,.10g}"
