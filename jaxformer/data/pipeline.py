"""Batches as arrays: packed ones for training, through Grain, and sorted ones for decoding."""

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, SupportsIndex

import numpy as np

from jaxformer.data.batching import BatchPlan, PlannedBatch
from jaxformer.data.encoded import Encoded, Sentences, spans
from jaxformer.model.tokens import PAD

Batch = dict[str, np.ndarray]

_ENDLESS = 2**40
_NARROWEST = 16
_LONGEST_EVALUATED = 8192


class Shares(NamedTuple):
    """Some of equal shares of a batch's rows, such as those of one process.

    Attributes:
      numbers: of these shares, from 0, ascending.
      of: how many shares there are.
    """

    numbers: Sequence[int]
    of: int


def pack_batch(
    encoded: Encoded,
    planned: PlannedBatch,
    rows_multiple: int = 1,
    shares: Shares | None = None,
) -> Batch:
    """Returns {"source_BS", "target_BT"} of a planned batch, int32.

    Args:
      rows_multiple: rows of padding are put after the planned ones, up to a multiple of it. What is
        planned does not depend on it, so that any number of devices sees the same pairs.
      shares: those that are packed; `rows_multiple` is a multiple of their number. None for all.
    """
    shape = planned.shape.filled(rows_multiple)
    each = shape.rows // (shares.of if shares else 1)
    # Which rows are packed, and where each of them then stands.
    place_of_row = np.full(shape.rows, -1)
    for place, number in enumerate(shares.numbers if shares else [0]):
        place_of_row[number * each : (number + 1) * each] = np.arange(
            place * each, (place + 1) * each
        )
    places = place_of_row[planned.row]
    order = np.argsort(places, kind="stable")
    order = order[np.searchsorted(places[order], 0) :]
    pairs, places = planned.pairs[order], places[order]
    rows = each * (len(shares.numbers) if shares else 1)
    source_BS = _fill(encoded.source, pairs, places, (rows, shape.source))
    target_BT = _fill(encoded.target, pairs, places, (rows, shape.target))
    return {"source_BS": source_BS, "target_BT": target_BT}


