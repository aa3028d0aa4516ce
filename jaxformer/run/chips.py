"""What makers publish of their chips: the peaks that no program can pass.

The host's CPU is not here: nobody publishes what it can do, so that no time is foretold for it.
"""

from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
    """A chip's published peaks.

    Attributes:
      name: as in the name of a slice, "v5e:4x4", or a word for a GPU.
      flops: bfloat16 operations a second, dense; float32's where a chip multiplies no bfloat16. A
        TPU's products of float32 run at that rate too, by jax's default precision.
      memory: bytes.
      bandwidth: bytes a second, reading and writing together.
      link: bytes a second that a chip sends to others of its slice, or a GPU to others of its host
        by NVLink, over all its links together.
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


# TPUs. Where sources differ, the higher figure stands here, for it is to be a bound.
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

# On SXM boards: those for PCIe have other peaks, and are not known here. NVLink is published both
# ways together, and `link` is one way.
GPUS = (
    Chip(
        name="H100",
        # 1,979 TFLOPS are with sparsity.
        flops=989.4e12,
        memory=80 * GIB,
        bandwidth=3350e9,
        link=450e9,
        kinds=("NVIDIA H100 80GB HBM3",),
        source="NVIDIA H100 data sheet; dense: NVIDIA H100 Tensor Core GPU Architecture, 2022",
    ),
    Chip(
        name="A100-80GB",
        flops=312e12,
        memory=80 * GIB,
        bandwidth=2039e9,
        link=300e9,
        kinds=("NVIDIA A100-SXM4-80GB",),
        source="NVIDIA A100 data sheet, nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf",
    ),
    Chip(
        name="A100-40GB",
        flops=312e12,
        memory=40 * GIB,
        bandwidth=1555e9,
        link=300e9,
        # Without the maker's name by older drivers.
        kinds=("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB"),
        source="NVIDIA A100 Tensor Core GPU Architecture, 2020",
    ),
    # Volta's and Pascal's, which follow, multiply no bfloat16, and what they do with float16 no
    # product here asks for: the rate is float32's.
    Chip(
        name="V100-32GB",
        flops=15.7e12,
        memory=32 * GIB,
        bandwidth=900e9,
        link=150e9,
        kinds=("Tesla V100-SXM2-32GB",),
        source="NVIDIA V100 data sheet, volta-v100-datasheet-update-us-1165301-r5.pdf",
    ),
    Chip(
        name="V100-16GB",
        flops=15.7e12,
        memory=16 * GIB,
        bandwidth=900e9,
        link=150e9,
        kinds=("Tesla V100-SXM2-16GB",),
        source="NVIDIA V100 data sheet, volta-v100-datasheet-update-us-1165301-r5.pdf",
    ),
    Chip(
        name="P100",
        flops=10.6e12,
        memory=16 * GIB,
        bandwidth=732e9,
        link=80e9,
        kinds=("Tesla P100-SXM2-16GB",),
        source="NVIDIA Tesla P100, white paper WP-08019-001, 2016",
    ),
)


def chip_of(device_kind: str) -> Chip | None:
    """Returns the chip of a device's kind, None where nothing is known of it."""
    return next((chip for chip in CHIPS + GPUS if device_kind in chip.kinds), None)
