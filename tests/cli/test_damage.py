"""Damaged checkpoints: the one before is gone on from, which is said, and nothing is removed."""

import shutil

import pytest

from tests.cli.test_resume import lines_of, state_of


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def largest_file(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def test_a_damaged_newest_checkpoint_is_set_aside(train, unbroken, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken, workdir)
    folder = workdir / "checkpoints"
    damaged = largest_file(folder / "11")
    flip(damaged)
    # What a kill may have left.
    shutil.copytree(folder / "9", folder / "10.orbax-checkpoint-tmp")
    result = train(workdir)
    assert (result.code, result.err) == (0, "")
    fault = f"{damaged.relative_to(folder / '11')} is not as it was saved"
    assert (
        f"Checkpoint 11 is damaged ({fault}) and was set aside as {folder / '11.damaged'}.\n"
    ) in result.out
    assert "Going on from step 9 of 11." in result.out
    names = [path.name for path in folder.iterdir()]
    assert sorted(names) == ["11", "11.damaged", "3", "6", "9"]
    assert lines_of(workdir) == lines_of(unbroken)
    assert state_of(workdir) == state_of(unbroken)


@pytest.mark.parametrize("command", ["train", "translate"])
def test_without_a_sound_checkpoint_nothing_is_done(train, unbroken, jaxformer, tmp_path, command):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken, workdir)
    for path in (workdir / "checkpoints").iterdir():
        flip(largest_file(path))
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    if command == "train":
        result, says = train(workdir, 12), "No checkpoint in "
    else:
        result, says = jaxformer("translate", f"--workdir={workdir}"), "Checkpoint 11 in "
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"jaxformer: {says}{workdir / 'checkpoints'}")
    assert "is not as it was saved" in result.err
    assert result.err.count("\n") == 1
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before
