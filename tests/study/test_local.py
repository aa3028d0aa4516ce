"""Running members as processes: order, logs, failures, resuming, and stopping."""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from jaxformer.study import local
from jaxformer.study.local import run_local
from jaxformer.study.manifest import Manifest, Row, expand, write_manifest

FAKE = (sys.executable, str(Path(__file__).with_name("fake_program.py")))
CONFIG = {"train": {"num_steps": 3, "seed": 0}}


class Watch:
    """Notes what it is told."""

    def __init__(self):
        self.told, self.most = [], 0

    def started(self, member):
        self.told.append(f"start {member.row}")

    def ended(self, outcome):
        self.told.append(f"end {outcome.member.row}")

    def tick(self, running):
        self.most = max(self.most, len(running))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(local, "_SECONDS_BETWEEN_LOOKS", 0.01)


@pytest.fixture
def sweep(tmp_path):
    """Returns a function that makes members which do what their words say."""

    def make(**words):
        rows = [Row("g", label, {}, None, CONFIG, []) for label in words]
        members = expand(rows, [0], str(tmp_path))
        write_manifest(tmp_path, Manifest("", members))
        behaviour = {f"g/{label}/seed=0": word for label, word in words.items()}
        (tmp_path / "behaviour.json").write_text(json.dumps(behaviour), encoding="utf-8")
        return members

    return make


def calls(folder):
    path = folder / "calls"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def run(members, folder, watch=None, **options):
    outcomes = run_local(members, folder, watch or Watch(), program=FAKE, **options)
    return {outcome.member.row: outcome.failure for outcome in outcomes}


def test_members_are_trained_and_scored_in_their_order(sweep, tmp_path):
    watch = Watch()
    assert run(sweep(x="", y=""), tmp_path, watch) == {"x": "", "y": ""}
    assert calls(tmp_path) == [
        "train g/x/seed=0",
        "evaluate g/x/seed=0",
        "train g/y/seed=0",
        "evaluate g/y/seed=0",
    ]
    assert watch.told == ["start x", "end x", "start y", "end y"]
    assert watch.most == 1


def test_all_that_a_member_prints_is_in_its_log(sweep, tmp_path):
    members = sweep(x="no scores")
    run(members, tmp_path)
    path = tmp_path / "g" / "x" / "seed=0"
    lines = (path / "log.txt").read_text(encoding="utf-8").splitlines()
    start = f"$ {FAKE[0]} {FAKE[1]}"
    assert lines[0] == f"{start} train --config.train.seed=0 --workdir={path}"
    assert set(lines[1:3]) == {"train speaks", "train warns"}
    assert lines[3] == f"{start} evaluate --workdir={path} --split=valid"
    assert set(lines[4:]) == {"evaluate speaks", "evaluate warns"}
    # Another attempt adds to it.
    run(members, tmp_path)
    assert len((path / "log.txt").read_bytes().splitlines()) == 12


def test_a_failure_is_explained_and_passed_by(sweep, tmp_path):
    members = sweep(x="fail", y="die", z="no scores", ok="")
    assert run(members, tmp_path) == {
        "x": "train ended with code 2: jaxformer: There is no room.",
        "y": "train ended with SIGKILL: train warns",
        "z": "evaluate left no scores of step 3",
        "ok": "",
    }
    assert "evaluate g/x/seed=0" not in calls(tmp_path)


def test_what_is_finished_is_passed_over_and_the_rest_tried_again(sweep, tmp_path):
    run(sweep(x="", y="fail"), tmp_path)
    before = calls(tmp_path)
    watch = Watch()
    assert run(sweep(x="", y=""), tmp_path, watch) == {"x": "", "y": ""}
    assert calls(tmp_path)[len(before) :] == ["train g/y/seed=0", "evaluate g/y/seed=0"]
    assert "start x" not in watch.told


def test_jobs_run_at_the_same_time(sweep, tmp_path):
    # Each waits for the other.
    watch = Watch()
    members = sweep(x="meet", y="meet", z="", base="")
    assert run(members, tmp_path, watch, jobs=2) == {"x": "", "y": "", "z": "", "base": ""}
    assert watch.most == 2


def test_a_program_that_does_not_start_is_a_failure(sweep, tmp_path):
    outcomes = run_local(sweep(x="", y=""), tmp_path, Watch(), program=["./nowhere"])
    assert [outcome.failure for outcome in outcomes] == ["./nowhere: No such file or directory"] * 2


def test_what_a_member_leaves_running_is_ended(sweep, tmp_path):
    start = time.monotonic()
    assert run(sweep(x="leave a child"), tmp_path) == {"x": ""}
    assert time.monotonic() - start < 120


def test_a_member_that_another_process_is_at_is_left_alone(sweep, tmp_path):
    members = sweep(x="", y="")
    path = tmp_path / "g" / "x" / "seed=0" / "log.txt"
    path.parent.mkdir(parents=True)
    with open(path, "ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        failures = run(members, tmp_path)
    assert failures == {"x": "another process is at it, and holds its log.txt", "y": ""}
    assert "train g/x/seed=0" not in calls(tmp_path)
    assert run(members, tmp_path) == {"x": "", "y": ""}


class Interrupting(Watch):
    """Sends this process signals, each when all that wait have got so far."""

    def __init__(self, folder, members, signals):
        super().__init__()
        self._paths = [folder / member.workdir / "pid" for member in members]
        self._signals = list(signals)

    def tick(self, running):
        if self._signals and all(path.exists() and path.read_bytes() for path in self._paths):
            os.kill(os.getpid(), self._signals.pop(0))

    def is_any_alive(self):
        return any(Path(f"/proc/{int(path.read_bytes())}").exists() for path in self._paths)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_stops_what_runs_cleanly(sweep, tmp_path, number):
    members = sweep(x="wait", y="wait", z="")
    watch = Interrupting(tmp_path, members[:2], [number])
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(KeyboardInterrupt):
        run(members, tmp_path, watch, jobs=2)
    after = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before
    assert not watch.is_any_alive()
    assert len(list(tmp_path.glob("g/*/seed=0/interrupted"))) == 2
    assert watch.told == ["start x", "start y"]
    # And the same command goes on.
    assert run(sweep(x="", y="", z=""), tmp_path) == {"x": "", "y": "", "z": ""}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_members_leave_cleanly_where_ctrl_c_is_ignored(sweep, tmp_path):
    # As in what a shell's script starts by &.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    members = sweep(x="wait")
    try:
        with pytest.raises(KeyboardInterrupt):
            run(members, tmp_path, Interrupting(tmp_path, members, [signal.SIGTERM]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "g/x/seed=0/interrupted").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
@pytest.mark.parametrize("how", ["by time", "by a second signal"])
def test_what_does_not_leave_is_ended(sweep, tmp_path, monkeypatch, how):
    members = sweep(x="stay")
    watch = Interrupting(tmp_path, members, [signal.SIGINT])
    start = time.monotonic()
    if how == "by time":
        monkeypatch.setattr(local, "_SECONDS_TO_LEAVE", 0.1)
    else:
        sleep = time.sleep
        monkeypatch.setattr(local, "_SECONDS_BETWEEN_LOOKS", 0.05)

        def interrupt_again(seconds):
            sleep(seconds)
            if not watch._signals:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(local.time, "sleep", interrupt_again)
    with pytest.raises(KeyboardInterrupt):
        run(members, tmp_path, watch)
    assert time.monotonic() - start < 120
    assert not watch.is_any_alive()