def _fill(
    sentences: Sentences, pairs: np.ndarray, rows: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Returns rows of padding in which some sentences stand, those of a row one after another.

    Args:
      pairs: which sentences.
      rows: in which row each stands, ascending.
    """
    token_BL = np.full(shape, PAD, np.int32)
    starts = sentences.starts[pairs]
    lengths = sentences.starts[pairs + 1] - starts
    before = np.cumsum(lengths) - lengths
    # How many tokens of the same row stand before each sentence.
    column = before - before[np.searchsorted(rows, rows)]
    token_BL.reshape(-1)[spans(rows * shape[1] + column, lengths)] = sentences.tokens[
        spans(starts, lengths)
    ]
    return token_BL


class _Steps:
    """The batch of every step, as a random-access source for Grain."""

    def __init__(
        self,
        encoded: Encoded,
        plan: BatchPlan,
        seed: int,
        rows_multiple: int,
        shares: Shares | None,
    ) -> None:
        self._encoded, self._plan, self._seed = encoded, plan, seed
        self._rows_multiple, self._shares = rows_multiple, shares
        self._epochs: dict[int, list[PlannedBatch]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: SupportsIndex) -> Batch:
        epoch, number = self._plan.position(int(index))
        with self._lock:
            if epoch not in self._epochs:
                # Threads that read ahead are at most an epoch apart.
                for old in [known for known in self._epochs if abs(known - epoch) > 1]:
                    del self._epochs[old]
                self._epochs[epoch] = self._plan.epoch(self._seed, epoch)
            planned = self._epochs[epoch][number]
        return pack_batch(self._encoded, planned, self._rows_multiple, self._shares)


def train_batches(
    encoded: Encoded,
    plan: BatchPlan,
    seed: int,
    start_step: int = 0,
    num_threads: int = 1,
    rows_multiple: int = 1,
    shares: Shares | None = None,
) -> Iterator[Batch]:
    """Yields the batch of step `start_step` (counted from 0) and of every later one, endlessly.

    A batch is a function of (encoded, plan, seed, step), so that a resumed run needs no other state
    than its step.

    Args:
      rows_multiple, shares: as for `pack_batch`.
    """
    import grain.python as grain

    source = _Steps(encoded, plan, seed, rows_multiple, shares)
    steps = grain.MapDataset.source(source)[start_step:]
    return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads, prefetch_buffer_size=8)))


def eval_batches(encoded: Encoded, tokens: int, rows_multiple: int = 1) -> Iterator[Batch]:
    """Yields every pair exactly once in packed batches of about `tokens` slots a side.

    The budget is widened where a sentence is longer than it: evaluation drops nothing.

    Args:
      rows_multiple: as for `pack_batch`.
    """
    lengths = encoded.source.lengths, encoded.target.lengths
    plan = BatchPlan(
        *lengths,
        source_tokens=max(tokens, int(lengths[0].max(initial=1))),
        target_tokens=max(tokens, int(lengths[1].max(initial=1))),
    )
    for planned in plan.epoch(seed=0, epoch=0):
        yield pack_batch(encoded, planned, rows_multiple)


def check_evaluable(encoded: Encoded, split: str, max_length: int) -> None:
    """Finds a line that is no sentence, for which `eval_batches` would widen its budget too far.

    The memory of attention grows with the square of the length.

    Args:
      split: its name, for the message.
      max_length: tokens that a sentence may have in any case.

    Raises: ValueError, naming the pair, if a side is longer than that and than 8,192 tokens.
    """
    lengths = np.maximum(encoded.source.lengths, encoded.target.lengths)
    most = max(max_length, _LONGEST_EVALUATED)
    for number in np.flatnonzero(lengths > most)[:1]:
        raise ValueError(
            f"Pair {number + 1} of the split {split!r} has {lengths[number]:,} tokens on a side, "
            f"and evaluation takes at most {most:,}. Divide its lines, or take them out."
        )


class SourceBatch(NamedTuple):
    """Sentences to decode together, one a row.

    Attributes:
      source_BS: token ids, int32; rows past the last sentence are PAD only.
      indices: which sentences stand in the first rows.
    """

    source_BS: np.ndarray
    indices: np.ndarray


def source_shape(length: int, tokens: int, rows_multiple: int = 1) -> tuple[int, int]:
    """Returns (rows, width) of the batches in which sentences of a length are decoded.

    Args:
      tokens, rows_multiple: as for `source_batches`.
    """
    width = max(_NARROWEST, 2 ** (length - 1).bit_length() if length > 1 else 1)
    return -(-max(1, tokens // width) // rows_multiple) * rows_multiple, width


def source_batches(
    sources: Sentences | Sequence[np.ndarray], tokens: int, rows_multiple: int = 1
) -> Iterator[SourceBatch]:
    """Yields every sentence exactly once, sorted by length, about `tokens` slots a batch.

    Widths are powers of two and the rows of a width are always the same, so that few programs are
    compiled and no sentence's output depends on its neighbours. A sentence longer than the budget
    gets a batch of its own.

    Args:
      rows_multiple: rows of every batch are a multiple of it, for devices to share.
    """
    lengths = np.array([len(sources[index]) for index in range(len(sources))], np.int64)
    shapes = [source_shape(length, tokens, rows_multiple) for length in lengths.tolist()]
    widths = np.array([width for _, width in shapes], np.int64)
    for rows, width in sorted(set(shapes), key=lambda shape: -shape[1]):
        indices = np.flatnonzero(widths == width)
        indices = indices[np.argsort(-lengths[indices], kind="stable")]
        for start in range(0, len(indices), rows):
            some = indices[start : start + rows]
            source_BS = np.full((rows, width), PAD, np.int32)
            for row, index in enumerate(some.tolist()):
                source_BS[row, : lengths[index]] = sources[index]
            yield SourceBatch(source_BS, some)
