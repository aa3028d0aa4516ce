"""What to change where something does not fit: what lasts is cut first, then what grows with it."""

import pytest

from jaxformer.run.advice import advise

GIB = 2**30
ACTIVATIONS = {
    "memory": 16 * GIB,
    "needed": 40 * GIB,
    "parameters": GIB,
    "optimizer": 2 * GIB,
    "remat": "none",
    "scan_layers": True,
    "accumulate": 1,
    "tokens": 24_000,
    "num_devices": 4,
    "fsdp": 1,
}


def flags(changes):
    """Returns the settings that are named."""
    return [
        word.rstrip(".")
        for change in changes
        for word in change.split()
        if word.startswith("--config.")
    ]


def test_activations_are_kept_less_and_batches_made_smaller():
    # 36 GiB grow with the batch, and 12 are free.
    assert flags(advise(**ACTIVATIONS)) == [
        "--config.model.remat=dots",
        "--config.model.remat=full",
        "--config.train.accumulate=3",
        "--config.data.source_tokens=8000",
        "--config.data.target_tokens=8000",
    ]


def test_what_is_done_already_is_not_advised():
    changes = flags(advise(**{**ACTIVATIONS, "remat": "full", "accumulate": 2}))
    assert changes[0] == "--config.train.accumulate=6"
    assert flags(advise(**{**ACTIVATIONS, "remat": "dots"}))[0] == "--config.model.remat=full"


def test_remat_comes_with_a_loop():
    changes = flags(advise(**{**ACTIVATIONS, "scan_layers": False}))
    loop = "--config.model.scan_layers=true"
    assert changes[:4] == ["--config.model.remat=dots", loop, "--config.model.remat=full", loop]


def test_where_the_compiler_does_not_say_how_much_halves_are_tried():
    changes = flags(advise(**{**ACTIVATIONS, "needed": None}))
    assert "--config.train.accumulate=2" in changes


@pytest.mark.parametrize(("parameters", "also"), [(3, True), (5, False)])
def test_a_large_state_is_cut_over_devices(parameters, also):
    state = {"parameters": parameters * GIB, "optimizer": 2 * parameters * GIB}
    changes = flags(advise(**{**ACTIVATIONS, **state}))
    assert changes[:2] == ["--config.parallel.data=1", "--config.parallel.fsdp=-1"]
    # With 20 GiB of 16 nothing else helps.
    assert ("--config.model.remat=dots" in changes) == also


def test_a_state_that_is_cut_already_needs_more_memory():
    state = {"parameters": 5 * GIB, "optimizer": 10 * GIB, "fsdp": 4}
    (change,) = advise(**{**ACTIVATIONS, **state})
    assert "a larger slice" in change
