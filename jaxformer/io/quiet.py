"""Orbax without its noise: what fails reaches the caller as an exception, and is said once."""

from __future__ import annotations

import functools
import logging
import os
import sys
import types
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_FOLDER = f"{os.sep}orbax{os.sep}checkpoint{os.sep}"


@functools.cache
def hush_orbax() -> None:
    """Drops Orbax's log, dozens of lines a save, and what its broken-off writes print.

    When one array cannot be written or read, Orbax raises that error and abandons the other arrays.
    Each of those then speaks up for itself, whenever it happens to be collected: a traceback that
    says only that the loop is closed, an error of asyncio's that nobody fetched, or a warning that
    a coroutine was never awaited. Everybody else's log lines and errors are left as they are.
    """
    logging.getLogger("absl").addFilter(lambda record: _FOLDER not in record.pathname)
    logging.getLogger("asyncio").addFilter(lambda record: not _is_abandoned(record.getMessage()))
    # The message names the coroutine, and the module is that of whoever was running just then.
    warnings.filterwarnings("ignore", r"coroutine 'async_(de)?serialize", RuntimeWarning)
    previous = sys.unraisablehook

    def hook(unraisable: UnraisableHookArgs) -> None:
        if not _is_late(unraisable.object, unraisable.exc_value):
            previous(unraisable)

    sys.unraisablehook = hook


def _is_abandoned(message: str) -> bool:
    """Whether asyncio speaks of a task of Orbax's, or of an error in a checkpoint being written."""
    return _FOLDER in message or ".orbax-checkpoint-tmp" in message


def _is_late(culprit: object, error: BaseException | None) -> bool:
    if isinstance(culprit, types.CoroutineType):  # Where warnings are errors.
        return _FOLDER in culprit.cr_code.co_filename
    is_closed = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
    return culprit is None and is_closed
