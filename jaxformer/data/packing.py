"""Packing: which lengths share a row, so that rows of a static size are nearly full.

Only lengths matter here: pairs of equal (source, target) lengths are a class, and the packing says
how many of which class stand in each row. An epoch then deals its pairs to the places of their
class, so every epoch has the same rows and yet other neighbours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]
"""Slots of a row: (source, target)."""


class Packing(NamedTuple):
    """Rows and the places in them.

    Attributes:
      rows: rows of each size.
      place_size: of each place, the number of its row's size.
      place_row: of each place, its row among those of that size.
      place_class: of each place, the number of the class that stands there.
    """

    rows: list[int]
    place_size: np.ndarray
    place_row: np.ndarray
    place_class: np.ndarray


def pack(class_lengths: np.ndarray, class_counts: np.ndarray, sizes: Sequence[Size]) -> Packing:
    """Packs pairs into rows by best fit, longest first.

    A class goes into the open rows that it leaves the fewest slots of; where none has room, new
    rows of the smallest size that holds it are opened, a part of the class at a time, so that the
    rest can share them.

    Args:
      class_lengths: [classes, 2], source and target tokens, EOS included.
      class_counts: [classes], pairs of that class.
      sizes: row sizes, smallest first; the last holds every class.
    """
    rooms = _OpenRows()
    row_size: list[int] = []
    num_opened: list[int] = []
    num_rows = 0
    places: list[tuple[np.ndarray, int]] = []
    for number in np.argsort(-class_lengths.sum(axis=1), kind="stable"):
        source, target = (int(length) for length in class_lengths[number])
        left = int(class_counts[number])
        while left:
            found = rooms.tightest(source, target)
            if found is None:
                kind = next(
                    kind
                    for kind, size in enumerate(sizes)
                    if source <= size[0] and target <= size[1]
                )
                found = sizes[kind]
                opened = np.arange(num_rows, num_rows + max(1, left // 4))
                row_size.append(kind)
                num_opened.append(len(opened))
                num_rows += len(opened)
                rooms.put(opened, found)
            rows = rooms.take(found, left)
            places.append((rows, int(number)))
            rooms.put(rows, (found[0] - source, found[1] - target))
            left -= len(rows)

    size_of_row = np.repeat(row_size, num_opened)
    rows_of_size = np.bincount(size_of_row, minlength=len(sizes))
    # A row's number among the rows of its size.
    order = np.argsort(size_of_row, kind="stable")
    number_in_size = np.empty(num_rows, np.int64)
    starts = np.concatenate([[0], np.cumsum(rows_of_size)[:-1]])
    number_in_size[order] = np.arange(num_rows) - starts[size_of_row[order]]
    place_row = np.concatenate([rows for rows, _ in places])
    numbers, counts = [number for _, number in places], [len(rows) for rows, _ in places]
    return Packing(
        rows=[int(rows) for rows in rows_of_size],
        place_size=size_of_row[place_row],
        place_row=number_in_size[place_row],
        place_class=np.repeat(numbers, counts),
    )


class _OpenRows:
    """Rows by the room they have left, (source, target) slots."""

    def __init__(self) -> None:
        self._rows: dict[Size, list[np.ndarray]] = {}
        # The bits of a number are a set. Of each total of slots, the sources' shares that some
        # row has left; and the totals.
        self._sources: dict[int, int] = {}
        self._totals = 0

    def put(self, rows: np.ndarray, room: Size) -> None:
        """Adds rows, given by their numbers."""
        stack = self._rows.setdefault(room, [])
        if not stack:
            total = sum(room)
            self._sources[total] = self._sources.get(total, 0) | 1 << room[0]
            self._totals |= 1 << total
        stack.append(rows)

    def tightest(self, source: int, target: int) -> Size | None:
        """Returns the room that a pair leaves the fewest slots of; None if it fits nowhere.

        Of equals, it is the one with less room on the source's side.
        """
        total = source + target
        totals = self._totals >> total
        while totals:
            # The place of the lowest bit, from 1: the next total that there is, and one more.
            step = (totals & -totals).bit_length()
            total += step
            totals >>= step
            # From `source` on, as many as leave `target` of that total.
            most = total - source - target
            if fits := (self._sources[total - 1] >> source) & ((1 << most) - 1):
                found = source + (fits & -fits).bit_length() - 1
                return found, total - 1 - found
        return None

    def take(self, room: Size, most: int) -> np.ndarray:
        """Removes and returns at least one row with this room, at most `most`."""
        stack = self._rows[room]
        rows = stack.pop()
        if len(rows) > most:
            stack.append(rows[most:])
            rows = rows[:most]
        if not stack:
            total = sum(room)
            self._sources[total] ^= 1 << room[0]
            if not self._sources[total]:
                self._totals ^= 1 << total
        return rows
