"""What ends one process ends the others, with the right words and exit code."""

import threading

import pytest

from jaxformer.io.hosts import ENDED, LOST
from jaxformer.run import hosts
from tests.channels import channels_of


class Left(Exception):
    """In the place of the end of a process."""


class Process:
    """What looks at the others, in a process that notes its end instead of coming to it."""

    def __init__(self, channel):
        self.said, self.code, self.has_left = [], None, threading.Event()
        self.watch = hosts._Watch(channel, self.said.append)

    def leave(self, code):
        self.code = code
        self.has_left.set()
        if threading.current_thread() is threading.main_thread():
            raise Left


@pytest.fixture
def two(monkeypatch):
    """Yields the channels of two processes, and process 0."""
    monkeypatch.setattr(hosts, "_GRACE", 0.3)
    monkeypatch.setattr(hosts, "_DELAY", 0.1)
    with channels_of(2) as channels:
        process = Process(channels[0])
        monkeypatch.setattr(hosts, "_leave", process.leave)
        yield channels, process
        # Before `_leave` is again what ends a process.
        process.watch.close()


def test_a_loss_ends_a_process(two):
    (_, other), process = two
    other.write(f"{LOST}/1", True)
    assert process.has_left.wait(10)
    assert process.code == hosts.LOST
    assert process.said == [
        "Process 1 on host-1 is lost. The same command on all hosts goes on from the newest "
        "checkpoint."
    ]


@pytest.mark.parametrize(
    ("end", "told", "code"),
    [
        (("It was a mistake.", 2), "It was a mistake.", 2),
        (None, "by a fault of the program, which its own output shows.", 1),
    ],
)
def test_the_end_of_another_ends_a_process_that_does_not_end_itself(two, end, told, code):
    (_, other), process = two
    other.write(f"{ENDED}/1", end)
    assert not process.has_left.wait(0.1)
    assert process.has_left.wait(10)
    assert (process.said, process.code) == ([f"Process 1 on host-1 has ended: {told}"], code)


def test_a_process_that_comes_to_the_same_end_says_so_itself(two, monkeypatch):
    registered = []
    monkeypatch.setattr(hosts.atexit, "register", lambda *end: registered.append(end))
    (channel, other), process = two
    other.write(f"{ENDED}/1", ("Not finite.", 3))
    channel.wait_for(f"{ENDED}/1")
    process.watch.part(("Not finite.", 3))
    assert not process.has_left.wait(0.6)
    assert process.said == []
    assert registered == [(process.leave, 3)]
    assert other.wait_for(f"{ENDED}/0") == ["Not finite.", 3]


@pytest.mark.parametrize("end", [None, ("A checkpoint could not be written.", 2)])
def test_what_a_loss_has_led_to_is_not_told_in_its_place(two, end):
    (channel, other), process = two
    other.write(f"{LOST}/1", True)
    channel.wait_for(f"{LOST}/1")
    with pytest.raises(Left):
        process.watch.part(end)
    assert process.code == hosts.LOST
    assert process.said[0].startswith("Process 1 on host-1 is lost.")


def test_what_looks_like_a_fault_is_told_as_the_end_of_another(two):
    (channel, other), process = two
    other.write(f"{ENDED}/1", ("It was a mistake.", 2))
    channel.wait_for(f"{ENDED}/1")
    with pytest.raises(Left):
        process.watch.part(None)
    assert (process.said, process.code) == (["Process 1 on host-1 has ended: It was a mistake."], 2)
