"""A stand-in on this host for a service on another, which does not fall silent with it.

jax aborts a process, with a page of its own, as soon as the connection to process 0 breaks. Through
a relay it only hears nothing more, and there is time for a clear end.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

_RETRY = 0.1
_PATIENCE = 60.0
"""Seconds: between two tries to reach the service, and until it counts as not there."""
_CHUNK = 65536


def relay(host: str, port: int) -> int:
    """Starts to pass on what comes to a port of this host; returns that port."""
    server = socket.create_server(("127.0.0.1", 0))
    _start(_accept, server, host, port)
    return server.getsockname()[1]


def _accept(server: socket.socket, host: str, port: int) -> None:
    while True:
        try:
            near, _ = server.accept()
        except OSError:
            return
        _start(_connect, near, host, port)


def _connect(near: socket.socket, host: str, port: int) -> None:
    far = None
    deadline = time.monotonic() + _PATIENCE
    while far is None and time.monotonic() < deadline:
        try:
            far = socket.create_connection((host, port), timeout=_PATIENCE)
        except OSError:
            time.sleep(_RETRY)
    if far is None:
        near.close()
        return
    with near, far:
        far.settimeout(None)
        for connection in (near, far):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The near side is told of no end.
        back = _start(_pass_on, far, near)
        _pass_on(near, far)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)
        back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Returns when the source ends; what the sink does not take is lost."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            with contextlib.suppress(OSError):
                sink.sendall(chunk)


def _start(function: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, name="relay", daemon=True)
    thread.start()
    return thread
