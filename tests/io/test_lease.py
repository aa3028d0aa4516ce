"""The lease: one holder while it is renewed, another when it is not; who has lost it is told."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxformer.files import patience
from jaxformer.io import lease as lease_lib
from jaxformer.io.lease import NAME, Lease, describe, lease
from tests.memory_objects import Clock, MemoryObjects

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = "gs://bucket/run"
ME = f"process {os.getpid()} on {socket.gethostname()}"


def make(objects, clock, seconds=60.0):
    return Lease(objects, FOLDER, seconds, clock, clock.sleep)


def test_a_free_folder_is_taken_at_once_and_given_back():
    objects, clock, said = MemoryObjects(), Clock(), []
    held = make(objects, clock)
    held.take(said.append)
    assert describe(objects.read(NAME)) == ME
    assert json.loads(objects.read(NAME)[0])["seconds"] == 60.0
    held.give_back()
    assert (objects.stored, clock.now, said) == ({}, 1000.0, [])


def test_who_comes_second_is_refused_as_soon_as_the_first_renews():
    objects, first_clock = MemoryObjects(), Clock()
    first = make(objects, first_clock)
    first.take()
    clock, said = Clock((1014.0, first.renew)), []
    with pytest.raises(ValueError, match="is in use by") as raised:
        make(objects, clock).take(said.append)
    assert str(raised.value) == (
        f"{FOLDER} is in use by {ME}. Wait for its end, or give another --workdir."
    )
    assert said == [f"{FOLDER} is held by {ME}: waiting up to 60 seconds for a sign of it."]
    assert clock.now == 1015.0
    assert first.renew()


def test_a_lease_that_is_not_renewed_is_taken_over_when_it_ends_and_not_before():
    objects = MemoryObjects()
    first = make(objects, Clock(), seconds=30.0)
    first.take()
    clock = Clock()
    second = make(objects, clock, seconds=60.0)
    second.take()
    assert clock.now == 1030.0
    with pytest.raises(ValueError, match=f"{FOLDER} has been taken over by {ME}"):
        first.renew()
    assert second.renew()
    # Nor does it take what is not its own any more.
    first.give_back()
    assert NAME in objects.stored


def test_a_lease_that_is_given_back_is_not_waited_for_any_longer():
    objects = MemoryObjects()
    first = make(objects, Clock())
    first.take()
    clock = Clock((1003.0, first.give_back))
    make(objects, clock).take()
    assert clock.now == 1005.0


def test_of_two_who_wait_one_takes_it():
    objects = MemoryObjects()
    make(objects, Clock()).take()
    other = make(objects, Clock())
    clock = Clock((1059.0, other.take))
    # The other one has waited elsewhere, and is quicker by a moment.
    with pytest.raises(ValueError, match="is in use by"):
        make(objects, clock).take()
    assert other.renew()


def test_one_who_is_quicker_between_a_look_and_the_writing_is_waited_for():
    objects, clock = MemoryObjects(), Clock()
    other = make(objects, Clock())
    read = objects.read

    def slow(name):
        found = read(name)
        objects.read = read
        other.take()
        clock.events.append((clock.now + 1, other.renew))
        return found

    objects.read = slow
    with pytest.raises(ValueError, match="is in use by"):
        make(objects, clock).take()
    assert other.renew()


def test_a_bucket_that_cannot_be_reached_is_borne_until_the_lease_has_ended():
    objects, clock = MemoryObjects(), Clock()
    held = make(objects, clock)
    held.take()
    clock.sleep(20)
    assert held.renew()
    objects.is_reachable = False
    clock.sleep(59)
    assert not held.renew()
    objects.is_reachable = True
    assert held.renew()
    objects.is_reachable = False
    clock.sleep(60)
    with pytest.raises(ValueError, match="could not be renewed for 60 seconds .the network is"):
        held.renew()


def taken_and_renewed_without_an_answer():
    objects, clock = MemoryObjects(), Clock()
    held = make(objects, clock)
    held.take()
    write = objects.write

    def lose_the_answer(*args):
        write(*args)
        raise OSError("no answer")

    objects.write = lose_the_answer
    assert not held.renew()
    objects.write = write
    return held, objects


def test_a_renewal_whose_answer_was_lost_is_one_all_the_same():
    held, objects = taken_and_renewed_without_an_answer()
    # Its own generation is unknown to it until it has looked.
    assert not held.renew()
    assert held.renew()
    held.give_back()
    assert objects.stored == {}


def test_a_lease_is_given_back_after_a_renewal_whose_answer_was_lost():
    held, objects = taken_and_renewed_without_an_answer()
    held.give_back()
    assert objects.stored == {}


def test_one_that_cannot_be_looked_at_is_not_taken_for_given_back():
    held, objects = taken_and_renewed_without_an_answer()

    def fail(name):
        raise OSError("no answer")

    objects.read = fail
    with pytest.raises(OSError, match="no answer"):
        held.give_back()


def test_who_has_lost_it_and_cannot_ask_to_whom_is_told():
    objects = MemoryObjects()
    held = make(objects, Clock())
    held.take()
    objects.write(NAME, b"{}", objects.stored[NAME][1])

    def fail(name):
        raise OSError("the network is down")

    objects.read = fail
    with pytest.raises(ValueError, match="has been taken over by another process"):
        held.renew()


def test_a_lease_that_nobody_could_wait_for_is_refused():
    objects = MemoryObjects()
    with (
        pytest.raises(ValueError, match="A lease of 7200 seconds on gs://bucket/run is too long"),
        lease(FOLDER, 7200, say=print, on_loss=print, objects=objects),
    ):
        pass
    assert objects.stored == {}


def test_a_fault_of_the_thread_is_a_loss(monkeypatch):
    faults = []
    monkeypatch.setattr(threading, "excepthook", faults.append)
    objects, told, is_told = MemoryObjects(), [], threading.Event()

    def on_loss(sentence):
        told.append(sentence)
        is_told.set()

    def fail(name, data, generation):
        raise KeyError(name)

    with lease(FOLDER, 0.2, say=print, on_loss=on_loss, objects=objects):
        objects.write = fail
        assert is_told.wait(30)
    assert told == [f"The lease on {FOLDER} is renewed no more."]
    assert [fault.exc_type for fault in faults] == [KeyError]


def test_a_request_that_hangs_does_not_outlast_the_lease():
    objects, told, is_told = MemoryObjects(), [], threading.Event()

    def on_loss(sentence):
        told.append(sentence)
        is_told.set()

    def hang(name, data, generation):
        assert is_told.wait(30), "the loss was to be told meanwhile"
        raise OSError("no answer at last")

    with lease(FOLDER, 0.4, say=print, on_loss=on_loss, objects=objects):
        objects.write = hang
        assert is_told.wait(30)
    assert told == [f"The lease on {FOLDER} could not be renewed for 0.4 seconds (no answer)."]


@pytest.mark.parametrize("hanging", ["write", "delete"])
def test_a_request_that_hangs_does_not_hold_up_the_end(hanging):
    """Neither the block's nor the process's: nobody answers it ever."""
    script = f"""
