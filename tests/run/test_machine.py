"""The devices here, and slices of TPUs that are not."""

import os

import jax
import pytest

from jaxformer.run.chips import CHIPS, GIB, GPUS, chip_of
from jaxformer.run.machine import here, tpu_slice


def test_this_host_has_memory_and_no_published_peaks():
    machine = here()
    assert machine.name == "here"
    assert list(machine.devices) == jax.devices()
    assert machine.chip is None
    # The host's, shared by its devices.
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.memory == physical // len(machine.devices)


def test_a_chip_is_known_by_its_name_alone():
    known = CHIPS + GPUS
    kinds = [kind for chip in known for kind in chip.kinds]
    assert len(set(kinds)) == len(kinds)
    assert [chip_of(kind) for kind in kinds] == [chip for chip in known for _ in chip.kinds]
    assert chip_of("cpu") is None
    # A board for PCIe is another chip.
    assert chip_of("NVIDIA H100 PCIe") is None


@pytest.mark.parametrize(
    ("kind", "name", "teraflops", "gib", "bandwidth", "link"),
    [
        ("NVIDIA H100 80GB HBM3", "H100", 989.4, 80, 3350, 450),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB", 312, 80, 2039, 300),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB", 312, 40, 1555, 300),
        ("Tesla V100-SXM2-32GB", "V100-32GB", 15.7, 32, 900, 150),
        ("Tesla V100-SXM2-16GB", "V100-16GB", 15.7, 16, 900, 150),
        ("Tesla P100-SXM2-16GB", "P100", 10.6, 16, 732, 80),
    ],
)
def test_a_gpu_has_its_published_peaks(kind, name, teraflops, gib, bandwidth, link):
    chip = chip_of(kind)
    assert (chip.name, chip.memory) == (name, gib * GIB)
    assert chip.flops == pytest.approx(teraflops * 1e12)
    assert (chip.bandwidth, chip.link) == (bandwidth * 1e9, link * 1e9)
    assert chip.source


def test_a_host_with_gpus_has_their_peaks_and_what_they_may_take_of_their_memory(monkeypatch):
    class Gpu:
        platform, device_kind = "gpu", "NVIDIA H100 80GB HBM3"

        def __init__(self, id):
            self.id = id

        def memory_stats(self):
            return {"bytes_limit": 60 * GIB}

    monkeypatch.setattr(jax, "devices", lambda: [Gpu(id) for id in range(8)])
    machine = here()
    assert machine.chip is GPUS[0]
    assert (machine.chips, machine.share, machine.memory) == (8, 1.0, 60 * GIB)


@pytest.mark.parametrize("name", ["v5e", "v5e:4", "v9:4x4", "4x4", "v5e:4x", ""])
def test_what_is_no_slice_is_named(name):
    with pytest.raises(
        ValueError, match=f"'{name}' is not the name of a slice. Write a kind of v4"
    ):
        tpu_slice(name)


def test_without_its_compiler_there_is_no_slice(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"Install it: pip install 'jaxformer\[tpu\]'"):
        tpu_slice("v5e:2x2")


@pytest.mark.needs("tpu-compiler")
def test_a_slice_has_its_chips_and_their_memory():
    machine = tpu_slice("v5e:2x2")
    assert (len(machine.devices), machine.chips, machine.share) == (4, 4, 1.0)
    assert machine.memory == 16 * 2**30
    assert machine.chip is not None
    assert machine.devices[0].device_kind in machine.chip.kinds


@pytest.mark.needs("tpu-compiler")
def test_devices_may_share_a_chip():
    machine = tpu_slice("v4:2x2x1")
    assert (len(machine.devices), machine.chips, machine.share) == (8, 4, 0.5)
    assert machine.memory == 16 * 2**30


@pytest.mark.needs("tpu-compiler")
def test_a_slice_that_cannot_be_is_named():
    with pytest.raises(ValueError, match="TPU's compiler knows no slice 'v5e:3x5'"):
        tpu_slice("v5e:3x5")
