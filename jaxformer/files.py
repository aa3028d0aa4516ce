"""Files by name: written whole or not at all, and read as strict JSON or refused."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

_DEEPEST = 50


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


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Generator[Path]:
    """Gives a temporary folder to fill, which becomes `path` when the block has ended well.

    After any error there is neither. The folders above are made when missing.

    Raises: ValueError if `path` is there and not an empty folder; OSError if it cannot be written.
    """
    path = Path(os.path.abspath(path))
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} is there already, and not empty. Move it away, or name another.")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        sync_folder(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def user_path(name: str | os.PathLike[str]) -> Path:
    """Returns the path with `~` or `~user` spelt out, or as it is if there is no such user.

    Path's own `expanduser` raises a RuntimeError then.
    """
    return Path(os.path.expanduser(name))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a file of strict JSON.

    Raises: ValueError if it is anything else, has a number that is not finite, or is nested deeper
      than functions that call themselves can follow; OSError if it cannot be read.
    """
    text = Path(path).read_bytes()
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)} is not JSON ({error}).") from error
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise ValueError(f"{os.fspath(path)} is nested deeper than {_DEEPEST} levels.")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Waits until the names of what lies in `folder` have reached the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
