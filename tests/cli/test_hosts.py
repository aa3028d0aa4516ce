"""Two real processes with four devices each as one run, whatever ends one of them."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxformer.cli import hosts
from jaxformer.io.lock import lock
from tests.cli.conftest import CADENCE, ROOT, STEPS, Result
from tests.cli.test_diverged import EVERY, MODULE
from tests.cli.test_resume import lines_of
from tests.closeness import is_close

NAME = socket.gethostname()


class Pair:
    """The processes of one run, of which some may be left out."""

    def __init__(self, *commands, more=(), variables=(None, None)):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
        self.processes = [
            command
            and subprocess.Popen(
                [
                    *[sys.executable, "-m", "jaxformer", *map(str, command), *more],
                    f"--coordinator_address={self.address}",
                    f"--num_processes={len(commands)}",
                    f"--process_id={number}",
                ],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "XLA_FLAGS": flags,
                    **(variables[number] or {}),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number, command in enumerate(commands)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in filter(None, self.processes):
            process.kill()
            process.communicate()

    def results(self, seconds=300):
        """Returns what each has left, when all have ended."""
        ended = []
        for process in filter(None, self.processes):
            out, err = process.communicate(timeout=seconds)
            # The library that adds up on CPUs says that it is there, from several threads at once.
            said = re.compile(r"\[Gloo\]|peer ranks|^\n$")
            lines = [line for line in out.splitlines(True) if not said.search(line)]
            ended.append(Result(process.returncode, "".join(lines), err))
        return ended


def run_pair(*commands, **options):
    with Pair(*commands, **options) as pair:
        return pair.results()


def wait_for(is_done, processes, seconds=300):
    deadline = time.monotonic() + seconds
    while not is_done() and time.monotonic() < deadline:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    assert is_done()


def checkpoints_of(workdir):
    folder = workdir / "checkpoints"
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def assert_close(workdir, unbroken):
    """Asserts that two runs agree to rounding: the same steps and examples, the same losses."""
    mine, other = lines_of(workdir), lines_of(unbroken)
    assert [row.keys() for row in mine] == [row.keys() for row in other]
    for row, expected in zip(mine, other, strict=True):
        exact = [name for name in row if name.endswith("_tokens") or name == "step"]
        assert [row[name] for name in exact] == [expected[name] for name in exact]
        for name in ("loss", "nll", "grad_norm", *(["valid_nll"] if "valid_nll" in row else [])):
            assert row[name] == pytest.approx(expected[name], rel=1e-5)


def params_of(workdir, step=STEPS):
    """Returns the parameters of a checkpoint, by dotted path."""
    with (
        # It warns that the arrays go to the devices that they were saved from.
        warnings.catch_warnings(action="ignore", category=UserWarning),
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader,
    ):
        folder = (workdir / "checkpoints" / str(step) / "state").absolute()
        shapes = reader.metadata(folder).item_metadata.tree
        # Wherever they lay, they are read onto one device.
        tree = reader.restore(
            folder,
            restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes),
        )
    leaves = jax.tree_util.tree_leaves_with_path(tree["params"])
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def assert_same_params(workdir, unbroken):
    """Asserts that two runs end with the same parameters, to rounding under Adam."""
    mine, other = params_of(workdir), params_of(unbroken)
    assert mine.keys() == other.keys()
    assert len(mine) > 20
    for name, param in mine.items():
        # The true gradient of a key's bias is zero, and Adam makes steps of its rounding.
        assert name.endswith("key.bias") or is_close(param, other[name], 1e-4), name


@pytest.fixture(scope="module")
def command(tiny):
    """Returns the function that gives the arguments of a training."""

    def arguments(workdir, num_steps=STEPS, *more):
        steps = f"--config.train.num_steps={num_steps}"
        return [*tiny, *CADENCE, f"--workdir={workdir}", steps, *more]

    return arguments


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--num_processes=2"], "--coordinator_address and --process_id must be given too, or"),
        (
            ["--coordinator_address=here", "--num_processes=2", "--process_id=0"],
            "--coordinator_address=here is not HOST:PORT, such as 10.0.0.5:8476, where process 0",
        ),
        (
            ["--coordinator_address=here:99999", "--num_processes=2", "--process_id=0"],
            "--coordinator_address=here:99999 is not HOST:PORT, such as 10.0.0.5:8476, where ",
        ),
        (
            ["--coordinator_address=a:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2 is not below --num_processes=2: they are counted from 0.",
        ),
        (["--process_id=-1"], "Argument --process_id: '-1' is not a whole number of 0 or more."),
        (["--lost_timeout=0"], "Argument --lost_timeout: '0' is not a whole number of 1 or more."),
    ],
)
def test_options_that_do_not_fit_are_told_at_once(command, jaxformer, tmp_path, options, told):
    result = jaxformer(*command(tmp_path / "run"), *options)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"jaxformer: {told}")


def test_one_process_of_one_is_alone(train, unbroken):
    options = ["--coordinator_address=a:1", "--num_processes=1", "--process_id=0"]
    result = train(unbroken, STEPS, *options)
    assert (result.code, result.err) == (0, "")
    assert "is trained to step 11 already" in result.out


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (("10.0.0.2:8482", 4, 3, None), (("10.0.0.2", 8482), 4, 3)),
        ((None, None, None, None), None),
    ],
)
def test_a_host_of_a_tpu_slice_is_told_of_the_others(monkeypatch, found, expected):
    # A plain machine, and one with jax for TPUs but none of them.
    assert hosts.find_on_cloud_tpu(5) is None
    monkeypatch.setattr(hosts.importlib.util, "find_spec", lambda name: name == "libtpu")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert hosts.find_on_cloud_tpu(5) is None
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr("jax._src.cloud_tpu_init.running_in_cloud_tpu_vm", False)
    assert hosts.find_on_cloud_tpu(5) is None
    monkeypatch.setattr("jax._src.cloud_tpu_init.running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(
        "jax._src.clusters.ClusterEnv.auto_detect_unset_distributed_params", lambda *_: found
    )
    assert hosts.find_on_cloud_tpu(5) == expected


@pytest.fixture(scope="module")
def pair(command, tmp_path_factory):
    """Returns the workdir of a training by two processes, and what they left."""
    workdir = tmp_path_factory.mktemp("runs") / "pair"
    results = run_pair(*[command(workdir)] * 2)
    for result in results:
        assert (result.code, result.err) == (0, "")
    return workdir, results


def test_two_processes_train_as_one(pair, unbroken):
    workdir, (first, second) = pair
    assert_close(workdir, unbroken)
    assert_same_params(workdir, unbroken)
    assert f"Trained to step {STEPS}: {workdir}\n" in first.out
    assert second.out == ""
    (start,) = json.loads((workdir / "run.json").read_text(encoding="utf-8"))["starts"]
    assert (start["devices"]["count"], start["devices"]["processes"]) == (8, 2)
    assert not (workdir / "lock").exists()
    assert checkpoints_of(workdir) == checkpoints_of(unbroken)


@pytest.mark.slow
def test_two_processes_with_parameters_cut_between_them_train_as_one(command, train, tmp_path):
    size = "--config.model.vocab_multiple=8"
    cut = [f"--config.parallel.{axis}" for axis in ("data=1", "fsdp=4", "tensor=2")]
    arguments = command(tmp_path / "pair", STEPS, size, *cut)
    for result in run_pair(arguments, arguments):
        assert (result.code, result.err) == (0, "")
    assert train(tmp_path / "one", STEPS, size).code == 0
    (start,) = json.loads((tmp_path / "pair" / "run.json").read_text(encoding="utf-8"))["starts"]
    assert start["mesh"] == {"data": 1, "fsdp": 4, "tensor": 2}
    assert_close(tmp_path / "pair", tmp_path / "one")
    assert_same_params(tmp_path / "pair", tmp_path / "one")
    # One process goes on from what each of two has written a part of.
    assert train(tmp_path / "pair", STEPS + 2, size).code == 0
    assert checkpoints_of(tmp_path / "pair")[-1] == STEPS + 2


@pytest.mark.slow
def test_two_processes_translate_as_one(trained, jaxformer, tmp_path):
    workdir, _ = trained
    found = []
    for name in ("alone", "pair"):
        folder = tmp_path / name
        shutil.copytree(workdir, folder)
        evaluate = ["evaluate", f"--workdir={folder}", "--config.decode.batch_tokens=64"]
        if name == "alone":
            assert jaxformer(*evaluate).code == 0
        else:
            first, second = run_pair(evaluate, evaluate)
            assert [(result.code, result.err) for result in (first, second)] == [(0, "")] * 2
            assert second.out == ""
        scores = json.loads((folder / "evaluation" / "test.json").read_text(encoding="utf-8"))
        text = (folder / "translations" / "test.txt").read_text(encoding="utf-8")
        assert len(set(text.splitlines())) > 5
        found.append((text, scores["bleu"], scores["target_tokens"], scores.pop("nll")))
    assert found[0][:3] == found[1][:3]
    assert found[0][3] == pytest.approx(found[1][3], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("begins", [1, 2])
def test_a_run_goes_on_with_another_number_of_processes(train, command, unbroken, tmp_path, begins):
    workdir = tmp_path / "run"
    if begins == 1:
        assert train(workdir, 5).code == 0
        first, _ = run_pair(*[command(workdir)] * 2)
    else:
        assert [result.code for result in run_pair(*[command(workdir, 5)] * 2)] == [0, 0]
        first = train(workdir)
    assert (first.code, first.err) == (0, "")
    assert "Going on from step 5 of 11." in first.out
    assert_close(workdir, unbroken)


def test_another_config_on_one_of_them_is_told_on_both(command, tmp_path):
    workdir = tmp_path / "run"
    other = command(workdir, STEPS, "--config.train.seed=1", "--config.model.d_ff=20")
    results = run_pair(command(workdir), other)
    assert [(result.code, result.out) for result in results] == [(2, "")] * 2
    assert {result.err for result in results} == {
        f"jaxformer: Process 1 on {NAME} is not about to do what process 0 on {NAME} is: "
        "config.model.d_ff is 20 there and 24 on process 0; config.train.seed is 1 there and 0 on "
        "process 0. Give all of them the same code, settings, text and workdir.\n"
    }
    assert not workdir.exists()


@pytest.mark.parametrize("missing", [0, 1])
def test_one_that_does_not_come_is_named(command, tmp_path, missing):
    commands = [command(tmp_path / "run")] * 2
    commands[missing] = None
    began = time.monotonic()
    with Pair(*commands, more=["--join_timeout=2"]) as pair:
        (result,) = pair.results()
    assert time.monotonic() - began < 60
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"jaxformer: Of 2 processes, process {missing} has not come to {pair.address} within 2 "
        "seconds. Start it with the same address, or look at its output.\n"
    )


@pytest.mark.slow
def test_a_mistake_that_one_of_them_finds_ends_both(command, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    workdir = tmp_path / "run"
    variables = [None, {"XDG_CACHE_HOME": str(tmp_path / "file")}]
    first, second = run_pair(*[command(workdir)] * 2, variables=variables)
    assert (first.code, second.code) == (2, 2)
    assert second.err.startswith(f"jaxformer: '{tmp_path / 'file'}")
    said = second.err.removeprefix("jaxformer: ")
    assert first.err == f"jaxformer: Process 1 on {NAME} has ended: {said}"
    # Process 0 was ended as by a kill: what it leaves keeps nobody out.
    assert [path.name for path in workdir.iterdir()] == ["lock"]
    with lock(workdir):
        pass


@pytest.mark.slow
def test_numbers_that_are_not_finite_end_both_at_the_same_step(command, tmp_path):
    (tmp_path / "breaking.py").write_text(MODULE, encoding="utf-8")
    workdir = tmp_path / "run"
    arguments = command(workdir, 20, *EVERY, "--config.optimizer.schedule=breaking:rate")
    variables = [{"PYTHONPATH": f"{ROOT}:{tmp_path}"}] * 2
    results = run_pair(arguments, arguments, variables=variables)
    assert [result.code for result in results] == [3, 3]
    assert results[0].err == results[1].err
    assert results[0].err.startswith("jaxformer: Step 8 (batch ")
    assert "Checkpoint 6 is kept." in results[0].err
    assert [row["step"] for row in lines_of(workdir)] == list(range(1, 8))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "whom"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_a_signal_to_one_of_them_stops_both_at_the_same_step(command, tmp_path, number, whom):
    workdir = tmp_path / "run"
    with Pair(*[command(workdir, 5000)] * 2) as pair:
        wait_for(lambda: checkpoints_of(workdir)[-1:] >= [3], pair.processes)
        pair.processes[whom].send_signal(number)
        results = pair.results()
    step = checkpoints_of(workdir)[-1]
    assert [result.code for result in results] == [128 + number] * 2
    assert {result.err for result in results} == {
        f"jaxformer: Stopped by {number.name} after step {step:,}, which is saved: the same "
        "command goes on from there.\n"
    }
    first, _ = run_pair(*[command(workdir, step + 4)] * 2)
    assert f"Going on from step {step:,} of {step + 4:,}." in first.out
    assert first.code == 0


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_one_that_dies_is_named_by_the_other_and_the_pair_goes_on(command, tmp_path, lost):
    workdir = tmp_path / "run"
    with Pair(*[command(workdir, 5000)] * 2, more=["--lost_timeout=5"]) as pair:
        wait_for(lambda: checkpoints_of(workdir)[-1:] >= [3], pair.processes)
        pair.processes[lost].kill()
        began = time.monotonic()
        results = pair.results()
        assert time.monotonic() - began < 30
    left = results[1 - lost]
    assert left.code == 4
    assert left.err == (
        f"jaxformer: Process {lost} on {NAME} is lost. The same command on all hosts goes on from "
        "the newest checkpoint.\n"
    )
    step = checkpoints_of(workdir)[-1]
    first, _ = run_pair(*[command(workdir, step + 4)] * 2)
    assert (first.code, first.err) == (0, "")
    assert f"Going on from step {step:,} of {step + 4:,}." in first.out
    rows = [row["step"] for row in lines_of(workdir)]
    assert rows == sorted(set(rows))
