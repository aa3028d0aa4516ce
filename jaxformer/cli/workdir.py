"""A workdir that a command writes to: checked at once, and held against every other command."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from jaxformer.cli.mistakes import Mistake, mistakes
from jaxformer.io.lock import lock


@contextlib.contextmanager
def held(workdir: Path, is_first: bool = True) -> Generator[None]:
    """Holds the workdir, making it when missing.

    Args:
      is_first: whether this process holds it, or another one does for it.

    Raises: Mistake if it cannot be written to, or another process holds it.
    """
    with contextlib.ExitStack() as stack:
        with mistakes():
            _check(workdir)
            if is_first:
                stack.enter_context(lock(workdir))
        yield


def _check(workdir: Path) -> None:
    """Finds what mkdir and open would find only when the corpus has been prepared."""
    path = workdir.absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        raise Mistake(f"{there} is a file, where --workdir needs a folder. Give another --workdir.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise Mistake(f"{there} cannot be written to. Permit it, or give another --workdir.")
