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
def five(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2, 4, 6, 9})


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    ("processes", "to_start", "expected"),
    [
        (1, 9, [{1, 2, 4, 6, 9}]),
        (2, 9, [{1, 2}, {4, 6, 9}]),
        (3, 3, [{1}, {2, 4}, {6, 9}]),
        # Fewer are left than may run.
        (4, 2, [{1, 2}, {4, 6, 9}]),
        (5, 9, [{1}, {2}, {4}, {6}, {9}]),
        (6, 9, [ANY] * 6),
    ],
)
def test_cores_are_divided_evenly_and_none_is_left(processes, to_start, expected):
    found = []
    for started in range(len(expected)):
        found.append(share(found, processes=processes, to_start=to_start - started))
    assert found == expected


@pytest.mark.usefixtures("five")
def test_one_that_follows_another_has_its_cores():
    assert share([frozenset({4, 6, 9})], processes=2, to_start=1) == {1, 2}


@pytest.mark.usefixtures("five")
def test_elsewhere_all_run_on_all(monkeypatch):
    monkeypatch.setattr(cores.sys, "platform", "darwin")
    assert share([], processes=2, to_start=2) == ANY


def cores_of_a_child():
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    return json.loads(subprocess.check_output([sys.executable, "-c", code]))


def fail_on(cores):
    with keep_to(cores):
        assert cores_of_a_child() == sorted(cores)
        raise KeyError


def test_a_child_stays_on_the_cores_and_the_parent_has_all_again():
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError):
        fail_on(frozenset({max(before)}))
    assert os.sched_getaffinity(0) == before
    with keep_to(ANY):
        assert cores_of_a_child() == sorted(before)
