import os
import platform
import shutil
import subprocess
import sys
import types
from importlib.metadata import version

import jax
import pytest

from jaxformer.io import environment


def git(folder, *args):
    settings = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *settings, *args], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "checkout"
    (folder / "sub").mkdir(parents=True)
    git(folder, "init", "-q")
    return folder


def test_versions_are_those_installed():
    found = environment.versions()
    assert found["python"] == platform.python_version()
    assert found.keys() == {"python", *environment.PACKAGES}
    assert found["jax"] == jax.__version__
    assert found["orbax-checkpoint"] == version("orbax-checkpoint")
    assert environment.versions(["no-such-package"])["no-such-package"] is None


def test_devices_are_counted():
    assert environment.devices() == {
        "platform": "cpu",
        "kind": jax.devices()[0].device_kind,
        "count": jax.device_count(),
        "processes": 1,
        "cpus": environment.cpus(),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which cores a process has")
def test_cores_are_those_of_the_process(monkeypatch):
    assert environment.cpus() == len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 6})
    assert environment.cpus() == 3
    monkeypatch.setattr(sys, "platform", "darwin")
    assert environment.cpus() == os.cpu_count()


def test_commit_and_dirtiness(checkout):
    assert environment.repository(checkout) == {"commit": None, "dirty": False}
    (checkout / "file").write_text("one", encoding="utf-8")
    git(checkout, "add", "file")
    assert environment.repository(checkout) == {"commit": None, "dirty": True}
    git(checkout, "commit", "-qm", "one")
    commit = git(checkout, "rev-parse", "HEAD")
    assert len(commit) == 40
    (checkout / "output").write_text("of a run", encoding="utf-8")
    assert environment.repository(checkout / "sub") == {"commit": commit, "dirty": False}
    (checkout / "file").write_text("two", encoding="utf-8")
    assert environment.repository(checkout) == {"commit": commit, "dirty": True}


def test_outside_a_repository_there_is_no_commit(checkout, tmp_path, monkeypatch):
    assert environment.repository(tmp_path / "absent") is None
    outside = tmp_path / "outside"
    outside.mkdir()
    # A hook's variables must not lend its repository to another folder.
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    assert environment.repository(outside) is None


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.repository(checkout) is None


@pytest.mark.parametrize("is_tracked", [True, False])
def test_the_package_is_from_a_repository_that_tracks_it(checkout, monkeypatch, is_tracked):
    source = checkout / "sub" / "environment.py"
    source.write_text("", encoding="utf-8")
    (checkout / "other").write_text("", encoding="utf-8")
    git(checkout, "add", "sub/environment.py" if is_tracked else "other")
    git(checkout, "commit", "-qm", "one")
    monkeypatch.setattr(environment, "__file__", str(source))
    expected = {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}
    assert environment.package_source() == (expected if is_tracked else None)


def test_the_allocator_is_named(monkeypatch):
    def reads(text):
        path = types.SimpleNamespace(read_text=lambda **_: text)
        monkeypatch.setattr(environment.pathlib, "Path", lambda _: path)
        return environment.allocator()

    maps = "7f00-7f01 r-xp 00000000 fe:00 1  /usr/lib/{}\n"
    assert reads(maps.format("libjemalloc.so.2")) == "jemalloc"
    assert reads(maps.format("libtcmalloc_minimal.so.4")) == "tcmalloc"
    other = reads(maps.format("libc.so.6") + maps.format("libjemalloc-notes/libm.so"))
    if sys.platform == "linux" and platform.libc_ver()[0]:
        assert other == " ".join(platform.libc_ver())
    monkeypatch.setattr(environment.platform, "libc_ver", lambda: ("", ""))
    assert reads("") == "unknown"
