"""How processes find each other: all of them come, or those that have say who has not."""

import socket
import time

import pytest

from jaxformer.io.meeting import meet
from tests.channels import close, in_threads

NAME = socket.gethostname()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def meeting(port, *ids, count=None, timeout=10.0):
    """Lets processes meet; returns (channel, port), or what is raised, of each."""
    return in_threads(
        *[
            lambda number=number: meet(
                "127.0.0.1", port, number, count or len(ids), timeout=timeout, lost_timeout=5.0
            )
            for number in ids
        ]
    )


@pytest.mark.parametrize("ids", [(0, 1), (2, 0, 1)])
def test_all_meet(ids):
    found = dict(zip(ids, meeting(free_port(), *ids), strict=True))
    assert len({port for _, port in found.values()}) == 1
    for number, (channel, _) in found.items():
        assert (channel.process_id, channel.hosts) == (number, (NAME,) * len(ids))
    found[1][0].write("words/one", 1)
    assert [channel.wait_for("words/one") for channel, _ in found.values()] == [1] * len(ids)
    close(*[channel for channel, _ in found.values()])


def test_strangers_are_not_counted():
    port = free_port()

    def come(number):
        return meet("127.0.0.1", port, number, 2, timeout=10, lost_timeout=5)[0]

    def come_after_strangers():
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"process": "x"}\n', b""):
            with connect(port) as connection:
                connection.sendall(words)
        return come(1)

    channels = in_threads(lambda: come(0), come_after_strangers)
    assert [channel.num_processes for channel in channels] == [2, 2]
    close(*channels)


def connect(port):
    """Returns a connection, as soon as there is somebody to connect to."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.01)


@pytest.mark.parametrize(("ids", "missing"), [((0,), "1, 2"), ((0, 2), "1"), ((1,), "0")])
def test_who_is_missing_is_named_by_all_that_came(ids, missing):
    port = free_port()
    for error in meeting(port, *ids, count=3, timeout=0.5):
        assert isinstance(error, ValueError)
        assert str(error) == (
            f"Of 3 processes, process {missing} has not come to 127.0.0.1:{port} within 0.5 "
            "seconds. Start it with the same address, or look at its output."
        )


def test_two_of_a_number_are_refused():
    first, *others = meeting(free_port(), 0, 1, 1, count=3)
    assert str(first) == (
        f"Two processes, on {NAME} and {NAME}, have --process_id=1. Give each its own, from 0."
    )
    assert {str(error) for error in others} == {str(first)}


def test_two_counts_are_refused():
    port = free_port()
    calls = [
        lambda number=number, count=count: meet(
            "127.0.0.1", port, number, count, timeout=10, lost_timeout=5
        )
        for number, count in ((0, 2), (1, 3))
    ]
    errors = in_threads(*calls)
    assert {str(error) for error in errors} == {
        f"Process 1 on {NAME} counts 3 processes, and process 0 on {NAME} counts 2. Give all the "
        "same --num_processes."
    }


def test_a_port_that_is_taken_is_an_error_of_the_system():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            meet("127.0.0.1", port, 0, 2, timeout=1, lost_timeout=5)
