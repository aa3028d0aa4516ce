"""Telling a user's mistake, which is answered in one sentence, from a fault of the program.

The library raises ValueError for what its user can mend. So may any package below it, for reasons
that no user can mend, and those must keep their traceback. What tells them apart is where the
error was raised, and in which phase of a command.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType

from jaxformer.files import is_of_bucket

_PACKAGE = Path(__file__).resolve().parent.parent


class Ending(Exception):
    """An end before the work is done; its text is the sentence to be printed.

    Attributes:
      code: the exit code; docs/faults.md lists all.
    """

    code = 1


class Mistake(Ending):
    """A user's mistake."""

    code = 2


class Diverged(Ending):
    """Numbers that are no longer finite."""

    code = 3


class Stopped(Ending):
    """A signal that was obeyed; the shell's code for it."""

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.code = 128 + number


@contextlib.contextmanager
def mistakes() -> Generator[None]:
    """Turns what a user can mend into a Mistake: for phases that read settings and files.

    These are ValueErrors raised by this package's own code, and the errors of the file system or of
    a bucket.
    """
    with file_mistakes():
        try:
            yield
        except ValueError as error:
            if _raised_here(error.__traceback__):
                raise Mistake(describe(error)) from error
            raise


@contextlib.contextmanager
def file_mistakes() -> Generator[None]:
    """Turns only errors of the file system, or of a bucket, into a Mistake: for computing."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Mistake(describe(error)) from error
    except Exception as error:
        if is_of_bucket(error):
            raise Mistake(describe(error)) from error
        raise


def answered(program: str, work: Callable[[], None]) -> int:
    """Does the work of a script; returns the exit code, 2 after the sentence of a mistake."""

    def run() -> int:
        with mistakes():
            work()
        return 0

    return exit_code(program, run)


def exit_code(program: str, run: Callable[[], int]) -> int:
    """Returns the exit code that `run` gives, or that of what ended it, after its sentence."""
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        # Or Python would complain when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (Ending, KeyboardInterrupt) as error:
        found = describe_end(error)
        if found is None or (isinstance(error, Ending) and os.environ.get("JAXFORMER_DEBUG")):
            raise
        told, code = found
        print(f"{program}: {told}", file=sys.stderr)
    return code


def describe_end(error: BaseException) -> tuple[str, int] | None:
    """Returns the sentence and the exit code of what ends a command; None if that is a fault."""
    if isinstance(error, Ending):
        return str(error), error.code
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "Interrupted.", 130
    return None


def describe(error: Exception) -> str:
    """Returns the error as one line of text."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{os.fspath(error.filename)!r}: {error.strerror}."
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _raised_here(traceback: TracebackType | None) -> bool:
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return Path(traceback.tb_frame.f_code.co_filename).resolve().is_relative_to(_PACKAGE)
