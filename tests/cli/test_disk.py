"""A full disk and one that cannot be written to: one sentence, and nothing is lost."""

import re
import shutil
import subprocess

import pytest

from jaxformer.run import training
from tests.cli.test_resume import lines_of, state_of

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def disk(tmp_path):
    """Returns a folder that holds eight megabytes at most."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk, free=0):
    """Leaves so many bytes of room."""
    with open(disk / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            file.truncate(file.tell() - free)


@pytest.mark.parametrize("when", ["start", "line", "checkpoint"])
def test_a_full_disk_costs_nothing(train, unbroken, disk, monkeypatch, when):
    workdir = disk / "run"
    assert train(workdir, 3).code == 0
    training_steps = training.training_steps

    def with_less_room(*args):
        for state, metrics in training_steps(*args):
            if int(state.step) == 5:
                fill(disk, {"line": 0, "checkpoint": 40 * 1024}[when])
            yield state, metrics

    if when == "start":
        fill(disk)
    else:
        # Or the first lines would still have room.
        (workdir / "metrics.jsonl").unlink()
        monkeypatch.setattr(training, "training_steps", with_less_room)
    result = train(workdir)
    monkeypatch.undo()
    assert result.code == 2
    folder = workdir / "checkpoints"
    on = f"The same command goes on from step 3, the newest checkpoint in {folder}."
    message = {
        "start": f"'{workdir / 'lock'}': No space left on device.",
        "line": f"'{workdir / 'metrics.jsonl'}': No space left on device. {on}",
        "checkpoint": f"Checkpoint 6 could not be written to {folder} "
        rf"\(.*No space left on device\). Those there are kept: 3. {on}",
    }[when]
    assert re.fullmatch(f"jaxformer: {message}\n", result.err)
    (disk / "ballast").unlink()
    assert "Going on from step 3 of 11." in train(workdir).out
    assert lines_of(workdir)[-4:] == lines_of(unbroken)
    assert state_of(workdir) == state_of(unbroken)


def test_a_workdir_that_cannot_be_written_to(train, unbroken, jaxformer, disk):
    shutil.copytree(unbroken, disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for workdir, named in ((disk / "run", disk / "run"), (disk / "new", disk)):
        result = train(workdir, 12)
        assert (result.code, result.out) == (2, "")
        assert result.err == (
            f"jaxformer: {named} cannot be written to. Permit it, or give another --workdir.\n"
        )
    result = jaxformer("translate", f"--workdir={disk / 'run'}", stdin=b"an bee\n")
    assert (result.code, result.err) == (0, "")
    assert result.out.count("\n") == 1
