"""Slices of TPUs that can be rented: their names for `preflight --topology`, and those of clouds.

Sources: cloud.google.com/tpu/docs/v4, v5e, v5p and v6e for shapes, .../docs/runtimes for software.
"""

import difflib
import math
from typing import NamedTuple


class Slice(NamedTuple):
    """A slice of TPUs.

    Attributes:
      name: as preflight knows it, such as "v5e:4x4".
      chips: that it has, and is paid for.
      accelerator: its type in Cloud TPU and xpk, such as "v5litepod-16".
      software: the version of it that its hosts start with.
    """

    name: str
    chips: int
    accelerator: str
    software: str


class _Kind(NamedTuple):
    name: str
    accelerator: str
    # What the number at the end of an accelerator's type counts, of each chip.
    cores: int
    software: str
    shapes: tuple[str, ...]


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
# Those that their number of cores stands for; other shapes have no such name.
_CUBES = (
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8"),
    *("4x8x8", "8x8x8", "8x8x16", "8x16x16"),
)
_KINDS = (
    _Kind("v4", "v4", 2, "tpu-ubuntu2204-base", _CUBES),
    _Kind("v5e", "v5litepod", 1, "v2-alpha-tpuv5-lite", _FLAT),
    _Kind("v5p", "v5p", 2, "v2-alpha-tpuv5", _CUBES),
    _Kind("v6e", "v6e", 1, "v2-alpha-tpuv6e", _FLAT),
)


def _slices(kind: _Kind) -> list[Slice]:
    found = []
    for shape in kind.shapes:
        chips = math.prod(map(int, shape.split("x")))
        accelerator = f"{kind.accelerator}-{chips * kind.cores}"
        found.append(Slice(f"{kind.name}:{shape}", chips, accelerator, kind.software))
    return found


SLICES = {each.name: each for kind in _KINDS for each in _slices(kind)}
"""Name -> slice."""


def find_slice(name: str) -> Slice:
    """Returns the slice of a name.

    Raises: ValueError, with the right name where it can be guessed.
    """
    if name in SLICES:
        return SLICES[name]
    kind, _, rest = name.removeprefix("tpu-").replace("v5litepod", "v5e").partition("-")
    theirs = [
        each.name
        for each in SLICES.values()
        if each.accelerator.replace("v5litepod", "v5e") == f"{kind}-{rest}"
    ]
    near = theirs or difflib.get_close_matches(name, SLICES, n=1, cutoff=0.7)
    kind = name.partition(":")[0]
    known = [each for each in SLICES if each.startswith(f"{kind}:")]
    if theirs or not known:
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"Unknown slice {name!r}.{hint} A slice is named as for preflight: kind and shape, "
            "such as v5e:4x4 or v6e:16x16."
        )
    raise ValueError(f"Unknown slice {name!r}; of {kind} there are {', '.join(known)}.")
