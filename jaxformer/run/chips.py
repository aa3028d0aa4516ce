"""What makers publish of their chips: the peaks that no program can pass.

The host's CPU is not here: nobody publishes what it can do, so that no time is foretold for it.
"""

from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
    """A chip's published peaks.

    Attributes:
      name: as in the name of a slice, "v5e:4x4", or a word for a GPU.
      flops: bfloat16 operations a second, dense. A TPU's products of float32 run at that rate too,
        by jax's default precision.
      memory: bytes.
      bandwidth: bytes a second, reading and writing together.
      link: bytes a second that a chip sends to others of its slice, over all its links together.
      kinds: `device_kind` of jax's devices.
      source: where that is published.
    """

    name: str
    flops: float
    memory: int
    bandwidth: float
    link: float
    kinds: tuple[str, ...]
    source: str


# Where sources differ, the higher figure stands here, for it is to be a bound.
CHIPS = (
    Chip(
        name="v4",
        flops=275e12,
        memory=32 * GIB,
        bandwidth=1228e9,
        # Six links of 50 GB/s each way.
        link=300e9,
        kinds=("TPU v4",),
        source="cloud.google.com/tpu/docs/v4; links: Jouppi et al. 2023, TPU v4",
    ),
    Chip(
        name="v5e",
        flops=197e12,
        memory=16 * GIB,
        bandwidth=819e9,
        # 400 GB/s both ways together.
        link=200e9,
        kinds=("TPU v5 lite", "TPU v5e"),
        source="cloud.google.com/tpu/docs/v5e",
    ),
    Chip(
        name="v5p",
        flops=459e12,
        memory=95 * GIB,
        bandwidth=2765e9,
        # 4,800 Gbit/s.
        link=600e9,
        kinds=("TPU v5", "TPU v5p"),
        source="cloud.google.com/tpu/docs/v5p",
    ),
    Chip(
        name="v6e",
        flops=918e12,
        memory=32 * GIB,
        bandwidth=1640e9,
        # 3,584 Gbit/s; later versions of the page say 3,200.
        link=448e9,
        kinds=("TPU v6 lite", "TPU v6e"),
        source="cloud.google.com/tpu/docs/v6e",
    ),
)


def chip_of(device_kind: str) -> Chip | None:
    """Returns the chip of a device's kind, None where nothing is known of it."""
    return next((chip for chip in CHIPS if device_kind in chip.kinds), None)
