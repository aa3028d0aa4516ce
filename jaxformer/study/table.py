"""A report's table in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}
# How the paper prints the settings of its Table 3.
_SYMBOLS = {
    "N": "$N$",
    "d_model": r"$d_{\mathrm{model}}$",
    "d_ff": r"$d_{\mathrm{ff}}$",
    "h": "$h$",
    "d_k": "$d_k$",
    "d_v": "$d_v$",
    "dropout": r"$P_{\mathit{drop}}$",
    "smoothing": r"$\epsilon_{\mathit{ls}}$",
}
_FORMULA = ("=", "+", "-", "@")

Report = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
    """One column as people read it.

    Attributes:
      name: its heading, plain text.
      cells: plain text, one a row.
      is_number: whether to align it right.
    """

    name: str
    cells: Sequence[str]
    is_number: bool = True


def columns(report: Report) -> list[Column]:
    """The columns of the Markdown and LaTeX tables; report: that of `summarise`."""
    rows = report["rows"]
    has_base = any(row["base"] is not None for row in rows)
    found = [Column("label", [_label(row) for row in rows], is_number=False)]
    if len({row["letter"] for row in rows}) > 1:
        found.insert(0, Column("row", [row["letter"] for row in rows], is_number=False))
    tails = [key.rpartition(".")[2] for key in report["settings"]]
    for key, tail in zip(report["settings"], tails, strict=True):
        name = tail if tails.count(tail) == 1 else key
        found.append(Column(name, [_setting(key, row, rows) for row in rows]))
    found.append(Column("seeds", [_seeds(row) for row in rows]))
    for key, name in (("perplexity", "perplexity"), ("bleu", "BLEU")):
        found.append(Column(name, [_measured(row, key) for row in rows]))
        found.append(Column(f"{name}, paper", [_papers(row, key) for row in rows]))
    if report["protocol"]:
        by_protocol = [_spread(row["protocol_bleu"]) for row in rows]
        found.append(Column(f"BLEU by {report['protocol']}", by_protocol))
    if has_base:
        found.append(Column("BLEU - base", [_difference(row["comparison"]) for row in rows]))
        found.append(Column("p", [_p(row["comparison"]) for row in rows]))
    found.append(Column("parameters (M)", [_millions(row["parameters"]) for row in rows]))
    found.append(
        Column("parameters (M), paper", [_millions(row["paper"].get("parameters")) for row in rows])
    )
    is_measured = ("perplexity", "BLEU", "seeds", "label")
    return [column for column in found if any(column.cells) or column.name in is_measured]


def title(report: Report) -> str:
    """The report's title, plain text."""
    if not any(row["paper"] for row in report["rows"]):
        return f"Sweep {report['sweep']}"
    return f"Table 3 of the paper, {report['scale']} scale: {report['sweep']}"


