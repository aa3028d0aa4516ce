"""What is measured: training steps and beam searches, one size at a time grown from a small one."""

import dataclasses
from typing import NamedTuple

from experiments.benchmarks.sizes import Size

TRAINING, DECODING = "training", "decoding"


class Case(NamedTuple):
    """A program to measure.

    Attributes:
      size: of the model, and of its batch.
      beams: of the search; 0 for a training step.
    """

    size: Size
    beams: int = 0

    @property
    def name(self) -> str:
        """Names the case in the record."""
        size = self.size
        sizes = {
            "length": size.length,
            "width": size.d_model,
            "depth": size.layers,
            "vocabulary": size.vocab_size,
            "batch": size.rows,
            **({"beams": self.beams} if self.beams else {}),
        }
        work = DECODING if self.beams else TRAINING
        return "/".join([work, *(f"{name}={value}" for name, value in sizes.items())])


class Grid(NamedTuple):
    """Where the sizes start from, and how far each goes while the others stay.

    Attributes:
      training, decoding: the case at which all axes cross.
      training_axes, decoding_axes: name of a size -> its values.
    """

    training: Case
    training_axes: dict[str, tuple[int, ...]]
    decoding: Case
    decoding_axes: dict[str, tuple[int, ...]]

    def axes(self) -> dict[tuple[str, str], dict[int, Case]]:
        """Returns (training or decoding, axis) -> value -> case."""
        works = (
            (TRAINING, self.training, self.training_axes),
            (DECODING, self.decoding, self.decoding_axes),
        )
        return {
            (work, axis): {value: grown(start, axis, value) for value in values}
            for work, start, axes in works
            for axis, values in axes.items()
        }

    def cases(self) -> list[Case]:
        """Returns each case once; that at which axes cross is on all of them."""
        return list(
            dict.fromkeys(case for points in self.axes().values() for case in points.values())
        )


def grown(start: Case, axis: str, value: int) -> Case:
    """Returns a case in which one size is another.

    The length of a training's sentences grows while the tokens of its batch stay as many: a batch
    is bounded by tokens (section 5.1). With the width d_ff and the number of heads grow, heads stay
    as wide as they are.

    Raises: ValueError if a sentence of that length is longer than the batch, or heads do not come
      out even.
    """
    size = start.size
    if axis == "beams":
        return start._replace(beams=value)
    if axis == "length" and not start.beams:
        changes = {"length": value, "rows": size.tokens // value}
    elif axis == "width":
        head_width = size.d_model // size.num_heads
        changes = {
            "d_model": value,
            "d_ff": value * size.d_ff // size.d_model,
            "num_heads": value // head_width,
        }
    else:
        name = {
            "length": "length",
            "depth": "layers",
            "vocabulary": "vocab_size",
            "batch": "rows",
        }[axis]
        changes = {name: value}
    if 0 in changes.values():
        raise ValueError(f"{axis}={value} leaves {changes}. Choose a size that fits the others.")
    return start._replace(size=dataclasses.replace(size, **changes))


def powers(first: int, last: int) -> tuple[int, ...]:
    """Returns first, twice that, and so on, up to last."""
    values = [first]
    while values[-1] < last:
        values.append(2 * values[-1])
    return tuple(values)


FULL = Grid(
    training=Case(Size(8192, 128, 256, 4, 2, rows=32, length=64, dropout_rate=0.1)),
    training_axes={
        "length": powers(32, 2048),
        "width": powers(32, 512),
        "depth": powers(1, 8),
        "vocabulary": powers(1024, 65536),
        "batch": powers(2, 128),
    },
    decoding=Case(Size(8192, 128, 256, 4, 2, rows=8, length=64, dropout_rate=0.0), beams=4),
    decoding_axes={"beams": powers(1, 16), "length": powers(16, 512)},
)
QUICK = Grid(
    training=Case(Size(512, 32, 64, 2, 1, rows=8, length=32, dropout_rate=0.1)),
    training_axes={
        "length": powers(16, 64),
        "width": powers(16, 64),
        "depth": (1, 2, 3),
        "vocabulary": powers(256, 1024),
        "batch": powers(4, 16),
    },
    decoding=Case(Size(512, 32, 64, 2, 1, rows=2, length=16, dropout_rate=0.0), beams=2),
    decoding_axes={"beams": powers(1, 4), "length": powers(8, 32)},
)
