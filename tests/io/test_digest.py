"""Sums: every damage to a checkpoint's files is found, whichever byte of whichever file it is."""

import random
import shutil
import subprocess

import pytest

from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.digest import SUMS, find_fault, write_sums
from tests.io.test_checkpoint import make_state

FLIPS = 200


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns the folder of a checkpoint, which tests leave as it was."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(make_state(1), meta={"epoch": 2})
    return folder / "1"


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_every_flipped_byte_is_found(saved):
    generator = random.Random(0)
    files = [path for path in files_of(saved) if path.stat().st_size]
    assert saved / SUMS in files
    assert find_fault(saved) is None
    found = {}
    for number in range(FLIPS):
        # Each file in turn, so that small ones are not left out.
        path = files[number % len(files)]
        before = path.read_bytes()
        place, bit = generator.randrange(len(before)), 1 << generator.randrange(8)
        after = bytearray(before)
        after[place] ^= bit
        path.write_bytes(after)
        found[path.name, place, bit, number] = find_fault(saved)
        path.write_bytes(before)
    assert len(found) == FLIPS
    assert [flip for flip, fault in found.items() if fault is None] == []
    assert find_fault(saved) is None


def test_the_sums_themselves_are_checked(saved):
    path = saved / SUMS
    before = path.read_bytes()
    for place in range(0, len(before), 5):
        path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        assert find_fault(saved) is not None, place
    path.write_bytes(before)


def test_every_short_and_every_missing_file_is_found(saved, tmp_path):
    for path in files_of(saved):
        copy = tmp_path / "copy"
        shutil.copytree(saved, copy)
        victim = copy / path.relative_to(saved)
        if path.stat().st_size:
            victim.write_bytes(path.read_bytes()[:-1])
            assert find_fault(copy) is not None
        victim.unlink()
        assert find_fault(copy) == f"{path.relative_to(saved)} is missing"
        shutil.rmtree(copy)


def test_others_may_check_the_sums_and_make_them(saved, tmp_path):
    if not shutil.which("sha256sum"):
        pytest.skip("sha256sum is not installed")
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=saved, check=True)
    shutil.copytree(saved, tmp_path / "copy")
    # As docs/faults.md says, for checkpoints that have none.
    (tmp_path / "copy" / SUMS).unlink()
    command = "sha256sum $(find * -type f | LC_ALL=C sort) > SHA256SUMS"
    subprocess.run(command, shell=True, cwd=tmp_path / "copy", check=True)
    assert find_fault(tmp_path / "copy") is None


def test_what_was_added_later_is_no_fault(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(b"\x00" * 5)
    write_sums(tmp_path)
    (tmp_path / "note").write_text("mine", encoding="utf-8")
    assert find_fault(tmp_path) is None
    (tmp_path / "deep" / "er" / "file").unlink()
    (tmp_path / "deep" / "er" / "file").mkdir()
    assert find_fault(tmp_path) == "deep/er/file cannot be read: Is a directory"


@pytest.mark.parametrize("name", ["/dev/null", "../file", "deep/../../file", ".."])
def test_a_name_outside_the_folder_is_not_followed(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    folder = tmp_path / "folder"
    folder.mkdir()
    digest = "0" * 64
    (folder / SUMS).write_text(f"{digest}  {name}\n", encoding="utf-8")
    assert find_fault(folder) == f"{SUMS} names {name}, which is not in the folder"
