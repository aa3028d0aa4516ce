import gc
import logging
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxformer.io import checkpoint
from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.digest import SUMS, write_sums
from jaxformer.train import Hyper, TrainState

ROOT = Path(__file__).resolve().parents[2]


def make_state(step=3, width=7, *, impl="threefry2x32", dtype=jnp.bfloat16, extra=False):
    """Has all that a state is made of: named tuples, empty ones, a typed key, two float types."""
    params = {
        "dense": {"kernel": jnp.arange(width * 5.0).reshape(width, 5) + step},
        "scale": jnp.full((3,), 0.1, dtype),
    }
    if extra:
        params["extra"] = jnp.zeros(2)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    return TrainState(
        step=jnp.int32(step),
        params=params,
        opt_state=optimizer.init(params),
        key=jax.random.key(step, impl=impl),
        hyper=Hyper.create(),
    )


ABSTRACT = jax.eval_shape(make_state)


def bits(leaf):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert isinstance(one, jax.Array)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert bits(one) == bits(other)


def save_steps(folder, *steps, keep=9, **options):
    with Checkpoints(folder, keep=keep, **options) as checkpoints:
        for step in steps:
            checkpoints.save(make_state(step))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_state_comes_back_as_it_was(tmp_path, impl):
    state = make_state(impl=impl)
    with Checkpoints(tmp_path / "new" / "folder") as checkpoints:
        checkpoints.save(state)
        assert_same(checkpoints.restore(jax.eval_shape(lambda: state)), state)
    with Checkpoints(tmp_path / "new" / "folder", read_only=True) as checkpoints:
        assert_same(checkpoints.restore(state, step=3), state)