import threading
from jaxformer.io.lease import lease
from tests.memory_objects import MemoryObjects

objects, is_asked = MemoryObjects(), threading.Event()

def hang(*args):
    is_asked.set()
    threading.Event().wait()

with lease("{FOLDER}", 60, say=print, on_loss=print, objects=objects, farewell=0.2):
    pass
assert not objects.stored, "it was to be given back where all answer"
with lease("{FOLDER}", 4, say=print, on_loss=print, objects=objects, farewell=0.2):
    objects.{hanging} = hang
    if "{hanging}" == "write":
        is_asked.wait()
assert is_asked.is_set()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"The lease on {FOLDER} could not be given back (no answer for 0.2 seconds). It ends by "
        "itself 4 seconds after its last renewal.\n"
    )


def test_a_bucket_that_cannot_be_reached_at_the_end_is_told_of():
    objects, said = MemoryObjects(), []
    with lease(FOLDER, 60, say=said.append, on_loss=print, objects=objects):
        objects.is_reachable = False
    assert said == [
        f"The lease on {FOLDER} could not be given back (the network is down). It ends by itself "
        "60 seconds after its last renewal."
    ]


def test_a_renewal_on_its_way_comes_before_the_lease_is_given_back():
    """Or what it writes would stay, and whoever comes next would wait for its end."""
    objects, is_asked, may_answer = MemoryObjects(), threading.Event(), threading.Event()
    write = objects.write

    def late(*args):
        is_asked.set()
        assert may_answer.wait(30)
        return write(*args)

    held = make(objects, Clock())
    held.take()
    objects.write = late
    threads = [threading.Thread(target=each) for each in (held.renew, held.give_back)]
    threads[0].start()
    assert is_asked.wait(30)
    threads[1].start()
    threads[1].join(0.1)
    may_answer.set()
    for thread in threads:
        thread.join(30)
    assert objects.stored == {}


@pytest.mark.parametrize(("lost_timeout", "bound"), [(8, 2.0), (3600, 15.0)])
def test_a_request_is_given_up_in_time_for_another_one(monkeypatch, lost_timeout, bound):
    given = []

    def make_objects(folder, seconds):
        given.append((folder, seconds))
        return MemoryObjects()

    monkeypatch.setattr(lease_lib, "BucketObjects", make_objects)
    with lease(FOLDER, lost_timeout, say=print, on_loss=print):
        # All else may take as long as the lease lasts.
        assert patience() == max(15.0, lost_timeout)
    assert patience() == 15.0
    assert given == [(FOLDER, bound)]


def test_a_process_that_was_held_up_may_ask_once_more():
    objects, clock = MemoryObjects(), Clock()
    held = make(objects, clock)
    held.take()
    clock.sleep(50)
    assert held.left() == 10.0
    clock.sleep(50)
    assert held.left() == 3.75
    assert held.renew()
    assert held.left() == 60.0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"holder": 3, "seconds": "nan"}', b'{"seconds": 1e9}', b"[" * 100_000],
)
def test_a_damaged_lease_lasts_as_long_as_ones_own(content):
    objects, clock = MemoryObjects(), Clock()
    objects.write(NAME, content, 0)
    said = []
    make(objects, clock, 24.0).take(said.append)
    assert clock.now == 1024.0
    assert "is held by another process: waiting up to 24 seconds" in said[0]


def test_a_thread_renews_until_the_end():
    objects = MemoryObjects()
    renewed = threading.Event()
    write = objects.write

    def count(name, data, generation):
        if len(objects.written) > 3:
            renewed.set()
        return write(name, data, generation)

    objects.write = count
    with lease(FOLDER, 0.08, say=print, on_loss=print, objects=objects):
        assert renewed.wait(30)
    assert objects.stored == {}


def test_the_loss_is_told_once_and_nothing_is_written_after_it():
    objects, told, is_told = MemoryObjects(), [], threading.Event()

    def on_loss(sentence):
        told.append(sentence)
        is_told.set()

    with lease(FOLDER, 0.2, say=print, on_loss=on_loss, objects=objects):
        objects.write(NAME, b'{"holder": "process 1 on elsewhere"}', objects.stored[NAME][1])
        assert is_told.wait(30)
    assert told == [f"{FOLDER} has been taken over by process 1 on elsewhere."]
    assert b"elsewhere" in objects.stored[NAME][0]
