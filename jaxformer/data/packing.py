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
    limit = np.max(np.asarray(sizes), axis=0)
    # Open rows by the room they have left: how many, and which (as arrays of row numbers).
    open_count = np.zeros((limit[0] + 1, limit[1] + 1), np.int64)
    open_rows: dict[Size, list[np.ndarray]] = {}
    room = np.add.outer(np.arange(limit[0] + 1), np.arange(limit[1] + 1))
    row_size: list[np.ndarray] = []
    num_rows = 0
    places: list[tuple[np.ndarray, int]] = []

    def put(rows: np.ndarray, room_left: Size) -> None:
        open_count[room_left] += len(rows)
        open_rows.setdefault(room_left, []).append(rows)

    def take(room_left: Size, wanted: int) -> np.ndarray:
        stack = open_rows[room_left]
        taken = stack.pop()
        if len(taken) > wanted:
            stack.append(taken[wanted:])
            taken = taken[:wanted]
        open_count[room_left] -= len(taken)
        return taken

    for number in np.argsort(-class_lengths.sum(axis=1), kind="stable"):
        source, target = (int(length) for length in class_lengths[number])
        left = int(class_counts[number])
        while left:
            counts = open_count[source:, target:]
            rooms = np.where(
                counts > 0, room[: counts.shape[0], : counts.shape[1]], limit.sum() + 1
            )
            best = np.unravel_index(np.argmin(rooms), rooms.shape)
            if counts[best] > 0:
                found = (source + int(best[0]), target + int(best[1]))
                rows = take(found, left)
            else:
                kind = next(
                    kind
                    for kind, size in enumerate(sizes)
                    if source <= size[0] and target <= size[1]
                )
                found = sizes[kind]
                rows = np.arange(num_rows, num_rows + max(1, left // 4))
                row_size.append(np.full(len(rows), kind))
                num_rows += len(rows)
                open_count[found] += len(rows)
                open_rows.setdefault(found, []).append(rows)
                rows = take(found, len(rows))
            places.append((rows, int(number)))
            put(rows, (found[0] - source, found[1] - target))
            left -= len(rows)

    size_of_row = np.concatenate(row_size)
    rows_of_size = np.bincount(size_of_row, minlength=len(sizes))
    # A row's number among the rows of its size.
    order = np.argsort(size_of_row, kind="stable")
    number_in_size = np.empty(num_rows, np.int64)
    starts = np.concatenate([[0], np.cumsum(rows_of_size)[:-1]])
    number_in_size[order] = np.arange(num_rows) - starts[size_of_row[order]]
    place_row = np.concatenate([rows for rows, _ in places])
    return Packing(
        rows=[int(rows) for rows in rows_of_size],
        place_size=size_of_row[place_row],
        place_row=number_in_size[place_row],
        place_class=np.concatenate([np.full(len(rows), number) for rows, number in places]),
    )
