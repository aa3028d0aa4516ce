"""Folders of what takes long to make: made once, whole or not there, and checked at every use."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from jaxformer.files import new_folder

_SUMS = "SHA256SUMS"


def keep(folder: Path, make: Callable[[Path], None]) -> bool:
    """Makes a folder of files, unless it is there and they are as they were written.

    A damaged one is made anew. Of two processes that make it at once, the one that ends later uses
    what the other has made.

    Args:
      folder: its name tells all that its content depends on.
      make: writes the files to the folder that it is given, in which there are none yet.

    Returns: whether the folder is there. It is not where nothing can be written.
    """
    was_there = folder.exists()
    if _is_sound(folder):
        return True
    if was_there:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        if folder.exists():
            # Another process was quicker, or it cannot be removed.
            return _is_sound(folder)
        with new_folder(folder) as new:
            make(new)
            (new / _SUMS).write_text(_sums(new), encoding="ascii")
    except OSError:
        return _is_sound(folder)
    return True


def _is_sound(folder: Path) -> bool:
    try:
        return (folder / _SUMS).read_bytes() == _sums(folder).encode("ascii")
    except OSError:
        return False


def _sums(folder: Path) -> str:
    """Returns the sums of a folder's files, as `sha256sum --check` reads them."""
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name != _SUMS:
            with open(path, "rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines)
