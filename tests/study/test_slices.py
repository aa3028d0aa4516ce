"""Slices: the names of preflight, and those of clouds."""

import pytest

from jaxformer.run.chips import CHIPS
from jaxformer.study.slices import SLICES, find_slice


@pytest.mark.parametrize(
    ("name", "chips", "accelerator", "software"),
    [
        # As in the tables of cloud.google.com/tpu/docs: v5p and v4 count two cores a chip.
        ("v4:2x2x1", 4, "v4-8", "tpu-ubuntu2204-base"),
        ("v5e:1x1", 1, "v5litepod-1", "v2-alpha-tpuv5-lite"),
        ("v5e:4x4", 16, "v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p:2x2x4", 16, "v5p-32", "v2-alpha-tpuv5"),
        ("v5p:8x16x16", 2048, "v5p-4096", "v2-alpha-tpuv5"),
        ("v6e:16x16", 256, "v6e-256", "v2-alpha-tpuv6e"),
    ],
)
def test_slices_are_called_as_published(name, chips, accelerator, software):
    assert find_slice(name) == (name, chips, accelerator, software)


def test_no_two_slices_are_rented_by_one_name():
    accelerators = [each.accelerator for each in SLICES.values()]
    assert len(set(accelerators)) == len(accelerators) == 36


def test_every_kind_has_peaks_for_preflight():
    assert {name.partition(":")[0] for name in SLICES} == {chip.name for chip in CHIPS}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu-v5e-16", "Unknown slice 'tpu-v5e-16'. Did you mean 'v5e:4x4'? A slice is named as"),
        ("v5litepod-16", "Did you mean 'v5e:4x4'?"),
        ("tpu-v6e-256", "Did you mean 'v6e:16x16'?"),
        ("v5p-32", "Did you mean 'v5p:2x2x4'?"),
        ("v5:4x4", "Did you mean 'v5e:4x4'?"),
        ("h100", "Unknown slice 'h100'. A slice is named as for preflight: kind and shape, such"),
        ("v5e:4x5", "Unknown slice 'v5e:4x5'; of v5e there are v5e:1x1, v5e:2x2, v5e:2x4,"),
    ],
)
def test_an_unknown_slice_is_answered_with_those_that_are_known(name, message):
    with pytest.raises(ValueError, match="Unknown slice") as caught:
        find_slice(name)
    assert message in str(caught.value)
