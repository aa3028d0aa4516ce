"""Checkpoints in a bucket: whole or not there, summed, kept, and set aside where damaged."""

import contextlib
import threading

import numpy as np
import pytest

from jaxformer.files import is_folder
from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.digest import SUMS, find_fault
from tests.bucket_server import BucketServer, Stored
from tests.io.test_checkpoint import ABSTRACT, assert_same, make_state

pytestmark = pytest.mark.needs("gcs")

FOLDER = "gs://bucket/run/checkpoints"


@pytest.fixture
def server(monkeypatch):
    """Returns a bucket that the clients of this process come to."""
    with BucketServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def steps_of(server):
    return {name.split("/")[2] for name in server.objects if name.startswith("run/checkpoints/")}


def test_a_checkpoint_is_complete_with_its_sums_and_damage_is_found(server):
    with pytest.raises(ValueError, match=f"No checkpoints at {FOLDER}: train first"):
        Checkpoints(FOLDER, read_only=True)
    written = []
    put = server.put

    def note(name, data, query):
        written.append(name)
        return put(name, data, query)

    server.put = note
    with Checkpoints(FOLDER, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(make_state(step), meta={"epoch": step})
    assert written[-1] == f"run/checkpoints/3/{SUMS}"
    assert steps_of(server) == {"2", "3"}
    summed = {line.split("  ")[1] for line in server.content(written[-1]).decode().splitlines()}
    assert {f"run/checkpoints/3/{name}" for name in [*summed, SUMS]} == {
        name for name in server.objects if name.startswith("run/checkpoints/3/")
    }

    # Without its sums a step is what a kill has left.
    sums = server.objects.pop(written[-1])
    with Checkpoints(FOLDER, read_only=True) as checkpoints:
        assert checkpoints.all_steps() == [2]
    server.objects[written[-1]] = sums
    with Checkpoints(FOLDER, keep=2) as checkpoints:
        assert checkpoints.newest_sound() == (3, {})
        assert_same(checkpoints.restore(ABSTRACT), make_state(3))
        assert checkpoints.read_meta(2) == {"epoch": 2}
        first, second = checkpoints.params_of([3, 2], ABSTRACT.params)
        np.testing.assert_array_equal(
            first["dense"]["kernel"], second["dense"]["kernel"] + np.float32(1)
        )

    name = next(name for name in sorted(summed) if name.startswith("state/d/"))
    before = server.objects[f"run/checkpoints/3/{name}"]
    flipped = bytes([before.data[0] ^ 1]) + before.data[1:]
    server.objects[f"run/checkpoints/3/{name}"] = Stored(flipped, before.generation)
    assert find_fault(f"{FOLDER}/3") == f"{name} is not as it was saved"
    with Checkpoints(FOLDER, keep=2) as checkpoints:
        assert checkpoints.newest_sound() == (2, {3: f"{name} is not as it was saved"})
        assert checkpoints.set_aside(3) == f"{FOLDER}/3.damaged"
        assert checkpoints.all_steps() == [2]
        checkpoints.save(make_state(3))
    assert steps_of(server) == {"2", "3", "3.damaged"}
    # It is no leftover, even if a kill came while it was moved, and stays to be looked at.
    del server.objects[f"run/checkpoints/3.damaged/{SUMS}"]
    del server.objects[f"run/checkpoints/2/{SUMS}"]
    with Checkpoints(FOLDER, keep=2) as checkpoints:
        assert checkpoints.all_steps() == [3]
        checkpoints.save(make_state(4))
    assert steps_of(server) == {"3", "4", "3.damaged"}


def test_of_two_who_write_a_step_the_later_one_completes_it(server):
    put, releases, arrived = server.put, [], threading.Semaphore(0)

    def hold(name, data, query):
        if name == "run/checkpoints/2/commit_success.txt":
            releases.append(threading.Event())
            arrived.release()
            assert releases[-1].wait(60)
        return put(name, data, query)

    server.put = hold
    with contextlib.ExitStack() as stack:
        lost = stack.enter_context(Checkpoints(FOLDER))
        lost.save(make_state(1))
        lost.wait()
        lost.save(make_state(2))
        assert arrived.acquire(timeout=60)
        # Its lease has ended, and another goes on.
        new = stack.enter_context(Checkpoints(FOLDER))
        assert new.all_steps() == [1]
        new.save(make_state(2))
        assert arrived.acquire(timeout=60)
        releases[0].set()
        with pytest.raises(OSError, match=r"Checkpoint 2 could not be .*Another process has writ"):
            lost.wait()
        with Checkpoints(FOLDER, read_only=True) as reader:
            assert reader.all_steps() == [1]
        releases[1].set()
        new.wait()
        assert new.newest_sound() == (2, {})
        assert_same(new.restore(ABSTRACT), make_state(2))


def test_a_bucket_that_is_silent_does_not_make_a_checkpoint_damaged(server):
    with Checkpoints(FOLDER) as checkpoints:
        checkpoints.save(make_state(1))
    with Checkpoints(FOLDER, read_only=True) as checkpoints:
        assert checkpoints.newest_sound() == (1, {})
        server.refuse = lambda method, name: 400 if "/1/" in name else 0
        for read in (
            checkpoints.read_meta,
            lambda: checkpoints.restore(ABSTRACT),
            lambda: next(checkpoints.params_of([1], ABSTRACT.params)),
        ):
            with pytest.raises(OSError, match="Step 1 could not be read now") as raised:
                read()
            assert "Move" not in str(raised.value)
    server.refuse = lambda method, name: 400 if "/state/d/" in name else 0
    with pytest.raises(OSError, match="The bucket cannot be reached .It was to be refused"):
        find_fault(f"{FOLDER}/1")
    server.refuse = lambda method, name: 403 if "/state/d/" in name else 0
    with pytest.raises(OSError, match=rf"Forbidden.*refused: '{FOLDER}/1/state/d/"):
        find_fault(f"{FOLDER}/1")


def test_a_bucket_that_is_silent_changes_neither_what_is_there_nor_what_is_averaged(server):
    with Checkpoints(FOLDER, keep=1) as checkpoints:
        checkpoints.save(make_state(1), best=1)
        checkpoints.save(make_state(2), best=1)
        assert checkpoints.last_steps(3) == [2]
        server.refuse = lambda method, name: 403 if "/2/meta/" in name else 0
        with pytest.raises(OSError, match="Step 2 could not be read now"):
            checkpoints.last_steps(3)
        server.refuse = lambda method, name: 0
        assert checkpoints.last_steps(3) == [2]
    assert is_folder(FOLDER)
    assert not is_folder(f"{FOLDER}/7")
    server.refuse = lambda method, name: 403
    with pytest.raises(OSError, match="It was to be refused"):
        is_folder(FOLDER)
    server.refuse = lambda method, name: 0


def test_a_save_that_cannot_be_written_keeps_the_others(server):
    with Checkpoints(FOLDER, keep=2) as checkpoints:
        checkpoints.save(make_state(1))
        checkpoints.wait()
        server.refuse = lambda method, name: 400 if method == "POST" else 0
        checkpoints.save(make_state(2))
        with pytest.raises(OSError, match=f"Checkpoint 2 could not be written to {FOLDER} .*: 1."):
            checkpoints.wait()
    server.refuse = lambda method, name: 0
    with Checkpoints(FOLDER, keep=2) as checkpoints:
        assert checkpoints.all_steps() == [1]
        checkpoints.save(make_state(2))
    assert steps_of(server) == {"1", "2"}
