"""A population of trainings: every member as if it were alone, on however many devices."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from jaxformer.optim import noam_rate
from jaxformer.population import (
    device_of,
    make_mesh,
    make_population_step,
    num_rows,
    stack,
    unstack,
)
from jaxformer.train import Hyper, init_state, make_train_step
from tests.test_train import MODEL as RELU_MODEL
from tests.test_train import is_close, is_same, rows

ROOT = Path(__file__).resolve().parent.parent
STEPS, MEMBERS = 20, 7
HYPER = [
    {"dropout_rate": 0.0, "label_smoothing": 0.1, "learning_rate": 1.0, "warmup_steps": 10},
    {"dropout_rate": 0.3, "label_smoothing": 0.0, "learning_rate": 2.0, "warmup_steps": 5},
    {"dropout_rate": 0.1, "label_smoothing": 0.3, "learning_rate": 0.5, "warmup_steps": 100},
]
# ReLU's gradient jumps at 0: an activation that is there but for rounding would part two runs that
# are equal to rounding.
MODEL = RELU_MODEL.clone(activation=jax.nn.gelu)
# Plain gradient descent: Adam is in tests/cli/test_population.py.
OPTIMIZER = optax.identity()
TRAIN_STEP = make_train_step(
    MODEL,
    OPTIMIZER,
    lambda step, hyper: (
        hyper.learning_rate * noam_rate(step, d_model=18, warmup_steps=hyper.warmup_steps)
    ),
)
make_state = jax.jit(lambda seed, hyper: init_state(MODEL, OPTIMIZER, hyper, seed))


def first_states():
    return [make_state(seed, Hyper.create(**HYPER[seed % 3])) for seed in range(MEMBERS)]


def batch_of(member, step):
    """Every member has its own sentences."""
    lengths = [11, 9, 2, 3, 5, 8, 0]
    return {
        "source_BS": rows(lengths[::-1], 11, seed=1000 * member + step),
        "target_BT": rows(lengths, 13, seed=1000 * member + 500 + step),
    }


def stacked(batches):
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


@pytest.fixture(scope="module")
def population_step():
    return jax.jit(make_population_step(TRAIN_STEP, make_mesh(MEMBERS)))


def run(population_step, states, steps=STEPS):
    """Returns the members' states and the metrics of all steps."""
    together = stack(states, make_mesh(len(states)), len(states))
    metrics = []
    for step in range(steps):
        batches = stacked([batch_of(member, step) for member in range(len(states))])
        together, found = population_step(together, batches)
        metrics.append(jax.device_get(found))
    return unstack(together, range(len(states))), metrics


@pytest.fixture(scope="module")
def population(population_step):
    return run(population_step, first_states())


def test_members_are_what_they_are_alone(population):
    states, metrics = population
    solo_step = jax.jit(TRAIN_STEP)
    for member, expected in enumerate(first_states()):
        for step in range(STEPS):
            expected, expected_metrics = solo_step(expected, batch_of(member, step))
            for name, value in expected_metrics.items():
                assert metrics[step][name][member] == pytest.approx(float(value), rel=1e-5)
        assert is_close(states[member].params, expected.params, 1e-5)
        assert is_same(states[member].key, expected.key)
        assert int(states[member].step) == STEPS
        # They have moved, and not alike.
        assert not is_close(states[member].params, first_states()[member].params, 1e-2)


@pytest.mark.parametrize("bad", [0, 1])
def test_one_that_is_not_finite_leaves_the_others_as_they_are(population, population_step, bad):
    expected, _ = population
    states = first_states()
    states[bad] = states[bad].replace(
        params=jax.tree.map(lambda leaf: leaf * np.float32("nan"), states[bad].params)
    )
    found, metrics = run(population_step, states)
    assert all(np.isnan(each["loss"][bad]) for each in metrics)
    for member in set(range(MEMBERS)) - {bad}:
        assert is_same(found[member].params, expected[member].params)


def test_stacked_trees_come_apart_again():
    states, mesh = first_states()[:3], make_mesh(3)
    together = stack(states, mesh, 5)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(together)} == {5}
    apart = unstack(together, [2, 0, 4])
    for state, expected in zip(apart, (states[2], states[0], states[2]), strict=True):
        assert jax.tree.structure(state) == jax.tree.structure(expected)
        assert is_same(state, expected)
    with pytest.raises(ValueError, match="5 rows has no row 5"):
        unstack(together, [5])


def test_no_member_is_no_population():
    with pytest.raises(ValueError, match="0 members is none"):
        make_mesh(0)


@pytest.mark.parametrize(
    ("members", "devices", "rows"), [(1, 1, 1), (3, 3, 3), (4, 4, 4), (5, 3, 6), (9, 3, 9)]
)
def test_rows_are_even_and_as_few_as_possible(members, devices, rows):
    four = [object() for _ in range(4)]
    mesh = make_mesh(members, four)
    assert (mesh.size, num_rows(members, mesh)) == (devices, rows)
    assert device_of(rows - 1, mesh, rows) is four[devices - 1]


def save_of_four_devices(path):
    """Saves the parameters after two steps on four devices; run where there are four."""
    mesh, size = make_mesh(MEMBERS), 8
    assert (mesh.size, num_rows(MEMBERS, mesh)) == (4, size)
    step = jax.jit(make_population_step(TRAIN_STEP, mesh))
    states = [
        jax.device_put(state, device_of(row, mesh, size))
        for row, state in enumerate(first_states())
    ]
    together = stack(states, mesh, size)
    for number in range(2):
        batches = [batch_of(min(row, MEMBERS - 1), number) for row in range(size)]
        together, _ = step(together, stacked(batches))
    leaf = together.params["embedding"]["table"]
    assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {2}
    apart = unstack(together, range(MEMBERS))
    assert apart[6].params["embedding"]["table"].device.id == 3
    leaves = [leaf for state in apart for leaf in jax.tree.leaves(state.params)]
    np.savez(path, *leaves)


@pytest.mark.slow
def test_four_devices_give_what_one_gives(population_step, tmp_path):
    path = tmp_path / "four.npz"
    script = f"from tests.test_population import *; save_of_four_devices({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    states, _ = run(population_step, first_states(), steps=2)
    expected = [leaf for state in states for leaf in jax.tree.leaves(state.params)]
    assert is_close(list(np.load(path).values()), expected, 1e-5)
