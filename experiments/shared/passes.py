"""Records that grow a line at a time: what is on file is not measured again."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxformer.cli.mistakes import Mistake
from jaxformer.io.record import Metrics, read_metrics

FILE = "metrics.jsonl"

Key = tuple[Any, ...]
Row = dict[str, Any]
T = TypeVar("T")


def append_rows(
    folder: Path,
    identity: Sequence[str],
    make_rows: Callable[[set[Key]], Iterator[Row]],
    report: Callable[[str], None],
) -> None:
    """Appends to a record what it lacks, each row as soon as it is there.

    Args:
      folder: of the record's file.
      identity: names of the fields that tell a row from others; all else is what was measured.
      make_rows: the keys (see `key_of`) of the rows that are there -> more rows. The set grows with
        each row that is written.
      report: gets a line of text for each row.
    """
    path = folder / FILE
    rows = read_metrics(path) if path.exists() else []
    done = {key_of(row, identity) for row in rows}
    # A line's number, which a file of metrics calls its step.
    number = len(rows)
    with Metrics(path, resume_step=number) as metrics:
        for row in make_rows(done):
            number += 1
            metrics.write({"step": number, **row})
            key = key_of(row, identity)
            done.add(key)
            found = ", ".join(f"{name} {row[name]:.4g}" for name in row if name not in identity)
            report(f"{' '.join(map(str, key))}: {found}")
        metrics.sync()


def read_rows(folder: Path) -> list[Row]:
    """Returns the rows of a record.

    Raises: Mistake if the folder has none.
    """
    path = folder / FILE
    if not path.is_file():
        raise Mistake(f"{folder} holds no {FILE}: nothing was measured there. Leave --report out.")
    return read_metrics(path)


def key_of(row: Row, identity: Sequence[str]) -> Key:
    """Returns those of the fields of an identity that a row has."""
    return tuple(row[name] for name in identity if name in row)


def shuffled(found: Sequence[T], seed: int) -> Iterator[T]:
    """Yields the cases in an order of the seed's, so that none has the machine's best hour."""
    for index in np.random.default_rng(seed).permutation(len(found)).tolist():
        yield found[index]
