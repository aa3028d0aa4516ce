"""What is kept: made once, never believed when it is damaged, and done without when it must be."""

import concurrent.futures
import threading

import pytest

from jaxformer.data import kept
from jaxformer.data.kept import keep


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "above" / "name"


@pytest.fixture
def make():
    """Returns what writes two files, and counts how often it has."""

    def write(new):
        write.times += 1
        assert list(new.iterdir()) == []
        (new / "a").write_bytes(b"first")
        (new / "b").write_bytes(b"second")

    write.times = 0
    return write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_made_once(folder, make):
    assert [keep(folder, make) for _ in range(3)] == [True] * 3
    assert make.times == 1
    assert names(folder) == ["SHA256SUMS", "a", "b"]
    assert names(folder.parent) == ["name"]


@pytest.mark.parametrize("name", ["a", "b", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_folder_is_made_anew(folder, make, name, damage):
    keep(folder, make)
    content = (folder / name).read_bytes()
    if damage == "gone":
        (folder / name).unlink()
    else:
        flipped = content[:1] + bytes([content[1] ^ 1]) + content[2:]
        (folder / name).write_bytes(content[:-1] if damage == "cut" else flipped)
    assert keep(folder, make)
    assert make.times == 2
    assert (folder / name).read_bytes() == content
    assert names(folder.parent) == ["name"]


def test_a_damaged_folder_that_cannot_be_removed_is_done_without(folder, make, monkeypatch):
    keep(folder, make)
    (folder / "a").write_bytes(b"worse")
    monkeypatch.setattr(kept.shutil, "rmtree", lambda path, ignore_errors: None)
    assert not keep(folder, make)
    assert make.times == 1


def test_of_two_at_once_both_have_it(folder, make):
    together = threading.Barrier(2)

    def wait(new):
        together.wait(10)
        make(new)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: keep(folder, wait), range(2))) == [True, True]
    assert make.times == 2
    assert names(folder) == ["SHA256SUMS", "a", "b"]
    assert names(folder.parent) == ["name"]


def test_where_nothing_can_be_written_there_is_nothing(folder, make, monkeypatch):
    def refuse(path):
        raise PermissionError("read-only")

    monkeypatch.setattr(kept, "new_folder", refuse)
    assert not keep(folder, make)
    assert make.times == 0


def test_what_fails_while_it_is_made_is_told_and_leaves_nothing(folder):
    def fail(new):
        (new / "a").touch()
        raise ValueError("bad text")

    with pytest.raises(ValueError, match="bad text"):
        keep(folder, fail)
    assert names(folder.parent) == []
