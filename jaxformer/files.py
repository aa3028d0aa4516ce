"""Files that are on disk whole or not at all, at any moment, even of a power cut."""

import contextlib
import os
from pathlib import Path


def replace_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    r"""Writes a file under a temporary name, waits for the disk, and gives it its name.

    Until then an older file of that name stays as it is. The folder is made when missing.

    Args:
      content: text is written as UTF-8, with "\n" at the ends of lines.

    Raises: OSError, naming `path`, if it cannot be written; nothing is left behind then.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    # Of this process alone: two may write the same file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        # The user does not know the temporary name.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Waits until the names of what lies in `folder` have reached the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
