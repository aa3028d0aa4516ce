"""What Orbax's abandoned writes leave behind is silenced; what is anybody else's is not.

When the real ones are collected depends on the scheduler, so these are made by hand, from code
compiled under a file name of Orbax's.
"""

import asyncio
import gc
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxformer.io.quiet import hush_orbax

ROOT = Path(__file__).resolve().parents[2]
THEIRS = os.path.join(os.sep, "packages", "orbax", "checkpoint", "serialization.py")
OURS = os.path.join(os.sep, "packages", "another", "serialization.py")

SOURCE = """
async def async_serialize_from_host():
    async def write_fragment():
        pass

    # A coroutine that is made and never awaited, then an error that nobody fetches.
    written = [write_fragment()]
    raise ValueError("disk full")
"""


def fail_unfetched(filename):
    namespace = {}
    exec(compile(SOURCE, filename, "exec"), namespace)

    async def run():
        task = asyncio.ensure_future(namespace["async_serialize_from_host"]())
        await asyncio.wait([task])

    asyncio.run(run())
    gc.collect()


@pytest.fixture(autouse=True)
def hushed():
    hush_orbax()


def test_an_abandoned_write_is_silent(caplog, capfd):
    fail_unfetched(THEIRS)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_another_task_that_fails_is_told(caplog):
    fail_unfetched(OURS)
    assert "Task exception was never retrieved" in caplog.text
    assert "disk full" in caplog.text


def test_a_checkpoint_named_in_an_error_of_asyncio_is_silent(caplog):
    log = logging.getLogger("asyncio")
    log.error("_GatheringFuture exception was never retrieved: /runs/2.orbax-checkpoint-tmp/state")
    log.error("_GatheringFuture exception was never retrieved: /runs/2/state")
    assert [record.getMessage().rsplit(": ")[1] for record in caplog.records] == ["/runs/2/state"]


def test_a_command_prints_nothing_of_it():
    """Outside pytest, where warnings are printed and not raised."""
    code = (
        "from jaxformer.io.quiet import hush_orbax\n"
        "from tests.io.test_quiet import OURS, THEIRS, fail_unfetched\n"
        "import sys\n"
        "hush_orbax()\n"
        "fail_unfetched(sys.argv[1])\n"
    )
    said = {
        path: subprocess.run(
            [sys.executable, "-c", code, path],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        for path in (THEIRS, OURS)
    }
    assert said[THEIRS] == ""
    assert "disk full" in said[OURS]
