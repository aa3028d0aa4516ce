"""Writing a report's files."""

import json
import os
from collections.abc import Mapping
from typing import Any

from jaxformer.files import as_path, replace_file
from jaxformer.study.table import comma_separated, latex, markdown


def write_report(
    report: Mapping[str, Any], pictures: Mapping[str, str], folder: str | os.PathLike[str]
) -> str:
    """Writes report.md, report.tex, report.csv and report.json, each whole or not at all.

    Args:
      report: that of `summarise`.
      pictures: name -> what it shows, of pictures in the folder.
      folder: which exists.

    Returns: the text of report.md.
    """
    shown = [(f"{name}.svg", about) for name, about in pictures.items()]
    texts = {
        "report.md": markdown(report, shown),
        "report.tex": latex(report),
        "report.csv": comma_separated(report),
        "report.json": json.dumps(report, indent=2, allow_nan=False) + "\n",
    }
    for name, text in texts.items():
        replace_file(as_path(folder) / name, text)
    return texts["report.md"]
