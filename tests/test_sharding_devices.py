"""Eight devices give what one gives, however they are arranged.

What needs eight is run by functions of this module in a process that pretends to have them.
"""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxformer.io.checkpoint import Checkpoints
from jaxformer.model import splash_attention
from jaxformer.optim import noam_rate
from jaxformer.sharding import (
    jit_step,
    make_layout,
    make_mesh,
    place_batch,
    state_shardings,
    with_shardings,
)
from jaxformer.train import make_train_step
from tests.test_sharding import MESHES, MODEL, OPTIMIZER, SHAPES, abstract_mesh, first_state
from tests.test_train import is_close, is_same, rows

ROOT = Path(__file__).resolve().parent.parent
STEPS = 10
# Meshes, and ways to map the step over devices.
QUICK = ("all",)
REST = ("data", "fsdp", "tensor", "looped", "shard_map", "pmap")
# What is compiled for slices of TPUs: layers in a loop, computed again backwards, and an attention
# that each device is left alone with.
LOOPED = {"scan_layers": True, "remat": "full", "attend": splash_attention}
TOLERANCE = {"plain": 1e-5, "adam": 1e-4}
make_state = jax.jit(first_state)


def rate(step, hyper):
    return hyper.learning_rate * noam_rate(step, d_model=24, warmup_steps=hyper.warmup_steps)


def step_of(model, **more):
    return make_train_step(model, OPTIMIZER, rate, **more)


def batch_of(step, count=11):
    """Returns eleven rows of sentences, filled up with padding to `count` rows."""
    lengths = [13, 11, 3, 2, 7, 5, 8, 13, 2, 4, 6]
    batch = {
        "source_BS": rows(lengths, 13, seed=step),
        "target_BT": rows(lengths[::-1], 17, seed=100 + step),
    }
    return {name: np.pad(array, ((0, count - 11), (0, 0))) for name, array in batch.items()}


def train(step, first, batches):
    """Returns the state after all batches, and their losses."""
    state, losses = first, []
    for batch in batches:
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return state, losses


def train_on_mesh(sizes, **changes):
    """Returns kind of optimiser -> (state, losses)."""
    mesh = make_mesh(*sizes)
    shardings = state_shardings(SHAPES, mesh)
    model = MODEL.clone(layout=make_layout(mesh), **changes)
    step = jit_step(step_of(model), shardings, mesh)
    batches = [place_batch(batch_of(number, 16), mesh) for number in range(STEPS)]
    make_placed = jax.jit(lambda is_adam: first_state(is_adam, model), out_shardings=shardings)
    found = {kind: train(step, make_placed(kind == "adam"), batches) for kind in TOLERANCE}
    assert jax.tree.map(lambda leaf: leaf.sharding, found["adam"][0]) == shardings
    return found


