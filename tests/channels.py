"""Threads in the place of processes, each with a channel, connected as those of processes are."""

import contextlib
import socket
import threading
import time

from jaxformer.io.hosts import Channel


@contextlib.contextmanager
def channels_of(count, lost_timeout=60.0):
    """Yields the channels of so many processes of one run."""
    names = tuple(f"host-{number}" for number in range(count))
    pairs = {number: socket.socketpair() for number in range(1, count)}
    first = Channel(0, names, {number: near for number, (near, _) in pairs.items()}, lost_timeout)
    others = [Channel(number, names, {0: far}, lost_timeout) for number, (_, far) in pairs.items()]
    yield [first, *others]
    close(first, *others)


def close(*channels):
    """Ends all channels of a run, and waits until nothing of them is open."""
    for channel in channels:
        channel.part()
    connections = [one for channel in channels for one in channel._connections.values()]
    deadline = time.monotonic() + 10
    while any(one.fileno() != -1 for one in connections) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(one.fileno() == -1 for one in connections)


def in_threads(*functions):
    """Calls all functions at once; returns what they return, or the ValueError that they raise."""
    results = [None] * len(functions)

    def call(number):
        try:
            results[number] = functions[number]()
        except ValueError as error:
            results[number] = error

    threads = [
        threading.Thread(target=call, args=(number,), daemon=True)
        for number in range(len(functions))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    return results
