"""Files are there whole or not at all, and strict JSON or refused."""

import json
import os
import re
import resource
from pathlib import Path

import pytest

from jaxformer.files import new_folder, read_json, replace_file, user_path


def test_a_file_is_written_with_its_folder_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "file.txt"
    replace_file(path, "ä\nb\r\n")
    assert path.read_bytes() == b"\xc3\xa4\nb\r\n"
    replace_file(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    replace_file(path, "before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            replace_file(path, "x" * (1 << 12))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.filename == str(path)
    assert path.read_text(encoding="utf-8") == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["file.txt"]


def test_what_cannot_be_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((FileExistsError, NotADirectoryError)) as raised:
        replace_file(tmp_path / "file" / "below", "x")
    assert raised.value.filename == str(tmp_path / "file" / "below")
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path, "x")


def test_the_disk_has_it_before_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    replace_file(tmp_path / "file", "x")
    assert done == ["fsync", "replace", "fsync"]


def test_a_folder_is_there_once_it_is_whole(tmp_path):
    path = tmp_path / "above" / "folder"
    with new_folder(path) as folder:
        (folder / "file").write_bytes(b"x")
        assert not path.exists()
    assert (path / "file").read_bytes() == b"x"
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(ValueError, match="is there already, and not empty"), new_folder(path):
        pass
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_finished_is_not_there(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()

    def fail():
        with new_folder(path) as folder:
            (folder / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.rglob("*")) == [path]
    with new_folder(path):
        pass
    assert path.is_dir()


def test_a_new_folder_in_the_place_of_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ValueError, match="is there already"), new_folder(path):
        pass
    with pytest.raises(NotADirectoryError), new_folder(path / "below"):
        pass


def test_a_home_is_spelt_out_where_there_is_one(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/x") == Path("/home/me/x")
    assert user_path("~nobody-here/x") == Path("~nobody-here/x")
    assert user_path("a/~") == Path("a/~")


def test_strict_json_is_read(tmp_path):
    path = tmp_path / "file.json"
    value = {"a": [1, -2.5e300, "\ud800", None, True], "b": {}}
    path.write_text(json.dumps(value), encoding="utf-8")
    assert read_json(path) == value
    path.write_bytes(b"[" * 50 + b"]" * 50)
    assert read_json(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b'{"a": NaN}', "is not JSON (NaN is no finite number)"),
        (b"[-Infinity]", "is not JSON (-Infinity is no finite number)"),
        (b"[1e999]", "is not JSON (1e999 is no finite number)"),
        (b"9" * 5000, "is not JSON"),
        (b"[" * 51 + b"]" * 51, "is nested deeper than 50 levels."),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_strict_json_is_told(tmp_path, content, message):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path} {message}')}"):
        read_json(path)
