"""How the processes of a run find each other, before any of them waits for another within jax."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

from jaxformer.io.hosts import Channel

_RETRY = 0.2
_GREETING = 5.0
"""Seconds: between two tries to reach process 0, and for a newcomer to say who it is."""
_LONGEST = 65536
"""Bytes of a line before all have met."""


def meet(
    host: str,
    port: int,
    process_id: int,
    num_processes: int,
    *,
    timeout: float,
    lost_timeout: float,
) -> tuple[Channel, int]:
    """Waits for all processes.

    Args:
      host, port: where process 0 listens.
      timeout: seconds until those that have come give up.
      lost_timeout: as for Channel.

    Returns: the channel, and a port of process 0's host that was free a moment ago.
    Raises: ValueError, the same on all that have come, if one is missing, has come twice or counts
      otherwise; OSError if process 0 cannot listen.
    """
    deadline = time.monotonic() + timeout
    if process_id == 0:
        with contextlib.ExitStack() as stack:
            connections, names = _receive(stack, host, port, num_processes, deadline, timeout)
            stack.pop_all()
        free = _free_port()
        for connection in connections.values():
            _say(connection, {"hosts": names, "port": free})
        return Channel(0, tuple(names), connections, lost_timeout), free
    greeting = {"process": process_id, "of": num_processes, "host": socket.gethostname()}
    connection, answer = _reach(host, port, greeting, deadline, timeout)
    if connection is None:
        raise ValueError(_describe_missing([0], num_processes, f"{host}:{port}", timeout))
    if "refused" in answer:
        connection.close()
        raise ValueError(answer["refused"])
    channel = Channel(process_id, tuple(answer["hosts"]), {0: connection}, lost_timeout)
    return channel, answer["port"]


def _receive(
    stack: contextlib.ExitStack,
    host: str,
    port: int,
    num_processes: int,
    deadline: float,
    timeout: float,
) -> tuple[dict[int, socket.socket], list[str]]:
    """Returns process 0's connections to all others, and the names of all hosts."""
    names = {0: socket.gethostname()}
    connections: dict[int, socket.socket] = {}
    fault = None
    with socket.create_server(("", port), backlog=num_processes) as server:
        while len(names) < num_processes and fault is None and time.monotonic() < deadline:
            server.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                break
            greeting = _hear(connection, time.monotonic() + _GREETING)
            number, count = greeting.get("process"), greeting.get("of")
            if not isinstance(number, int):
                # Not one of ours.
                connection.close()
                continue
            stack.callback(connection.close)
            name = str(greeting.get("host"))
            if count != num_processes:
                fault = (
                    f"Process {number} on {name} counts {count} processes, and process 0 on "
                    f"{names[0]} counts {num_processes}. Give all the same --num_processes."
                )
            elif number in names:
                fault = (
                    f"Two processes, on {names[number]} and {name}, have --process_id={number}. "
                    "Give each its own, from 0."
                )
            if fault:
                _say(connection, {"refused": fault})
            else:
                connections[number], names[number] = connection, name
    missing = [number for number in range(num_processes) if number not in names]
    if missing and fault is None:
        fault = _describe_missing(missing, num_processes, f"{host}:{port}", timeout)
    if fault:
        for connection in connections.values():
            _say(connection, {"refused": fault})
        raise ValueError(fault)
    return connections, [names[number] for number in range(num_processes)]


def _reach(
    host: str, port: int, greeting: dict[str, Any], deadline: float, timeout: float
) -> tuple[socket.socket | None, dict[str, Any]]:
    """Returns the connection to process 0 and its answer; None if it is not reached."""
    while time.monotonic() < deadline:
        try:
            connection = socket.create_connection((host, port), timeout=_GREETING)
        except OSError:
            time.sleep(_RETRY)
            continue
        _say(connection, greeting)
        # Process 0 may have begun to wait as much later.
        answer = _hear(connection, deadline + timeout)
        if answer:
            return connection, answer
        connection.close()
        time.sleep(_RETRY)
    return None, {}


def _describe_missing(missing: list[int], num_processes: int, address: str, timeout: float) -> str:
    those = ", ".join(map(str, missing))
    return (
        f"Of {num_processes} processes, process {those} has not come to {address} within "
        f"{timeout:g} seconds. Start it with the same address, or look at its output."
    )


def _say(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(message).encode() + b"\n")


def _hear(connection: socket.socket, deadline: float) -> dict[str, Any]:
    """Returns the next message, {} if there is none; what follows it stays in the connection."""
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < _LONGEST:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            byte = connection.recv(1)
            if not byte:
                return {}
            line += byte
        message = json.loads(line)
    except (OSError, ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]
