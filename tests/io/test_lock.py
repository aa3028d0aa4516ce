"""The lock: one holder, named to the next, and none once the holder's process has ended."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jaxformer.io.lock import lock

ROOT = Path(__file__).resolve().parents[2]

HOLDING = """
import sys, time
from jaxformer.io.lock import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_and_told_who_holds_it(tmp_path):
    with lock(tmp_path), pytest.raises(ValueError, match="is in use by") as raised, lock(tmp_path):
        pass
    assert str(raised.value) == (
        f"{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()}. Wait for its "
        "end, or give another --workdir."
    )
    with lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=f"in use by process {process.pid} "), lock(tmp_path):
            pass
        process.kill()
    assert (tmp_path / "lock").exists()
    with lock(tmp_path):
        pass


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path):
    with lock(tmp_path / "a" / "new"):
        assert (tmp_path / "a" / "new" / "lock").exists()
    assert not (tmp_path / "a" / "new").exists()
    with lock(tmp_path / "used"):
        (tmp_path / "used" / "file").touch()
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["file"]


def test_a_lock_on_a_file_that_is_gone_is_no_lock(tmp_path, monkeypatch):
    flock, taken = fcntl.flock, []

    def slow(file, operation):
        if not taken:
            # Between opening and locking, the last holder ends and the next one starts.
            (tmp_path / "lock").unlink()
        taken.append(file)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    with lock(tmp_path):
        assert len(taken) == 2
        with pytest.raises(ValueError, match="in use by"), lock(tmp_path):
            pass


def test_a_file_system_without_locks_is_gone_on_with(tmp_path, monkeypatch):
    def fail(file, operation):
        raise OSError(number, "message")

    monkeypatch.setattr(fcntl, "flock", fail)
    number = errno.ENOLCK
    with lock(tmp_path):
        pass
    number = errno.EIO
    with pytest.raises(OSError, match="message") as raised, lock(tmp_path):
        pass
    assert raised.value.filename == str(tmp_path / "lock")
