"""`--config.parallel.*`: a run that changes its devices is the run on one, and is scored as it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.cli.conftest import CADENCE, ROOT, STEPS

# Four devices cut it.
SIZE = "--config.model.vocab_multiple=8"


def on_four(*argv):
    """Runs a command line where there seem to be four devices; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "jaxformer", *map(str, argv)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Involuntary full rematerialization" not in done.stderr
    return done.stdout


def metrics_of(workdir):
    """Returns the lines of metrics, without the time that they took, and their padding."""
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        del row["seconds"]
    return rows, [row.pop("padding") for row in rows]


@pytest.fixture(scope="module")
def many(tiny, tmp_path_factory):
    """Returns the workdir of a run on two meshes, and what the two starts printed."""
    workdir = tmp_path_factory.mktemp("runs") / "many"
    start = [*tiny, *CADENCE, SIZE, f"--workdir={workdir}"]
    cut = [f"--config.parallel.{axis}" for axis in ("data=1", "fsdp=2", "tensor=-1")]
    first = on_four(*start, "--config.train.num_steps=5", *cut)
    return workdir, first, on_four(*start, f"--config.train.num_steps={STEPS}")


@pytest.mark.slow
def test_a_run_on_changing_meshes_is_the_run_on_one_device(many, train, tmp_path):
    workdir, first, second = many
    assert "Devices: 4 cpu, data 1 x fsdp 2 x tensor 2." in first
    assert "Devices: 4 cpu, data 4 x fsdp 1 x tensor 1." in second
    assert "Going on from step 5 of 11." in second
    starts = json.loads((workdir / "run.json").read_text(encoding="utf-8"))["starts"]
    assert [start["mesh"] for start in starts] == [
        {"data": 1, "fsdp": 2, "tensor": 2},
        {"data": 4, "fsdp": 1, "tensor": 1},
    ]
    assert train(tmp_path / "one", STEPS, SIZE).code == 0
    (found, padding), (expected, less) = metrics_of(workdir), metrics_of(tmp_path / "one")
    assert [row["step"] for row in found] == [4, 6, 8, 11]
    assert found == [pytest.approx(row, rel=1e-4) for row in expected]
    # Rows are filled up to be shared.
    assert all(more > some for more, some in zip(padding, less, strict=True))


@pytest.mark.slow
def test_it_is_scored_alike_on_any_devices(many, jaxformer, tmp_path):
    shutil.copytree(many[0], tmp_path / "one")
    on_four("evaluate", f"--workdir={many[0]}", "--num_beams=2")
    assert jaxformer("evaluate", f"--workdir={tmp_path / 'one'}", "--num_beams=2").code == 0
    text, scores = "translations/test.txt", "evaluation/test.json"
    assert (many[0] / text).read_bytes() == (tmp_path / "one" / text).read_bytes()
    spread, alone = (
        json.loads((folder / scores).read_text(encoding="utf-8"))
        for folder in (many[0], tmp_path / "one")
    )
    assert (spread["devices"], alone["devices"]) == (4, 1)
    for name in ("nll", "accuracy", "target_tokens", "bleu"):
        assert spread[name] == pytest.approx(alone[name], rel=1e-5)
