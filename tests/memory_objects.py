"""The objects of a folder in a bucket, without a bucket; and a clock that moves when it is told."""

import itertools

from jaxformer.io.bucket import Changed


class MemoryObjects:
    """As `jaxformer.io.bucket.Objects` describes them.

    Attributes:
      stored: name -> content and generation.
      is_reachable: whether requests come through.
    """

    def __init__(self):
        self.stored: dict[str, tuple[bytes, int]] = {}
        self.is_reachable = True
        self.written: list[str] = []
        self._generations = itertools.count(1)

    def names(self):
        self._reach()
        # A bucket's list has an order of its own.
        return sorted(self.stored, key=lambda name: name[::-1])

    def read(self, name):
        self._reach()
        return self.stored.get(name)

    def write(self, name, data, generation):
        self._reach()
        self._check(name, generation)
        self.stored[name] = data, next(self._generations)
        self.written.append(name)
        return self.stored[name][1]

    def delete(self, name, generation):
        self._reach()
        self._check(name, generation)
        self.stored.pop(name, None)

    def _reach(self):
        if not self.is_reachable:
            raise OSError("the network is down")

    def _check(self, name, generation):
        if generation != self.stored.get(name, (b"", 0))[1]:
            raise Changed("somebody else was here")


class Clock:
    """Seconds, which pass only in `sleep`.

    Attributes:
      events: (from when on, what happens then), in order.
    """

    def __init__(self, *events):
        self.now, self.events = 1000.0, list(events)

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        while self.events and self.events[0][0] <= self.now:
            self.events.pop(0)[1]()
