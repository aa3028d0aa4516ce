"""Batches as arrays: packed ones for training, through Grain, and sorted ones for decoding."""

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, SupportsIndex

import numpy as np

from jaxformer.data.batching import BatchPlan, PlannedBatch
from jaxformer.data.encoded import Encoded, Sentences
from jaxformer.model.tokens import PAD

Batch = dict[str, np.ndarray]

_ENDLESS = 2**40
_NARROWEST = 16


def pack_batch(encoded: Encoded, planned: PlannedBatch, rows_multiple: int = 1) -> Batch:
    """Returns {"source_BS", "target_BT"} of a planned batch, int32.

    Args:
      rows_multiple: rows of padding are put after the planned ones, up to a multiple of it. What is
        planned does not depend on it, so that any number of devices sees the same pairs.
    """
    shape = planned.shape.filled(rows_multiple)
    source_BS = np.full((shape.rows, shape.source), PAD, np.int32)
    target_BT = np.full((shape.rows, shape.target), PAD, np.int32)
    for sentences, token_BT in ((encoded.source, source_BS), (encoded.target, target_BT)):
        filled = [0] * shape.rows
        for pair, row in zip(planned.pairs.tolist(), planned.row.tolist(), strict=True):
            sentence = sentences[pair]
            end = filled[row] + len(sentence)
            token_BT[row, filled[row] : end] = sentence
            filled[row] = end
    return {"source_BS": source_BS, "target_BT": target_BT}


class _Steps:
    """The batch of every step, as a random-access source for Grain."""

    def __init__(self, encoded: Encoded, plan: BatchPlan, seed: int, rows_multiple: int) -> None:
        self._encoded, self._plan, self._seed = encoded, plan, seed
        self._rows_multiple = rows_multiple
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
        return pack_batch(self._encoded, planned, self._rows_multiple)


def train_batches(
    encoded: Encoded,
    plan: BatchPlan,
    seed: int,
    start_step: int = 0,
    num_threads: int = 1,
    rows_multiple: int = 1,
) -> Iterator[Batch]:
    """Yields the batch of step `start_step` (counted from 0) and of every later one, endlessly.

    A batch is a function of (encoded, plan, seed, step), so that a resumed run needs no other state
    than its step.

    Args:
      rows_multiple: as for `pack_batch`.
    """
    import grain.python as grain

    steps = grain.MapDataset.source(_Steps(encoded, plan, seed, rows_multiple))[start_step:]
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


class SourceBatch(NamedTuple):
    """Sentences to decode together, one a row.

    Attributes:
      source_BS: token ids, int32; rows past the last sentence are PAD only.
      indices: which sentences stand in the first rows.
    """

    source_BS: np.ndarray
    indices: np.ndarray


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
    widths = np.maximum(_NARROWEST, 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64))
    for width in np.unique(widths)[::-1].tolist():
        indices = np.flatnonzero(widths == width)
        indices = indices[np.argsort(-lengths[indices], kind="stable")]
        rows = -(-max(1, tokens // width) // rows_multiple) * rows_multiple
        for start in range(0, len(indices), rows):
            some = indices[start : start + rows]
            source_BS = np.full((rows, width), PAD, np.int32)
            for row, index in enumerate(some.tolist()):
                source_BS[row, : lengths[index]] = sources[index]
            yield SourceBatch(source_BS, some)