def train_mapped(how):
    """Returns kind of optimiser -> (state, losses) of the pure step, data-parallel."""
    step = step_of(MODEL, axis_name="data")
    batches = [batch_of(number, 16) for number in range(STEPS)]
    if how == "pmap":
        mapped = jax.pmap(step, axis_name="data", in_axes=(None, 0), out_axes=None)
        batches = [
            jax.tree.map(lambda array: array.reshape(8, 2, array.shape[1]), batch)
            for batch in batches
        ]
    else:
        over = jax.shard_map(
            step,
            mesh=make_mesh(8, 1, 1),
            in_specs=(PartitionSpec(), PartitionSpec("data")),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        mapped = jax.jit(over)
    return {kind: train(mapped, make_state(kind == "adam"), batches) for kind in TOLERANCE}


def train_in(folder, ways):
    """Saves losses and parameters of ways to train, and moves checkpoints between meshes."""
    folder = Path(folder)
    names = [way for way in ways if way in MESHES]
    for way in ways:
        if way == "looped":
            found = train_on_mesh(MESHES["all"], **LOOPED)
        else:
            found = train_on_mesh(MESHES[way]) if way in MESHES else train_mapped(way)
        for kind, (state, losses) in found.items():
            leaves = map(np.asarray, jax.tree.leaves(state.params))
            np.savez(folder / f"{way}-{kind}.npz", np.array(losses), *leaves)
        if way in MESHES:
            with Checkpoints(folder / way) as checkpoints:
                checkpoints.save(found["adam"][0])
    meshes = {name: make_mesh(*MESHES[name]) for name in MESHES}
    meshes["one"] = make_mesh(1, 1, 1, devices=jax.devices()[3:4])
    for source in names:
        with Checkpoints(folder / source, read_only=True) as checkpoints:
            states = {
                target: checkpoints.restore(with_shardings(SHAPES, state_shardings(SHAPES, mesh)))
                for target, mesh in meshes.items()
            }
        saved = list(np.load(folder / f"{source}-adam.npz").values())[1:]
        for target, state in states.items():
            assert all(map(np.array_equal, jax.tree.leaves(state.params), saved)), (source, target)
            assert is_same(state, states["one"]), (source, target)
            expected = state_shardings(SHAPES, meshes[target])
            assert jax.tree.map(lambda leaf: leaf.sharding, state) == expected


def run_the_docs():
    """Runs the code of docs/sharding.md on a tiny model, and checks that its ways agree."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs/sharding.md").read_text("utf-8"), re.M | re.S
    )
    assert len(blocks) == 3
    sizes = "vocab_size=41, d_model=24, d_ff=40, num_heads=8, d_k=3, d_v=5"
    layers = "num_encoder_layers=1, num_decoder_layers=1"
    names, found = {"batch": batch_of(0, 16)}, []
    for block in blocks:
        exec(block.replace("vocab_size=32_000", f"{sizes}, {layers}"), names)
        found.append(names["state"].params)
    for params in found[1:]:
        assert is_close(params, found[0], 1e-4)


def run_on_eight(call):
    """Runs a function of this module where there are eight devices; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from tests.test_sharding_devices import *; {call}"],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Returns the function that gives the folder of a way to train, and what was printed there."""
    folder = tmp_path_factory.mktemp("eight")

    @functools.cache
    def run(ways):
        return run_on_eight(f"train_in({str(folder)!r}, {ways!r})")

    return lambda way: (folder, run(QUICK if way in QUICK else REST))


@pytest.fixture(scope="module")
def one():
    """Returns kind of optimiser -> (state, losses) of one device, without padding rows."""
    step, batches = jax.jit(step_of(MODEL)), [batch_of(number) for number in range(STEPS)]
    return {kind: train(step, make_state(kind == "adam"), batches) for kind in TOLERANCE}


def check(path, expected, kind):
    """Compares what was saved with the state and the losses of one device."""
    state, expected_losses = expected
    losses, *found = np.load(path).values()
    np.testing.assert_allclose(losses, expected_losses, rtol=TOLERANCE[kind])
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    for (name, leaf), got in zip(leaves, found, strict=True):
        name = jax.tree_util.keystr(name, simple=True, separator=".")
        # The true gradient of a key's bias is zero: what it becomes is rounding.
        if not name.endswith("key.bias"):
            assert is_close([got], [leaf], TOLERANCE[kind]), name


EVERY = [*QUICK, *(pytest.param(way, marks=pytest.mark.slow) for way in REST)]


@pytest.mark.parametrize("way", EVERY)
def test_eight_devices_give_what_one_gives(eight, one, way):
    for kind in TOLERANCE:
        check(eight(way)[0] / f"{way}-{kind}.npz", one[kind], kind)
        # They have moved.
        assert not is_close(one[kind][0].params, make_state().params, 1e-2)


@pytest.mark.parametrize("way", EVERY)
def test_nothing_is_laid_out_anew_on_the_way(eight, way):
    assert "Involuntary full rematerialization" not in eight(way)[1]


@pytest.mark.slow
def test_the_docs_run():
    run_on_eight("run_the_docs()")


def test_a_mapped_step_refuses_other_axes():
    mapped = jax.shard_map(
        step_of(MODEL, axis_name="data"),
        mesh=abstract_mesh(2, 2, 1),
        in_specs=(PartitionSpec(), PartitionSpec(("data", "fsdp"))),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    message = "adds over the axis 'data' alone, and is mapped over 'fsdp' too. Map it over 'data'"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(mapped, SHAPES, batch_of(0, 16))


def test_a_step_has_a_layout_or_an_axis():
    layout = make_layout(abstract_mesh(2, 2, 1))
    with pytest.raises(ValueError, match="axis_name='data' is for pmap and shard_map"):
        step_of(MODEL.clone(layout=layout), axis_name="data")
