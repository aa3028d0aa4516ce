"""A workdir that a command reads or writes to: checked at once, and held against other writers."""

import contextlib
import os
import sys
from collections.abc import Generator
from pathlib import Path

from jaxformer.cli.mistakes import Mistake, mistakes
from jaxformer.files import as_path, in_bucket, patience, patient
from jaxformer.io.bucket import BucketObjects
from jaxformer.io.lease import lease
from jaxformer.io.lock import lock

LOST_TIMEOUT = 60
"""Seconds without a sign of life until a process counts as lost."""


def open_workdir(name: str) -> Path:
    """Returns the path of a workdir, local or in a bucket, which is reached for at once.

    Raises: Mistake if it is neither, or the bucket cannot be read.
    """
    with mistakes():
        path = as_path(name)
        if in_bucket(path):
            BucketObjects(path).check()
    return path


def local_output(given: str | None, default: Path) -> Path:
    """Returns the folder that a command writes to, which only local ones will do for.

    Raises: Mistake if it is in a bucket.
    """
    path = Path(given) if given else default
    if in_bucket(given or default):
        raise Mistake(f"{given or default} lies in a bucket. Give --output=FOLDER, a local one.")
    return path


@contextlib.contextmanager
def held(
    workdir: Path, is_first: bool = True, lost_timeout: float = LOST_TIMEOUT
) -> Generator[None]:
    """Holds the workdir, making it when missing.

    Args:
      is_first: whether this process holds it, or another one does for it.
      lost_timeout: seconds without a sign of life until another process may take over a workdir
        in a bucket. A local one is free as soon as its holder has ended.

    Raises: Mistake if it cannot be written to, or another process holds it.
    """
    with contextlib.ExitStack() as stack:
        with mistakes():
            if not in_bucket(workdir):
                _check(workdir)
                if is_first:
                    stack.enter_context(lock(workdir))
            elif is_first:
                stack.enter_context(lease(workdir, lost_timeout, say=_say, on_loss=_leave))
            else:
                # As long as the holder bears a bucket that does not answer.
                stack.enter_context(patient(max(patience(), lost_timeout)))
        yield


def _check(workdir: Path) -> None:
    """Finds what mkdir and open would find only when the corpus has been prepared."""
    path = workdir.absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        raise Mistake(f"{there} is a file, where --workdir needs a folder. Give another --workdir.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise Mistake(f"{there} cannot be written to. Permit it, or give another --workdir.")


def _say(sentence: str) -> None:
    print(f"jaxformer: {sentence}", file=sys.stderr, flush=True)


def _leave(sentence: str) -> None:
    """Ends this process at once, whatever it is at: the workdir is another's."""
    try:
        _say(f"{sentence} This process ends, and what it has not saved is lost.")
        sys.stdout.flush()
    finally:
        os._exit(Mistake.code)
