"""Which cores each of several processes is given."""

import json
import os
import subprocess
import sys

import pytest

from jaxformer.study import cores
from jaxformer.study.cores import ANY, keep_to, share

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose")


@pytest.fixture
def five(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2, 4, 6, 9})
    monkeypatch.setattr(cores, "_CPUS", tmp_path)


def shares(processes):
    """Returns what each of so many processes gets that start one after another."""
    found = []
    for _ in range(processes):
        found.append(share(found, processes))
    return found


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        (1, [ANY]),
        (2, [{1, 2}, {4, 6}]),
        (3, [{1}, {2}, {4}]),
        (5, [{1}, {2}, {4}, {6}, {9}]),
        (6, [ANY] * 6),
    ],
)
def test_all_have_equally_many_of_their_own(processes, expected):
    assert shares(processes) == expected


@pytest.mark.usefixtures("five")
def test_one_that_follows_another_has_its_cores():
    assert share([frozenset({4, 6})], 2) == {1, 2}


@pytest.mark.usefixtures("five")
def test_threads_of_a_physical_core_stay_together(tmp_path):
    # Two packages, whose cores are numbered in turn; 1 and 9 are threads of one core.
    for core, package, physical in ((1, 0, 5), (2, 1, 0), (4, 0, 7), (6, 1, 1), (9, 0, 5)):
        folder = tmp_path / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{package}\n", encoding="ascii")
        (folder / "core_id").write_text(f"{physical}\n", encoding="ascii")
    assert shares(2) == [{1, 9}, {4, 2}]


@pytest.mark.usefixtures("five")
def test_elsewhere_all_run_on_all(monkeypatch):
    monkeypatch.setattr(cores.sys, "platform", "darwin")
    assert share([], 2) == ANY


def cores_of_a_child():
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    return json.loads(subprocess.check_output([sys.executable, "-c", code]))


def fail_on(chosen):
    with keep_to(chosen):
        assert cores_of_a_child() == sorted(chosen)
        raise KeyError


def test_a_child_stays_on_the_cores_and_the_parent_has_all_again():
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError):
        fail_on(frozenset({max(before)}))
    assert os.sched_getaffinity(0) == before
    with keep_to(ANY):
        assert cores_of_a_child() == sorted(before)


def test_where_the_system_refuses_a_child_runs_on_any(monkeypatch):
    def refuse(pid, chosen):
        raise PermissionError(1, "Operation not permitted")

    before = sorted(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with keep_to(frozenset({before[-1]})):
        assert cores_of_a_child() == before