def markdown(report: Report, pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The table, what is missing, the notes and the pictures.

    Args:
      pictures: (file, what it shows), beside the Markdown.
    """
    table = [[escape_markdown(c.name), *map(escape_markdown, c.cells)] for c in columns(report)]
    widths = [max(3, *map(len, cells)) for cells in table]
    rights = [column.is_number for column in columns(report)]
    lines = [
        "| " + " | ".join(map(_pad, cells, widths, rights)) + " |"
        for cells in zip(*table, strict=True)
    ]
    rule = "".join(
        f"| {'-' * (width - 1)}{':' if right else '-'} "
        for width, right in zip(widths, rights, strict=True)
    )
    parts = [f"# {escape_markdown(title(report))}", "\n".join([lines[0], f"{rule}|", *lines[1:]])]
    parts.extend(escape_markdown(note) for note in report["notes"])
    if report["unfinished"]:
        parts.append(
            "Missing or unfinished, and in no figure:\n\n"
            + "\n".join(f"- {escape_markdown(text)}" for text in _unfinished(report))
        )
    parts.extend(f"![{escape_markdown(about)}]({name})" for name, about in pictures)
    return "\n\n".join(parts) + "\n"


def latex(report: Report) -> str:
    """The table as a tabular, to be put into a table of one's own; notes stand below it."""
    found = columns(report)
    heads = [_SYMBOLS.get(column.name) or escape_latex(column.name) for column in found]
    lines = [
        f"% {_plain(title(report))}. Needs \\usepackage{{booktabs}}.",
        f"\\begin{{tabular}}{{{''.join('r' if column.is_number else 'l' for column in found)}}}",
        "\\toprule",
        " & ".join(heads) + r" \\",
    ]
    before = None
    for number, row in enumerate(report["rows"]):
        letter = row["letter"]
        if letter != before:
            lines.append("\\midrule")
        cells = [_latex_cell(column, column.cells[number]) for column in found]
        if found[0].name == "row":
            mark = f"({letter})" if len(letter) == 1 else letter
            cells[0] = escape_latex(mark) if letter != before else ""
        # A star or a bracket after \\ would be read as its argument.
        lines.append(" & ".join(cells) + r" \\{}")
        before = letter
    lines += ["\\bottomrule", "\\end{tabular}"]
    notes = list(report["notes"])
    if report["unfinished"]:
        notes.append(f"Missing or unfinished, and in no figure: {'; '.join(_unfinished(report))}.")
    lines += [f"\n\\par\\smallskip{{\\footnotesize {escape_latex(note)}\\par}}" for note in notes]
    return "\n".join(lines) + "\n"


def comma_separated(report: Report) -> str:
    """The table for other programs: every cell filled, numbers rounded to six decimals."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for number, row in enumerate(report["rows"]):
        comparison = row["comparison"] or {}
        difference = comparison.get("bleu_difference") or {}
        settings = {key: row["settings"][key] for key in report["settings"]}
        cells = {
            "group": row["group"],
            "row": row["letter"],
            "label": row["label"],
            "state": row["state"],
            **settings,
            "seeds_finished": len(row["seeds"]["finished"]),
            "seeds_planned": len(row["seeds"]["planned"]),
        }
        for key in ("perplexity", "bleu"):
            cells[f"{key}_mean"] = row[key]["mean"]
            cells[f"{key}_deviation"] = row[key]["deviation"]
            cells[f"{key}_paper"] = row["paper"].get(key)
        if report["protocol"]:
            cells["protocol_bleu_mean"] = row["protocol_bleu"]["mean"]
            cells["protocol_bleu_deviation"] = row["protocol_bleu"]["deviation"]
        cells["bleu_difference_mean"] = difference.get("mean")
        cells["bleu_difference_deviation"] = difference.get("deviation")
        cells["p"] = comparison.get("p")
        cells["p_remark"] = _p_remark(comparison)
        cells["parameters"] = row["parameters"]
        cells["parameters_paper"] = row["paper"].get("parameters")
        if number == 0:
            writer.writerow([_csv_cell(name) for name in cells])
        writer.writerow([_csv_cell(cell) for cell in cells.values()])
    return stream.getvalue()


def escape_markdown(text: str) -> str:
    """The text as Markdown shows it, on one line; an underscore within a word needs no escape."""
    text = re.sub(r"([\\`*\[\]<>|~$&#!{}])", r"\\\1", _plain(text))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def escape_latex(text: str) -> str:
    """The text as LaTeX prints it, on one line."""
    return "".join(_LATEX.get(character, character) for character in _plain(text))


def _plain(text: str) -> str:
    """The text on one line, with "?" for what would steer a terminal."""
    text = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in text)


def _csv_cell(cell: Any) -> Any:
    if isinstance(cell, float):
        return round(cell, 6)
    if not isinstance(cell, str):
        return cell
    text = _plain(cell)
    # A spreadsheet would run it.
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    return text in ("inf", "-inf", "nan")


def _latex_cell(column: Column, cell: str) -> str:
    if column.is_number and cell.startswith("-"):
        return f"$-${escape_latex(cell[1:])}"
    return escape_latex(cell)


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def _unfinished(report: Report) -> list[str]:
    """One text for the seeds of a row that stand at the same place."""
    seeds: dict[tuple[str, str, str], list[str]] = {}
    for member in report["unfinished"]:
        place = member["group"], member["label"], member["why"]
        seeds.setdefault(place, []).append(str(member["seed"]))
    return [
        f"{group}/{label}, {'seed' if len(found) == 1 else 'seeds'} {', '.join(found)}: {why}"
        for (group, label, why), found in seeds.items()
    ]


def _label(row: Report) -> str:
    return "" if row["label"] == row["letter"] else row["label"]


def _setting(key: str, row: Report, rows: Sequence[Report]) -> str:
    """As text; blank where it is that of base."""
    base = rows[row["base"]] if row["base"] is not None else row
    value = row["settings"][key]
    if row is not base and value == base["settings"][key]:
        return ""
    if isinstance(value, str):
        # Of a dotted name the last part, where that tells it from those of other rows.
        others = {str(each["settings"][key]) for each in rows}
        tails = {other.rpartition(":")[2] for other in others}
        return value.rpartition(":")[2] if len(tails) == len(others) else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seeds(row: Report) -> str:
    finished, planned = len(row["seeds"]["finished"]), len(row["seeds"]["planned"])
    return str(planned) if finished == planned else f"{finished} of {planned}"


def _measured(row: Report, key: str) -> str:
    return _spread(row[key]) or row["state"]


def _spread(found: Mapping[str, Any] | None) -> str:
    if not found or found["mean"] is None:
        return ""
    mean = float(found["mean"])
    text = f"{mean:.2f}" if abs(mean) < 10_000 else f"{mean:.3g}"
    return text if found["deviation"] is None else f"{text} ± {found['deviation']:.2f}"


def _difference(comparison: Mapping[str, Any] | None) -> str:
    text = _spread(comparison["bleu_difference"]) if comparison else ""
    return f"+{text}" if text and text[0] not in "-n" else text


def _papers(row: Report, key: str) -> str:
    value = row["paper"].get(key)
    return "" if value is None else f"{value:.{2 if key == 'perplexity' else 1}f}"


def _p(comparison: Mapping[str, Any] | None) -> str:
    if not comparison:
        return ""
    if comparison["p"] is not None:
        text = f"{comparison['p']:.3f}"
        return f"({text})" if comparison["p_earlier"] else text
    is_mixed = comparison["p_values"] and not comparison["seeds_agree"]
    return "mixed" if is_mixed else "not computed"


def _p_remark(comparison: Mapping[str, Any]) -> str:
    if not comparison:
        return ""
    if comparison["p"] is not None:
        return "of an earlier report" if comparison["p_earlier"] else ""
    if comparison["p_values"] and not comparison["seeds_agree"]:
        return "mixed"
    return f"not computed: {comparison['why_not']}"


def _millions(parameters: float | None) -> str:
    """In millions, three figures or all before the point."""
    if parameters is None:
        return ""
    millions = parameters / 1e6
    return f"{millions:,.0f}" if millions >= 100 else f"{millions:.3g}"
