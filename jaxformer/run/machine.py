"""The devices that a program is compiled for: those here, or a slice of TPUs that is not."""

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax

from jaxformer.run.chips import CHIPS, Chip, chip_of

_SLICE = re.compile(r"(\w+):(\d+(?:x\d+)+)")


@dataclass(frozen=True)
class Machine:
    """What is looked at.

    Attributes:
      name: "v5e:4x4", or "here".
      devices: of the program; those of a slice that is not here can compile and no more.
      chip: what is published of it, None for a CPU and for chips that `chips.py` does not know.
      chips: how many there are; a chip may hold two devices.
      memory: bytes of each device, None where that is not known.
    """

    name: str
    devices: Sequence[jax.Device]
    chip: Chip | None
    chips: int
    memory: int | None

    @property
    def share(self) -> float:
        """How much of a chip a device is."""
        return self.chips / len(self.devices)


def here() -> Machine:
    """Returns the devices of this process."""
    devices = jax.devices()
    chip = chip_of(devices[0].device_kind)
    chips = _count_chips(devices)
    known = (devices[0].memory_stats() or {}).get("bytes_limit")
    if known is None and devices[0].platform == "cpu":
        # All devices of a CPU share the host's.
        known = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(devices)
    return Machine("here", devices, chip, chips, known)


def tpu_slice(name: str) -> Machine:
    """Returns the devices of a slice, such as "v5e:4x4", without having one.

    Set JAX_PLATFORMS=cpu before jax is imported, or a TPU of this machine would be taken.

    Raises: ValueError if TPU's compiler is not installed, or knows no such slice.
    """
    names = ", ".join(chip.name for chip in CHIPS)
    found = _SLICE.fullmatch(name)
    chip = next((chip for chip in CHIPS if found and chip.name == found[1]), None)
    if found is None or chip is None:
        raise ValueError(
            f"{name!r} is not the name of a slice. Write a kind of {names} and how many chips "
            "stand along each axis: v5e:4x4, v5p:2x2x4."
        )
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            f"To compile for {name}, TPU's compiler is needed. Install it: "
            "pip install 'jaxformer[tpu]'."
        )
    from jax.experimental import topologies

    # It is to compile and no more: neither to ask the network which slice it is on, nor to keep
    # other processes from compiling.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except jax.errors.JaxRuntimeError as error:
        told = " ".join(str(error).split())
        raise ValueError(f"TPU's compiler knows no slice {name!r}: {told}") from error
    devices = topology.devices
    chips = _count_chips(devices)
    return Machine(name, devices, chip, chips, int(chip.memory * chips / len(devices)))


def _count_chips(devices: Sequence[jax.Device]) -> int:
    """Counts the places in the slice; a GPU or CPU is one by itself."""
    places = {tuple(getattr(device, "coords", (device.id,))) for device in devices}
    return len(places)
