"""Orbax without its noise: what fails reaches the caller as an exception, and is said once."""

from __future__ import annotations

import functools
import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


@functools.cache
def hush_orbax() -> None:
    """Drops Orbax's log, dozens of lines a save, and what its broken-off writes print.

    When one array cannot be written or read, Orbax closes its event loop under the others; each of
    them then prints a traceback that says only that the loop is closed. Everybody else's log lines
    and errors are left as they are.
    """
    logging.getLogger("absl").addFilter(_is_of_another)
    previous = sys.unraisablehook

    def hook(unraisable: UnraisableHookArgs) -> None:
        is_late = (
            unraisable.object is None
            and isinstance(unraisable.exc_value, RuntimeError)
            and str(unraisable.exc_value) == "Event loop is closed"
        )
        if not is_late:
            previous(unraisable)

    sys.unraisablehook = hook


def _is_of_another(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}checkpoint{os.sep}" not in record.pathname
