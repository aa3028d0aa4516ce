"""What machines elsewhere get: a copy of this folder, but for what git or .dockerignore leaves out.

SkyPilot and our own scripts around gcloud send what git would know, xpk all but .dockerignore's.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jaxformer.cli.config import PATHS
from jaxformer.cli.mistakes import Mistake
from jaxformer.files import user_path


def check_is_sent(file: str, executor: str) -> None:
    """Checks that a file's name means the same on a machine that gets a copy of this folder.

    Raises: Mistake if it does not.
    """
    here = Path.cwd()
    if not lies_in(user_path(file), here):
        raise Mistake(
            f"{file} is not in {here}, which is what the machines get. Copy it there, and name it "
            "from there."
        )
    if Path(file).is_absolute() or file.startswith("~"):
        raise Mistake(
            f"{file} is another place on the machines. Name it from here: "
            f"{os.path.relpath(user_path(file), here)}."
        )
    if by := left_out_by(Path(file), executor):
        raise Mistake(f"{file} is not sent to the machines: {by} leaves it out. Name another.")


def check_data_is_sent(
    data: Mapping[str, Any], executor: str, *, is_resolved: bool = False
) -> None:
    """Checks the files and folders that settings of data name.

    Args:
      is_resolved: whether the paths of those that are there have been made absolute.

    Raises: Mistake if one of them is not sent.
    """
    for name in PATHS:
        file = data.get(name)
        if not file:
            continue
        if is_resolved and lies_in(user_path(file), Path.cwd()):
            file = os.path.relpath(user_path(file))
        try:
            check_is_sent(file, executor)
        except Mistake as mistake:
            raise Mistake(f"data.{name}={mistake}") from mistake


def lies_in(path: Path, folder: Path) -> bool:
    """Returns whether a path is that of something within a folder."""
    return path.resolve().is_relative_to(folder.resolve())


def left_out_by(path: Path, executor: str) -> str:
    """Returns what keeps a path in this folder from being sent: "git", ".dockerignore", or ""."""
    if executor == "xpk":
        parts = Path(os.path.relpath(path)).parts
        return ".dockerignore" if _fits_dockerignore(parts) else ""
    command = ["git", "check-ignore", "--quiet", "--", os.fspath(path)]
    try:
        code = subprocess.run(command, check=False, capture_output=True).returncode
    except OSError:
        return ""
    return "" if code else "git"


def _fits_dockerignore(parts: Sequence[str]) -> bool:
    file, found = Path(".dockerignore"), False
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in map(str.strip, lines):
        if line and not line.startswith("#"):
            # The last line that fits counts.
            is_back = line.startswith("!")
            if _fits(parts, line.removeprefix("!").strip("/").split("/")):
                found = not is_back
    return found


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Returns whether a pattern fits the path, or a folder that it lies in."""
    if wanted[0] == "**":
        return any(_fits(parts[start:], wanted[1:]) for start in range(len(parts)))
    return len(parts) >= len(wanted) and all(map(fnmatchcase, parts, wanted))
