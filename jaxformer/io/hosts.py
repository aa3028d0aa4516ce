"""What the processes of one run tell each other.

Everything here works in a process that is alone, too, and then costs nothing. For several, see
jaxformer/io/meeting.py.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

LOST, ENDED = "lost", "ended"
"""Keys `lost/N` and `ended/N` tell of process N that it does not live, and why it ends."""


class Channel:
    """A table of keys and values that all processes write to, over a connection to process 0.

    A key keeps its first value. Process 0 says what that is: the others see a value when it has
    come back from there.

    Attributes:
      process_id, num_processes: who this is, and of how many.
      hosts: the name of each process's host.
    """

    def __init__(
        self,
        process_id: int = 0,
        hosts: tuple[str, ...] = (),
        connections: Mapping[int, socket.socket] | None = None,
        lost_timeout: float = 60.0,
    ) -> None:
        """Begins to listen to the connections: those of process 0 to all others, or one to it.

        Args:
          lost_timeout: seconds without a word after which a process is lost.
        """
        self.process_id, self.hosts = process_id, hosts or (socket.gethostname(),)
        self.num_processes = len(self.hosts)
        self._connections = dict(connections or {})
        self._locks = {peer: threading.Lock() for peer in self._connections}
        self._values: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._parted: set[int] = set()
        self._is_closed = threading.Event()
        self._turn = 0
        for peer, connection in self._connections.items():
            connection.settimeout(lost_timeout)
            self._start(self._listen, peer, connection)
        if self._connections:
            self._start(self._beat, lost_timeout / 4)

    def write(self, key: str, value: Any) -> None:
        """Writes a value, of what JSON can hold, unless the key has one."""
        if self.process_id == 0:
            self._take(0, {"key": key, "value": value})
        else:
            self._send(0, {"key": key, "value": value})

    def read(self, folder: str) -> dict[str, Any]:
        """Returns name -> value of the keys `folder/name` that have one."""
        with self._changed:
            return {
                key.removeprefix(f"{folder}/"): value
                for key, value in self._values.items()
                if key.startswith(f"{folder}/")
            }

    def wait_for(self, key: str) -> Any:
        """Returns the value of a key, once it has one."""
        with self._changed:
            self._changed.wait_for(lambda: key in self._values)
            return self._values[key]

    def wait_until(self, is_so: Callable[[], bool], seconds: float | None = None) -> bool:
        """Waits for what the table's keys decide; returns whether it is so."""
        with self._changed:
            return self._changed.wait_for(is_so, seconds)

    def from_first(self, value: Any) -> Any:
        """Returns what process 0 has given; the others' values do not count.

        This, `gather` and `wait_for_all` are called by all processes, equally often, in the same
        order, and from one thread.

        Args:
          value: of what JSON can hold.
        """
        if self.num_processes == 1:
            return value
        key = f"said/{self._next_turn()}"
        if self.process_id == 0:
            self.write(key, value)
        return self.wait_for(key)

    def gather(self, value: Any) -> list[Any]:
        """Returns in process 0 what each has given, in their order, and in the others nothing."""
        if self.num_processes == 1:
            return [value]
        turn = self._next_turn()
        message = {"key": f"given/{turn}/{self.process_id}", "value": value, "is_gift": True}
        if self.process_id != 0:
            self._send(0, message)
            return []
        self._take(0, message)
        return [self.wait_for(f"given/{turn}/{number}") for number in range(self.num_processes)]

    def wait_for_all(self) -> None:
        """Returns when all processes have come to this call."""
        self.gather(None)
        self.from_first(None)

    def part(self) -> None:
        """Tells the others that this process is not lost when it is not heard of any more."""
        self._is_closed.set()
        for peer, connection in self._connections.items():
            self._send(peer, {"parts": True})
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn

    def _start(self, function: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=function, args=arguments, name="hosts", daemon=True).start()

    def _listen(self, peer: int, connection: socket.socket) -> None:
        # An error is silence for too long, or what is no message.
        with (
            contextlib.suppress(OSError, ValueError, TypeError, KeyError),
            connection,
            connection.makefile("rb") as lines,
        ):
            for line in lines:
                if line.strip():
                    self._take(peer, json.loads(line))
        if peer not in self._parted and not self._is_closed.is_set():
            self._take(peer, {"key": f"{LOST}/{peer}", "value": True})

    def _take(self, peer: int, message: Mapping[str, Any]) -> None:
        if "parts" in message:
            self._parted.add(peer)
            return
        is_new = self._put(message["key"], message["value"])
        if is_new and self.process_id == 0 and not message.get("is_gift"):
            for other in self._connections:
                self._send(other, message)

    def _put(self, key: str, value: Any) -> bool:
        with self._changed:
            is_new = key not in self._values
            if is_new:
                self._values[key] = value
                self._changed.notify_all()
            return is_new

    def _send(self, peer: int, message: Mapping[str, Any] | None) -> None:
        line = b"\n" if message is None else json.dumps(message).encode() + b"\n"
        # Whoever listens to a connection that is broken finds out.
        with contextlib.suppress(OSError), self._locks[peer]:
            self._connections[peer].sendall(line)

    def _beat(self, seconds: float) -> None:
        while not self._is_closed.wait(seconds):
            for peer in self._connections:
                self._send(peer, None)


class _Here:
    """The channel of this process."""

    channel = Channel()


def join(channel: Channel) -> None:
    """Makes this process one of several."""
    _Here.channel = channel


def channel() -> Channel:
    """Returns what connects this process with the others."""
    return _Here.channel