def test_a_state_may_be_donated_once_save_returns(tmp_path):
    shift = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    state = make_state().replace(params={"w": [jnp.zeros(1 << 18) for _ in range(8)]})
    abstract = jax.eval_shape(lambda: state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        moved = state.params
        for _ in range(5):
            moved = shift(moved)
        jax.block_until_ready(moved)
        restored = checkpoints.restore(abstract)
    for leaf in restored.params["w"]:
        np.testing.assert_array_equal(leaf, 0.0)


def test_the_newest_are_kept_and_found(tmp_path):
    save_steps(tmp_path, 10, 20, 30, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20", "30"]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.all_steps() == [20, 30]
        assert checkpoints.latest_step() == 30
        assert int(checkpoints.restore(ABSTRACT).step) == 30
        assert int(checkpoints.restore(ABSTRACT, step=20).step) == 20
        with pytest.raises(ValueError, match=r"No checkpoint of step 10 in .*: it holds 20, 30."):
            checkpoints.restore(ABSTRACT, step=10)


def test_an_empty_folder_has_no_step(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.all_steps() == []
        assert checkpoints.latest_step() is None
        assert checkpoints.newest_sound() == (None, {})
        for read in (
            lambda: checkpoints.restore(ABSTRACT),
            lambda: next(checkpoints.params_of([1], ABSTRACT.params)),
            checkpoints.read_meta,
        ):
            with pytest.raises(ValueError, match="No checkpoint in .*train first"):
                read()


@pytest.mark.parametrize("step", [20, 15])
def test_a_refused_save_is_not_silent(tmp_path, step):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(make_state(20))
        with pytest.raises(ValueError, match=f"Step {step} cannot be saved: .* holds step 20"):
            checkpoints.save(make_state(step))
        assert checkpoints.all_steps() == [20]


def test_read_only_changes_nothing(tmp_path):
    with pytest.raises(ValueError, match="No checkpoints at .*absent"):
        Checkpoints(tmp_path / "absent", read_only=True)
    save_steps(tmp_path, 1)
    leftover = tmp_path / "2.orbax-checkpoint-tmp"
    leftover.mkdir()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        with pytest.raises(ValueError, match="Step 5 was not saved .*: it was opened for reading"):
            checkpoints.save(make_state(5))
        assert checkpoints.all_steps() == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", leftover.name]


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="keep=0 would remove every checkpoint"):
        Checkpoints(tmp_path, keep=0)


def test_meta_lies_beside_the_state(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(make_state(1), meta={"epoch": np.int64(2), "loss": [np.float32(0.1)]})
        checkpoints.save(make_state(2))
        assert checkpoints.read_meta(1) == {"epoch": 2, "loss": [0.1]}
        assert checkpoints.read_meta() == {}


def test_last_params_are_the_newest_first(tmp_path):
    save_steps(tmp_path, 1, 2, 3)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        for n, steps in {1: [3], 2: [3, 2], 9: [3, 2, 1]}.items():
            assert checkpoints.last_steps(n) == steps
            found = list(checkpoints.params_of(steps, ABSTRACT.params))
            assert len(found) == len(steps)
            for params, step in zip(found, steps, strict=True):
                assert_same(params, make_state(step).params)
        with pytest.raises(ValueError, match="n=0 checkpoints"):
            checkpoints.last_steps(0)


MISMATCHES = {
    "shape": (
        {"width": 11},
        "has params.dense.kernel as float32[7, 5], but float32[11, 5] is expected.",
    ),
    "dtype": (
        {"dtype": jnp.float32},
        "has params.scale as bfloat16[3], but float32[3] is expected.",
    ),
    "missing": ({"extra": True}, "has no params.extra, which is expected."),
}


@pytest.mark.parametrize("kind", MISMATCHES)
@pytest.mark.parametrize("part", ["state", "params"])
def test_another_model_is_told_in_one_sentence(tmp_path, capfd, kind, part):
    save_steps(tmp_path, 3)
    options, message = MISMATCHES[kind]
    abstract = jax.eval_shape(lambda: make_state(**options))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        read = {
            "state": lambda: checkpoints.restore(abstract),
            "params": lambda: next(checkpoints.params_of([3], abstract.params)),
        }[part]
        with pytest.raises(ValueError, match=f"^Checkpoint 3 in {tmp_path} has") as raised:
            read()
    assert message in str(raised.value)
    assert "config.json" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_more_than_expected_and_another_kind_of_key_are_told(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(extra=True))
        with pytest.raises(ValueError, match=r"has opt_state.*\.mu\.extra, which is not expected"):
            checkpoints.restore(ABSTRACT)
        with pytest.raises(ValueError, match=r"has params\.extra, which is not expected"):
            next(checkpoints.params_of([3], ABSTRACT.params))
        other = jax.eval_shape(lambda: make_state(extra=True, impl="rbg"))
        with pytest.raises(ValueError, match=r"has key as uint32\[2\], but uint32\[4\]"):
            checkpoints.restore(other)


def test_a_damaged_checkpoint_is_told_in_one_sentence(tmp_path, capfd):
    save_steps(tmp_path, 1, 2)
    for path in (tmp_path / "2" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:20])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        for read in (
            lambda: checkpoints.restore(ABSTRACT),
            lambda: next(checkpoints.params_of([2], ABSTRACT.params)),
            checkpoints.read_meta,
        ):
            with pytest.raises(ValueError, match=r"Checkpoint 2 in .* cannot be read") as raised:
                read()
            assert "is not as it was saved). Move its folder away" in str(raised.value)
            assert "\n" not in str(raised.value)
        assert_same(checkpoints.restore(ABSTRACT, step=1), make_state(1))
        # The newest that averaging needs are read one by one.
        found = checkpoints.params_of([2, 1], ABSTRACT.params)
        with pytest.raises(ValueError, match=r"Checkpoint 2 in .* cannot be read"):
            next(found)
    assert capfd.readouterr() == ("", "")


def test_what_orbax_cannot_read_is_told_in_one_sentence(tmp_path, capfd):
    save_steps(tmp_path, 1)
    for path in (tmp_path / "1" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:20])
    write_sums(tmp_path / "1")
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        for read in (
            lambda: checkpoints.restore(ABSTRACT),
            lambda: next(checkpoints.params_of([1], ABSTRACT.params)),
        ):
            with pytest.raises(ValueError, match=r"Checkpoint 1 in .* cannot be read") as raised:
                read()
            assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_the_newest_sound_one_is_found_and_a_damaged_one_set_aside(tmp_path):
    save_steps(tmp_path, 1, 2, 3, 4)
    # A half-deleted step, a missing file, and one that was saved before there were sums.
    shutil.rmtree(tmp_path / "4" / "state")
    (tmp_path / "3" / "meta" / "metadata").unlink()
    (tmp_path / "2" / SUMS).unlink()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        step, faults = checkpoints.newest_sound()
        assert step == 1
        assert list(faults) == [4, 3, 2]
        assert re.fullmatch("state/.* is missing", faults[4])
        assert faults[3] == "meta/metadata is missing"
        assert faults[2] == "SHA256SUMS is missing"
        assert checkpoints.set_aside(4) == str(tmp_path / "4.damaged")
        assert checkpoints.all_steps() == [1, 2, 3]
        assert checkpoints.set_aside(3) == str(tmp_path / "3.damaged")
        assert checkpoints.set_aside(2) == str(tmp_path / "2.damaged")
        checkpoints.save(make_state(3))
        checkpoints.save(make_state(4))
    shutil.rmtree(tmp_path / "4" / "state")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.newest_sound()[0] == 3
        assert checkpoints.set_aside(4) == str(tmp_path / "4.damaged-2")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(make_state(5))
        assert checkpoints.all_steps() == [3, 5]
    names = ["2.damaged", "3", "3.damaged", "4.damaged", "4.damaged-2", "5"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    shutil.rmtree(tmp_path / "3" / "state")
    (tmp_path / "5" / SUMS).write_bytes(b"")
    message = r"No checkpoint in .* is as it was saved: 5 \(SHA256SUMS is damaged\); 3 \(state/"
    with (
        Checkpoints(tmp_path, read_only=True) as checkpoints,
        pytest.raises(ValueError, match=message),
    ):
        checkpoints.newest_sound()


def test_what_a_killed_save_left_is_ignored_and_cleared(tmp_path):
    save_steps(tmp_path, 1)
    # What a kill leaves: the newer step under its temporary name, here as whole as can be.
    for name in ("2", "9", "2.unsummed"):
        shutil.copytree(tmp_path / "1", tmp_path / f"{name}.orbax-checkpoint-tmp")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.all_steps() == [1]
        checkpoints.save(make_state(2))
        assert_same(checkpoints.restore(ABSTRACT), make_state(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_the_reason_of_a_long_message_is_not_cut_off():
    long = "Failed: " + '{\\"cache_pool#ocdbt\\":{\\"total_bytes_limit\\":100000000}}' * 5
    coded = OSError(f"{long} [os_error_code='27' a='b']")
    assert checkpoint._reason(coded) == f"{long[:97]} ...: File too large"
    assert checkpoint._reason(OSError(f"{long} no room")).endswith("}} no room")
    assert len(checkpoint._reason(OSError(long))) == 200


def test_a_failed_save_is_told_and_costs_nothing(tmp_path, capfd, caplog):
    noise = jax.random.normal(jax.random.key(0), (1 << 16,))

    def state(step):
        return make_state(step).replace(params={"noise": noise})

    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(state(1))
        checkpoints.wait()
        second, limits = state(2), resource.getrlimit(resource.RLIMIT_FSIZE)
        # No file may grow above this: as good as a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, limits[1]))
        try:
            checkpoints.save(second)
            with pytest.raises(OSError, match=r"Checkpoint 2 could not be written") as raised:
                checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert str(raised.value).endswith(": File too large). Those there are kept: 1.")
        assert checkpoints.all_steps() == [1]
        assert_same(checkpoints.restore(second), state(1))
        checkpoints.save(state(3))
        assert checkpoints.all_steps() == [3]
    del raised
    gc.collect()  # Orbax's broken-off writes speak up when they are collected.
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


SAVING = """
import sys
from absl import app
import jax, jax.numpy as jnp
from jaxformer.io.checkpoint import Checkpoints
from tests.io.test_checkpoint import make_state

def main(argv):
    noise = jax.random.normal(jax.random.key(0), (1 << 21,))
    with Checkpoints(argv[1], keep=1) as checkpoints:
        for step in range(1, 1000):
            checkpoints.save(make_state(step).replace(params={"noise": noise + step}))
            print(step, flush=True)

app.run(main)
"""


def test_a_kill_loses_no_completed_checkpoint_and_all_is_quiet(tmp_path):
    """Kills a command that saves without pause: `save` returns once the one before is complete."""
    with subprocess.Popen(
        [sys.executable, "-c", SAVING, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            accepted = int(line)
            if accepted == 4:
                process.send_signal(signal.SIGKILL)
                break
        accepted = max([accepted, *map(int, process.stdout.read().split())])
        assert process.stderr.read() == ""
    noise = jax.random.normal(jax.random.key(0), (1 << 21,))
    abstract = jax.eval_shape(lambda: make_state().replace(params={"noise": noise}))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        newest = checkpoints.latest_step()
        assert newest >= accepted - 1
        restored = checkpoints.restore(abstract)
    assert_same(restored, make_state(newest).replace(params={"noise": noise + newest}))


def test_others_may_still_log_through_absl(tmp_path, caplog):
    save_steps(tmp_path, 1)
    with caplog.at_level(logging.INFO, logger="absl"):
        logging.getLogger("absl").info("of another")
        save_steps(tmp_path, 2)
    assert [record.message for record in caplog.records] == ["of another"]


def test_importing_costs_little():
    """Orbax, sacreBLEU and matplotlib are imported by what needs them."""
    code = (
        "import sys, jaxformer.io.checkpoint, jaxformer.io.score, jaxformer.io.plot\n"
        "print(sorted({'orbax', 'sacrebleu', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
