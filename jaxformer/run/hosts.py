"""Several processes as one run: they come together, and end together whatever ends one of them.

A process that waits for another within a computation cannot be interrupted. So a thread looks on,
and ends the process when another is lost, or has said that it ends.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator

import jax

from jaxformer.io import hosts
from jaxformer.io.hosts import Channel
from jaxformer.io.meeting import meet
from jaxformer.io.relay import relay

LOST = 4
"""Exit code where another process is lost."""

_GRACE = 5.0
"""Seconds that a process has to come by itself to the end that another has come to."""
_DELAY = 1.0
"""Seconds by which the loss of a process may show in a computation before it is known."""
_BEYOND = 10
"""jax is to notice a loss so many times later, since it aborts the process."""

Describe = Callable[[BaseException], tuple[str, int] | None]
"""What has ended a process -> its sentence and exit code; None for a fault of the program."""


@contextlib.contextmanager
def together(
    address: tuple[str, int],
    num_processes: int,
    process_id: int,
    *,
    join_timeout: int,
    lost_timeout: int,
    describe: Describe,
    say: Callable[[str], None],
) -> Generator[None]:
    """Joins the processes of a run, before any device is used, and parts when all are done.

    If an exception ends one of them, the others end too: with its sentence and exit code, unless
    they come to an end of their own within seconds.

    Args:
      address: host and port where process 0 listens.
      join_timeout: seconds until a process that has not come is given up.
      lost_timeout: seconds without a word until one is taken for lost, if its host has not said
        before that it has died; the others then end with the code LOST.
      describe: tells the others why this process ends.
      say: prints a sentence where the process is ended from another thread.

    Raises: ValueError, naming those that are missing, and OSError, as `meet`.
    """
    host, port = address
    channel, free = meet(
        host,
        port,
        process_id,
        num_processes,
        timeout=join_timeout,
        lost_timeout=lost_timeout,
    )
    hosts.join(channel)
    watch = _Watch(channel, say)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        # As seen from here: process 0 offers it, and the others reach it through a relay.
        near = free if process_id == 0 else relay(host, free)
        jax.distributed.initialize(
            f"127.0.0.1:{near}",
            num_processes,
            process_id,
            coordinator_bind_address=f"[::]:{free}",
            initialization_timeout=join_timeout,
            heartbeat_timeout_seconds=_BEYOND * lost_timeout,
        )
        # jax would swallow the signal, for a protocol that is not used here.
        signal.signal(signal.SIGTERM, on_sigterm)
        if jax.default_backend() == "cpu":
            # Only process 0 would find its programs there, and on CPUs jax gives up when one
            # process is half a minute behind another.
            jax.config.update("jax_enable_compilation_cache", False)
        yield
        channel.wait_for_all()
    except BaseException as error:
        watch.part(describe(error))
        raise
    watch.close()
    jax.distributed.shutdown()
    channel.part()
    hosts.join(Channel())


class _Watch:
    """Looks at the other processes, in a thread of its own, and ends this one with them."""

    def __init__(self, channel: Channel, say: Callable[[str], None]) -> None:
        self._channel, self._say = channel, say
        self._is_over, self._ending = threading.Event(), threading.Lock()
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def close(self) -> None:
        """Lets this process come to its own end."""
        self._is_over.set()

    def part(self, end: tuple[str, int] | None) -> None:
        """Tells the others why this process ends, and sees to it that it does not wait for them.

        If that is for the loss of another, or is a fault and another has ended, that is said
        instead, and the process ends here.
        """
        time.sleep(_DELAY)
        if self._lost() or (end is None and self._ended()):
            self._end_with_others()
        self.close()
        self._channel.write(f"{hosts.ENDED}/{self._channel.process_id}", end)
        self._channel.part()
        # jax would wait for the others.
        atexit.register(_leave, 1 if end is None else end[1])

    def _look(self) -> None:
        self._channel.wait_until(lambda: bool(self._lost() or self._ended()))
        self._channel.wait_until(lambda: bool(self._lost()), _GRACE)
        if not self._is_over.is_set():
            self._end_with_others()

    def _end_with_others(self) -> None:
        with self._ending:
            if lost := self._lost():
                end = "The same command on all hosts goes on from the newest checkpoint.", LOST
                told = f"{lost[0]} is lost."
            else:
                name, end = self._ended()[0]
                end = end or ("by a fault of the program, which its own output shows.", 1)
                told = f"{name} has ended:"
            self._say(f"{told} {end[0]}")
            self._channel.part()
            _leave(end[1])

    def _lost(self) -> list[str]:
        return [self._name(number) for number in self._channel.read(hosts.LOST)]

    def _ended(self) -> list[tuple[str, tuple[str, int] | None]]:
        found = sorted(self._channel.read(hosts.ENDED).items())
        own = str(self._channel.process_id)
        return [(self._name(number), end) for number, end in found if number != own]

    def _name(self, number: str) -> str:
        return f"Process {number} on {self._channel.hosts[int(number)]}"


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
