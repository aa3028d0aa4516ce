"""Lines that are added one by one: to a file, or to a bucket, where nothing can be added to.

There `metrics.jsonl` is a folder of segments, objects `00000000.jsonl` and on: what was written
between two moments of waiting for the disk. Their lines, in the order of their names, are those
that the file would have.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from jaxformer.files import is_folder, replace_file
from jaxformer.io.bucket import ABSENT, Changed, Objects

Keep = Callable[[pathlib.Path, bytes, bool], bytes]
"""Path and content of a part, and whether it is the last -> what of it is gone on with."""

_SECONDS_BETWEEN_UPLOADS = 10.0
_SEGMENT = re.compile(r"\d+\.jsonl")


class Lines(Protocol):
    """What lines are added to."""

    def append(self, line: bytes) -> None:
        """Adds a line, which ends in its end of line.

        Raises: OSError if it cannot be written, and then nothing of it stays.
        """

    def sync(self) -> None:
        """Waits until all lines are where a power cut leaves them. Raises: OSError if not."""

    def close(self) -> None:
        """Ends the writing. Raises: OSError if a line cannot be written any more."""


class FileLines:
    """A file, in which a line stands as soon as `append` returns."""

    def __init__(self, path: pathlib.Path, keep: Keep) -> None:
        """Opens the file, making it when missing, and cuts it to what is kept of it."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            before = path.read_bytes()
            after = keep(path, before, True)
            if after != before:
                replace_file(path, after)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(self, line: bytes) -> None:
        """Writes the line."""
        rest = line
        end = os.fstat(self._file).st_size
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            # Half a line would spoil the next one, once there is room again.
            os.ftruncate(self._file, end)
            raise OSError(error.errno, error.strerror, os.fspath(self._path)) from error

    def sync(self) -> None:
        """Waits for the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


class SegmentLines:
    """Segments in a bucket. A kill loses the lines of the last seconds that `sync` was not called.

    The segment in hand is written whole, again and again, at most every ten seconds and whenever
    `sync` is called, which ends it. If another process has written it, that one goes on with the
    run, and this one is to end.

    The first is written empty, before anything else is done: it is the one that a process which has
    lost the run, and does not know it yet, would write next.
    """

    def __init__(
        self,
        path: pathlib.Path,
        keep: Keep,
        objects: Objects,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Cuts the segments to what is kept of them; the last ones first, as a kill may come.

        Args:
          objects: those of the folder `path`.
          clock: in seconds.
        """
        self._objects, self._clock = objects, clock
        names = self._fence_off()
        for name in reversed(names):
            found = objects.read(name)
            if found is None:
                continue
            before, generation = found
            after = keep(path / name, before, name == names[-1])
            if not after:
                objects.delete(name, generation)
            elif after != before:
                objects.write(name, after, generation)

    def append(self, line: bytes) -> None:
        """Adds the line to the segment in hand, and writes that if it has not been for a while."""
        self._segment += line
        self._is_written = False
        if self._clock() - self._written_at >= _SECONDS_BETWEEN_UPLOADS:
            self._write()

    def sync(self) -> None:
        """Writes the segment in hand, and begins another."""
        self._write()
        if self._segment:
            self._number += 1
            self._begin()

    def close(self) -> None:
        """Writes the segment in hand."""
        self._write()

    def _fence_off(self) -> list[str]:
        """Writes the first segment, empty; returns the names of those before, in order."""
        while True:
            names = [name for name in sorted(self._objects.names()) if _SEGMENT.fullmatch(name)]
            # Not the number of one that is to be deleted, either: it would be free again.
            self._number = int(pathlib.PurePath(names[-1]).stem) + 1 if names else 0
            self._begin()
            self._is_written = False
            with contextlib.suppress(Changed):
                self._write()
                return names

    def _begin(self) -> None:
        self._segment, self._generation, self._is_written = b"", ABSENT, True
        self._written_at = self._clock()

    def _write(self) -> None:
        if self._is_written:
            return
        # What cannot be written now is not tried again at the end, which the error brings about.
        self._is_written, self._written_at = True, self._clock()
        name = f"{self._number:08d}.jsonl"
        self._generation = self._objects.write(name, self._segment, self._generation)


def parts(path: pathlib.Path) -> Iterator[tuple[pathlib.Path, bytes, bool]]:
    """Yields path, content, and whether it is the last: of a file, or of each segment in a folder.

    Raises: OSError if there is none, or it cannot be read.
    """
    if not is_folder(path):
        yield path, path.read_bytes(), True
        return
    found = [part for part in sorted(path.iterdir()) if _SEGMENT.fullmatch(part.name)]
    for part in found:
        yield part, part.read_bytes(), part == found[-1]
