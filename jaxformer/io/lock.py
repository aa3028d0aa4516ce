"""A lock on a folder, which ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
from collections.abc import Generator

_NAME = "lock"
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}


@contextlib.contextmanager
def lock(folder: str | os.PathLike[str]) -> Generator[None]:
    """Holds `folder`, making it when missing, against every other process that asks.

    Its file `lock` names the holder. It is removed at the end, and so is the folder if it was made
    here and is empty. A file system without locks is gone on with unlocked.

    Raises: ValueError, naming the holder, if there is another one; OSError if the folder cannot be
      written to.
    """
    folder = pathlib.Path(folder)
    path = folder / _NAME
    is_new = not folder.exists()
    file = None
    while file is None:
        folder.mkdir(parents=True, exist_ok=True)
        file = _hold(path)
    try:
        yield
    finally:
        # Removed while it is held: who opens it next makes a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        os.close(file)


def this_process() -> str:
    """Returns how a holder is named."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def holder(folder: str | os.PathLike[str]) -> str:
    """Returns who holds `folder`, as it is written there; "" if nobody has, or it cannot be read.

    What it names may have ended long ago.
    """
    try:
        return (pathlib.Path(folder) / _NAME).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _hold(path: pathlib.Path) -> int | None:
    """Returns the file that is locked; None if the last holder has just removed it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 1000).decode("utf-8", "replace").strip() or "another process"
            raise ValueError(
                f"{path.parent} is in use by {holder}. Wait for its end, or give another --workdir."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        if not _is_at(path, file):
            os.close(file)
            return None
        os.ftruncate(file, 0)
        os.write(file, f"{this_process()}\n".encode())
    except OSError as error:
        os.close(file)
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    except ValueError:
        os.close(file)
        raise
    return file


def _is_at(path: pathlib.Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
