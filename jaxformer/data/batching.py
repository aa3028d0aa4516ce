"""The batching plan: which pairs stand in which batch, a pure function of (lengths, seed, epoch).

The number of batches depends on the lengths alone, so every epoch has as many as any other and a
run's position in the data is one integer, its step. Of what shape the batch of a step is does not
depend on the seed, so that runs of several seeds can take their steps in one program.
"""

from typing import NamedTuple

import numpy as np

from jaxformer.data.packing import Packing, Size, pack

_COST_OF_A_KEY = 0.003
"""How much dearer a slot gets with each slot its row is longer (attention), about."""


_SHARES_OF_LONGEST = (0.3, 0.4, 0.5, 0.6, 0.7, 1.2, 1.5, 2.0)
"""Row lengths tried, as shares of the longest sentence."""


class Shape(NamedTuple):
    """The static shape of a batch: rows, and slots a row on either side."""

    rows: int
    source: int
    target: int

    @property
    def slots(self) -> int:
        """Tokens that a batch of this shape can hold, both sides together."""
        return self.rows * (self.source + self.target)

    def filled(self, rows_multiple: int) -> "Shape":
        """Returns the shape with rows of padding more, up to a multiple for devices to share."""
        return self._replace(rows=-(-self.rows // rows_multiple) * rows_multiple)


class PlannedBatch(NamedTuple):
    """A shape, the indices of the pairs in it, and the row in which each stands."""

    shape: Shape
    pairs: np.ndarray
    row: np.ndarray


class BatchPlan:
    """Packed batches under a token budget for either side (section 5.1), in one or two shapes.

    The paper batches pairs of about the same length; here several pairs share a row and do not see
    each other, which leaves fewer slots empty and needs fewer compiled programs.

    Attributes:
      shapes: one for most pairs, and one for rows that hold the longest, if that saves slots.
      batches_per_epoch: the same in every epoch.
      padding: share of an epoch's slots without a real token, both sides together.
      num_pairs: pairs in an epoch, each exactly once.
      sizes: the row sizes that were chosen, with which the same plan is made again, sooner.
    """

    def __init__(
        self,
        source_lengths: np.ndarray,
        target_lengths: np.ndarray,
        *,
        source_tokens: int,
        target_tokens: int,
        rows_multiple: int = 1,
        sizes: list[Size] | None = None,
    ) -> None:
        """Packs the lengths and chooses the shapes.

        Args:
          source_lengths, target_lengths: tokens of each pair, EOS included.
          source_tokens, target_tokens: most slots of a batch on either side.
          rows_multiple: rows of every shape are a multiple of it (accumulation).
          sizes: of another plan of the same lengths and arguments; None: many are tried.

        Raises: ValueError if there is no pair, or a budget does not hold the longest sentence
          `rows_multiple` times.
        """
        if len(source_lengths) == 0:
            raise ValueError("There is no pair to train on. Name a corpus that holds some.")
        for side, tokens, lengths in (
            ("source", source_tokens, source_lengths),
            ("target", target_tokens, target_lengths),
        ):
            _check_budget(side, tokens, int(lengths.max()), rows_multiple)
        # One number for both lengths, in the order of (source, target).
        width = int(target_lengths.max()) + 1
        classes, class_of_pair, class_counts = np.unique(
            source_lengths.astype(np.int64) * width + target_lengths,
            return_inverse=True,
            return_counts=True,
        )
        class_lengths = np.stack(np.divmod(classes, width), axis=1)
        most_slots = source_tokens // rows_multiple, target_tokens // rows_multiple
        if sizes is None:
            sizes, self._packing = _choose_sizes(class_lengths, class_counts, most_slots)
        else:
            self._packing = pack(class_lengths, class_counts, sizes)
        self.sizes = sizes
        self.num_pairs = len(class_of_pair)
        self.shapes: list[Shape] = []
        self._batches: list[int] = []
        for (source, target), rows in zip(sizes, self._packing.rows, strict=True):
            most = min(source_tokens // source, target_tokens // target)
            most = most // rows_multiple * rows_multiple
            batches = -(-rows // most)
            # Even batches: no last one of which most rows are empty.
            even = -(-rows // batches)
            even = -(-even // rows_multiple) * rows_multiple
            self.shapes.append(Shape(even, source, target))
            self._batches.append(batches)
        self.batches_per_epoch = sum(self._batches)
        slots = sum(
            shape.slots * batches for shape, batches in zip(self.shapes, self._batches, strict=True)
        )
        self.padding = 1.0 - float(source_lengths.sum() + target_lengths.sum()) / slots
        self._class_of_pair = class_of_pair
        self._places_by_class = np.argsort(self._packing.place_class, kind="stable")

    def epoch(self, seed: int, epoch: int) -> list[PlannedBatch]:
        """Returns the epoch's batches in the order they are trained on.

        The order of their shapes is the epoch's, the same for every seed; which batch of a shape
        stands where, and what is in it, is the seed's.
        """
        generator = np.random.default_rng([seed, epoch])
        packing = self._packing
        # Pairs of a class, in a new order, take the places of that class.
        pairs_by_class = np.lexsort((generator.random(self.num_pairs), self._class_of_pair))
        pair_of_place = np.empty(self.num_pairs, np.int64)
        pair_of_place[self._places_by_class] = pairs_by_class
        batches = []
        for size, (shape, count) in enumerate(zip(self.shapes, self._batches, strict=True)):
            places = np.flatnonzero(packing.place_size == size)
            row = generator.permutation(packing.rows[size])[packing.place_row[places]]
            order = np.argsort(row, kind="stable")
            places, row = places[order], row[order]
            ends = np.searchsorted(row, shape.rows * np.arange(count + 1))
            for number in range(count):
                within = slice(ends[number], ends[number + 1])
                first_row = number * shape.rows
                batches.append(
                    PlannedBatch(shape, pair_of_place[places[within]], row[within] - first_row)
                )
        # The seed's order of all batches gives that of each shape's, which take the shape's places.
        shuffled = generator.permutation(len(batches))
        size_of_batch = np.repeat(np.arange(len(self.shapes)), self._batches)
        size_of_place = np.random.default_rng(epoch).permutation(size_of_batch)
        order = np.empty(len(batches), np.int64)
        order[np.argsort(size_of_place, kind="stable")] = shuffled[
            np.argsort(size_of_batch[shuffled], kind="stable")
        ]
        return [batches[number] for number in order]

    def position(self, step: int) -> tuple[int, int]:
        """Returns (epoch, number of the batch in it) of a step, all counted from 0."""
        return divmod(step, self.batches_per_epoch)


def _check_budget(side: str, tokens: int, longest: int, rows_multiple: int) -> None:
    needed = longest * rows_multiple
    if tokens < needed:
        times = f"{rows_multiple} times " if rows_multiple > 1 else ""
        raise ValueError(
            f"A budget of {tokens} {side} tokens does not hold {times}the longest "
            f"sentence, {needed} tokens. Raise data.{side}_tokens to at least {needed}, "
            "or lower data.max_length."
        )


def possible_shapes(
    max_length: int, source_tokens: int, target_tokens: int, rows_multiple: int = 1
) -> list[Shape]:
    """Returns the largest shapes that a plan may choose, whatever the text, the dearest first.

    One for each row length that is tried, where the longest sentence of either side has
    `max_length` tokens and both sides are about as long; a plan of real text chooses one or two
    with at most as many rows.

    Args:
      source_tokens, target_tokens, rows_multiple: as for `BatchPlan`.

    Raises: ValueError if a budget does not hold the longest sentence `rows_multiple` times.
    """
    _check_budget("source", source_tokens, max_length, rows_multiple)
    _check_budget("target", target_tokens, max_length, rows_multiple)
    shapes = set()
    for share in (1.0, *_SHARES_OF_LONGEST):
        length = max(1, round(max_length * share))
        source = min(length, source_tokens // rows_multiple)
        target = min(length, target_tokens // rows_multiple)
        rows = min(source_tokens // source, target_tokens // target)
        shapes.add(Shape(rows // rows_multiple * rows_multiple, source, target))
    return sorted(shapes, key=lambda shape: _cost(shape.rows, shape[1:]), reverse=True)


def _choose_sizes(
    class_lengths: np.ndarray, class_counts: np.ndarray, most_slots: Size
) -> tuple[list[Size], Packing]:
    """Returns the row sizes that waste the least, and the packing into them.

    None has more than `most_slots`, which hold the longest sentence of either side.
    """
    longest = (int(class_lengths[:, 0].max()), int(class_lengths[:, 1].max()))
    source_total, target_total = (int(total) for total in class_counts @ class_lengths)
    candidates: list[list[Size]] = [[longest]]
    for share in _SHARES_OF_LONGEST:
        source = min(max(1, round(longest[0] * share)), most_slots[0])
        target = min(max(1, round(source * target_total / source_total)), most_slots[1])
        if source >= longest[0] and target >= longest[1]:
            candidates.append([(source, target)])
        else:
            candidates.append([(min(source, longest[0]), min(target, longest[1])), longest])
    best: tuple[float, list[Size], Packing] | None = None
    for sizes in candidates:
        packing = pack(class_lengths, class_counts, sizes)
        cost = sum(_cost(rows, size) for rows, size in zip(packing.rows, sizes, strict=True))
        if best is None or cost < best[0]:
            best = cost, sizes, packing
    if best is None:
        raise RuntimeError("No row size was tried.")
    used = [number for number, rows in enumerate(best[2].rows) if rows]
    if len(used) < len(best[1]):
        return _choose_only(best[1], used, best[2])
    return best[1], best[2]


def _cost(rows: int, size: Size) -> float:
    return rows * sum(size) * (1.0 + _COST_OF_A_KEY * sum(size) / 2)


def _choose_only(
    sizes: list[Size], used: list[int], packing: Packing
) -> tuple[list[Size], Packing]:
    """Returns the sizes that have rows, and the packing with those numbered anew."""
    new_number = {number: place for place, number in enumerate(used)}
    place_size = np.array([new_number[int(number)] for number in packing.place_size])
    rows = [packing.rows[number] for number in used]
    return [sizes[number] for number in used], packing._replace(rows=rows, place_size=place_size)
