"""SHA-256 sums of a folder's files, in a file that `sha256sum --check SHA256SUMS` reads too."""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import re
from collections.abc import Iterator

from jaxformer.files import (
    as_path,
    in_bucket,
    is_folder,
    object_errors,
    replace_file,
    sync_folder,
)

SUMS = "SHA256SUMS"
PROMISE = b"Not complete"

_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)\n")


def write_sums(folder: str | os.PathLike[str]) -> None:
    """Writes the sums of all files below a local folder to its SHA256SUMS.

    When it returns, the files, their names and the sums have reached the disk.
    """
    folder = pathlib.Path(folder)
    lines = []
    for parent, _, files in os.walk(folder):
        for file in files:
            path = pathlib.Path(parent, file)
            if path != folder / SUMS:
                lines.append((_name(path, folder), _sum(path, is_new=True)))
        sync_folder(parent)
    replace_file(folder / SUMS, _format(lines))


def sums_of_objects(folder: str | os.PathLike[str]) -> str:
    """Returns the text of SHA256SUMS for a folder in a bucket, as its objects are read back."""
    folder = as_path(folder)
    with object_errors(folder):
        return _format([(_name(path, folder), _sum(path)) for path in _objects(folder)])


def has_sums(folder: str | os.PathLike[str]) -> bool:
    """Returns whether `folder` has sums, and not a mere promise of them (see commit.py)."""
    path = as_path(folder) / SUMS
    try:
        with object_errors(path):
            return not path.read_bytes().startswith(PROMISE)
    except FileNotFoundError:
        return False


def find_fault(folder: str | os.PathLike[str]) -> str | None:
    """Returns what is wrong with the files that were summed (`write_sums`, `sums_of_objects`).

    None if nothing is. A mere promise of sums is a fault.

    Files that have been added since are no fault.

    Raises: OSError if a bucket cannot be reached, which says nothing about what it holds.
    """
    folder = as_path(folder)
    with object_errors(folder):
        return _find_fault(folder)


def _find_fault(folder: pathlib.Path) -> str | None:
    try:
        text = (folder / SUMS).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        return _describe(SUMS, error, folder)
    lines = [(name, digest) for digest, name in _LINE.findall(text)]
    # What is not exactly as it was written may have lost a line.
    if not lines or text != _format(lines):
        return f"{SUMS} is damaged"
    for name, digest in lines:
        # A name could lead to a device that never ends; what is summed lies in the folder.
        if pathlib.PurePosixPath(name).is_absolute() or ".." in pathlib.PurePosixPath(name).parts:
            return f"{SUMS} names {name}, which is not in the folder"
        try:
            found = _sum(folder / name)
        except (OSError, ValueError) as error:
            return _describe(name, error, folder)
        if found != digest:
            return f"{name} is not as it was saved"
    return None


def _format(lines: list[tuple[str, str]]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(set(lines)))


def _name(path: pathlib.Path, folder: pathlib.Path) -> str:
    return path.relative_to(folder).as_posix()


def _objects(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields what lies below a folder in a bucket, the sums left out."""
    for path in folder.iterdir():
        if is_folder(path):
            yield from _objects(path)
        elif path.name != SUMS:
            yield path


def _sum(path: pathlib.Path, *, is_new: bool = False) -> str:
    with path.open("rb") as file:
        if is_new:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(name: str, error: Exception, folder: pathlib.Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{name} is missing"
    if in_bucket(folder):
        # Some refusals are ValueErrors.
        raise OSError(errno.EIO, " ".join(str(error).split()), f"{folder / name}") from error
    return f"{name} cannot be read: {getattr(error, 'strerror', None) or error}"
