"""A lease on a folder in a bucket: a lock that ends when its holder has not renewed it for a while.

A bucket knows nothing of processes. The holder writes the object `lock` again and again, each time
on the condition that nobody else has; whoever finds one waits for as long as it says, and takes it
if it has not been renewed by then. No two machines need to agree on the time.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, TypeGuard

from jaxformer.files import in_bucket, patience, patient
from jaxformer.io import lock
from jaxformer.io.bucket import ABSENT, BucketObjects, Changed, Objects

NAME = "lock"
# Seconds; who finds a damaged lease must not wait for ever.
_LONGEST = 3600

_RENEWALS, _LOOKS = 4, 12
"""How often a lease is renewed, and looked at by who waits for its end, while it lasts."""

_SOONER = 4
"""By what part of the time between two renewals one is tried again that has failed."""

_FAREWELL = 15.0
"""Seconds for which the end of a process waits until the bucket has the lease back."""


class Lease:
    """A lease: taken, renewed, given back.

    Args:
      objects: of the folder.
      folder: in words.
      seconds: that it lasts without being renewed.
      clock: in seconds, of this machine alone.
    """

    def __init__(
        self,
        objects: Objects,
        folder: str,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.pause = seconds / _RENEWALS
        self._objects, self._folder, self._seconds = objects, folder, seconds
        self._clock, self._sleep = clock, sleep
        self._generation, self._renewed_at = ABSENT, clock()
        # No two holders write the same, even where hosts have one name and processes one number.
        self._mark = uuid.uuid4().hex
        # A request tells the next one its generation.
        self._turn = threading.Lock()

    def take(self, say: Callable[[str], None] = lambda sentence: None) -> None:
        """Takes the lease; waits where there is one, until it is renewed or has ended.

        Args:
          say: told once what is waited for.

        Raises: ValueError, naming the holder, if there is one that lives; OSError if the bucket
          cannot be reached, or does not permit it.
        """
        while True:
            found = self._objects.read(NAME)
            generation = ABSENT
            if found is not None:
                content, generation = found
                self._wait(content, generation, say)
            try:
                self._write(generation)
            except Changed:
                # It was given back, or another one was quicker, who is waited for in his turn.
                continue
            return

    def renew(self) -> bool:
        """Renews the lease; returns whether that was possible.

        Raises: ValueError if it is lost: another process has taken it, or may have.
        """
        with self._turn:
            try:
                self._write(self._generation)
            except Changed:
                found = self._look()
                if self._is_own(found):
                    self._generation = found[1]
                    return False
                told = f"{self._folder} has been taken over by {describe(found)}."
                raise ValueError(told) from None
            except OSError as error:
                if self._clock() - self._renewed_at < self._seconds:
                    return False
                raise ValueError(self.ended(error.strerror or str(error))) from error
            return True

    def left(self) -> float:
        """Returns the seconds in which a renewal must have come through; some after its end too.

        Nobody may have taken the lease from a process that was held up, which asks once more.
        """
        return max(self._renewed_at + self._seconds - self._clock(), self.pause / _SOONER)

    def ended(self, reason: str) -> str:
        """Returns that the lease has ended without another holder, in a sentence."""
        return (
            f"The lease on {self._folder} could not be renewed for {self._seconds:g} seconds "
            f"({reason})."
        )

    def _look(self) -> tuple[bytes, int] | None:
        """Returns what lies there; None too if that cannot be had."""
        try:
            return self._objects.read(NAME)
        except OSError:
            return None

    def _is_own(self, found: tuple[bytes, int] | None) -> TypeGuard[tuple[bytes, int]]:
        """Returns whether that is this lease, renewed by a request whose answer was lost."""
        return found is not None and self._mark in found[0].decode(errors="replace")

    def give_back(self) -> None:
        """Ends the lease, if it is not lost; after a renewal that is on its way.

        Raises: OSError if the bucket cannot be reached.
        """
        with self._turn, contextlib.suppress(Changed):
            try:
                self._objects.delete(NAME, self._generation)
            except Changed:
                found = self._objects.read(NAME)
                if self._is_own(found):
                    self._objects.delete(NAME, found[1])

    def _wait(self, content: bytes, generation: int, say: Callable[[str], None]) -> None:
        """Waits until the lease that was found must have ended."""
        seconds = _seconds(content, self._seconds)
        who = describe((content, generation))
        say(f"{self._folder} is held by {who}: waiting up to {seconds:g} seconds for a sign of it.")
        start = self._clock()
        while self._clock() - start < seconds:
            self._sleep(seconds / _LOOKS)
            now = self._objects.read(NAME)
            if now is None:
                return
            if now[1] != generation:
                raise ValueError(
                    f"{self._folder} is in use by {describe(now)}. Wait for its end, or give "
                    "another --workdir."
                )

    def _write(self, generation: int) -> None:
        before = self._clock()
        content = {
            "holder": lock.this_process(),
            "seconds": self._seconds,
            "renewed": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
            "mark": self._mark,
        }
        data = json.dumps(content, indent=2).encode() + b"\n"
        self._generation = self._objects.write(NAME, data, generation)
        self._renewed_at = before


@contextlib.contextmanager
def lease(
    folder: str | os.PathLike[str],
    seconds: float,
    *,
    say: Callable[[str], None],
    on_loss: Callable[[str], None],
    objects: Objects | None = None,
    farewell: float = _FAREWELL,
) -> Generator[None]:
    """Holds a folder in a bucket against every other process that asks, renewing in a thread.

    No request that hangs keeps this process from its end.

    Args:
      seconds: without a sign of life of this process until another may take the folder.
      say: told what is waited for, and what is given up at the end.
      on_loss: called in that thread, with a sentence, when the lease is lost. Whatever this process
        still writes may spoil the run of another: it is to end at once.
      farewell: seconds in which the lease is to be given back at the end; it ends by itself else.

    Raises: ValueError and OSError as `Lease.take`.
    """
    place = os.fspath(folder)
    if seconds > _LONGEST:
        raise ValueError(
            f"A lease of {seconds:g} seconds on {place} is too long to wait for. Give at most "
            f"--lost_timeout={_LONGEST}."
        )
    objects = objects or BucketObjects(place, min(patience(), seconds / _RENEWALS))
    held = Lease(objects, place, seconds)
    held.take(say)
    is_over = threading.Event()

    def keep() -> None:
        told, pause = f"The lease on {place} is renewed no more.", held.pause
        try:
            while not is_over.wait(pause):
                # No later, whatever the request waits for: the network, or new credentials.
                is_renewed = _begin(held.renew).result(held.left())
                # After a failure sooner, for the time is short.
                pause = held.pause if is_renewed else held.pause / _SOONER
        except TimeoutError:
            told = held.ended("no answer")
        except ValueError as error:
            told = str(error)
        finally:
            # After a fault of the program too, since nothing renews it then.
            if not is_over.is_set():
                on_loss(told)

    def end() -> None:
        thread.join()
        held.give_back()

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        # What else this process asks need not be given up while the lease bears the silence.
        with patient(max(patience(), seconds)):
            yield
    finally:
        is_over.set()
        try:
            _begin(end).result(farewell)
        except OSError as error:
            told = error.strerror or str(error) or f"no answer for {farewell:g} seconds"
            say(
                f"The lease on {place} could not be given back ({told}). It ends by itself "
                f"{seconds:g} seconds after its last renewal."
            )


def _begin(request: Callable[[], Any]) -> Future[Any]:
    """Begins a request in a thread that the end of the process does not wait for.

    It would for an executor's.
    """
    future: Future[Any] = Future()

    def answer() -> None:
        try:
            future.set_result(request())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            future.set_exception(error)

    threading.Thread(target=answer, name="request", daemon=True).start()
    return future


def holder(folder: str | os.PathLike[str]) -> str:
    """Returns who holds a folder, local or in a bucket, as it is written there; "" if nobody does.

    What it names may have ended long ago.
    """
    if not in_bucket(folder):
        return lock.holder(folder)
    found = BucketObjects(folder).read(NAME)
    return "" if found is None else describe(found)


def describe(found: tuple[bytes, int] | None) -> str:
    """Returns the holder that a lease names, "another process" if it names none."""
    try:
        name = json.loads(found[0])["holder"] if found is not None else None
    except (ValueError, LookupError, TypeError, RecursionError):
        name = None
    return name if isinstance(name, str) and name else "another process"


def _seconds(content: bytes, default: float) -> float:
    """Returns how long a lease lasts; one that is damaged, as long as one's own."""
    try:
        seconds = float(json.loads(content)["seconds"])
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return default
    return seconds if 0 < seconds <= _LONGEST else default
