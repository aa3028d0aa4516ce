"""Workdirs in a bucket: mistakes, and real processes that are killed, on machines without a disk.

The bucket is tests/bucket_server.py; docs/buckets.md says what is promised.
"""

import contextlib
import functools
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from jaxformer.cli import workdir as workdir_lib
from jaxformer.io.bucket import BucketObjects
from jaxformer.io.digest import PROMISE
from tests.bucket_server import BucketServer, Stored
from tests.cli.conftest import CADENCE, ROOT, run_command
from tests.cli.test_hosts import run_pair
from tests.cli.test_mistakes import one_sentence
from tests.cli.test_resume import lines_of, state_of

needs_clients = pytest.mark.needs("gcs")
LOST_TIMEOUT = 20
ENDLESS = "--config.train.num_steps=100000"


@pytest.fixture
def server(monkeypatch):
    """Returns a bucket that the clients of this process come to."""
    with BucketServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://bucket/run", "s3://bucket/run is no place for files. Give a local folder, or gs://"),
        ("gs:/bucket/run", "gs:/bucket/run is no place for files. Give a local folder, or gs://"),
        ("gs://bucket", "gs://bucket names no folder in a bucket. Give gs://bucket/folder."),
        ("gs://", "gs:// names no folder in a bucket. Give gs://bucket/folder."),
    ],
)
@pytest.mark.parametrize("command", ["train", "evaluate", "report", "sweep"])
def test_an_address_of_another_kind_is_told(tiny, address, told, command):
    assert told in one_sentence(run_command(*arguments(command, tiny, address)))


def arguments(command, tiny, address):
    if command == "train":
        return [*tiny, f"--workdir={address}"]
    if command == "sweep":
        return ["sweep", *tiny[1:], "--sweep", "train.seed=0,1", f"--workdir={address}"]
    return ["report", address] if command == "report" else [command, f"--workdir={address}"]


@pytest.mark.parametrize("command", ["train", "evaluate", "report"])
def test_a_bucket_needs_an_extra(tiny, monkeypatch, command):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    told = one_sentence(run_command(*arguments(command, tiny, "gs://bucket/run")))
    assert told.endswith("which are not installed. Install jaxformer[gcs].")


@needs_clients
def test_a_machine_without_credentials_is_told(tiny, tmp_path, monkeypatch):
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    told = one_sentence(run_command(*arguments("train", tiny, "gs://bucket/run")))
    assert told.startswith("gs://bucket/run: there are no credentials for Google Cloud on this")


@needs_clients
@pytest.mark.parametrize("command", ["train", "evaluate", "report"])
def test_a_bucket_that_is_not_there_is_told(server, tiny, command):
    told = one_sentence(run_command(*arguments(command, tiny, "gs://other/run")))
    assert told == ("gs://other/run: there is no bucket 'other'. Make it, or correct the address.")


@needs_clients
def test_a_bucket_without_a_run_is_told(server):
    told = one_sentence(run_command("evaluate", "--workdir=gs://bucket/run"))
    assert told.startswith("gs://bucket/run is not the workdir of a run: it holds no config.json.")


@needs_clients
def test_a_bucket_that_refuses_or_is_silent_is_told_soon(server, tiny, monkeypatch):
    server.refuse = lambda method, name: 403 if method == "POST" else 0
    told = one_sentence(run_command(*arguments("train", tiny, "gs://bucket/run")))
    assert told.startswith("'gs://bucket/run/lock': These credentials do not permit it (403: ")
    monkeypatch.setattr(workdir_lib, "BucketObjects", functools.partial(BucketObjects, seconds=1))
    server.refuse = lambda method, name: 503
    start = time.monotonic()
    told = one_sentence(run_command(*arguments("train", tiny, "gs://bucket/run")))
    assert told.startswith("'gs://bucket/run': The bucket cannot be reached (")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    told = one_sentence(run_command(*arguments("evaluate", tiny, "gs://bucket/run")))
    assert told.startswith("'gs://bucket/run': The bucket cannot be reached (")
    assert time.monotonic() - start < 60
    assert server.objects == {}


def own(err):
    """Returns what the program says, without TensorStore's line on whose credentials it uses."""
    return re.sub(r"^I\d{4} .*google_auth_provider.*\n", "", err, flags=re.M)


class Machines:
    """Commands on one bucket, each on a machine of its own, which has no file of another's."""

    def __init__(self, server, folder):
        self.server, self._folder, self._number = server, folder, 0

    @contextlib.contextmanager
    def started(self, *argv):
        self._number += 1
        home = self._folder / f"machine{self._number}"
        home.mkdir()
        environment = {**os.environ, **self.server.environment, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            [sys.executable, "-m", "jaxformer", *map(str, argv)],
            cwd=home,
            env={**environment, "XDG_CACHE_HOME": str(home / "cache"), "HOME": str(home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *argv, stdin="", code=0):
        with self.started(*argv) as process:
            out, err = process.communicate(stdin, timeout=300)
        assert process.returncode == code, err
        return out, own(err)

    def newest(self, run):
        """Returns the step of the newest complete checkpoint, 0 without one."""
        found = [
            re.fullmatch(rf"{run}/checkpoints/(\d+)/SHA256SUMS", name)
            for name, stored in list(self.server.objects.items())
            if not stored.data.startswith(PROMISE)
        ]
        return max((int(match[1]) for match in found if match), default=0)

    def wait_for(self, run, step, process):
        while self.newest(run) < step:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)

    def copy(self, run, folder):
        """Copies a run to a folder, its lines of metrics to a file."""
        for name, stored in sorted(self.server.objects.items()):
            path = folder / name.removeprefix(f"{run}/")
            if name.startswith(f"{run}/metrics.jsonl/"):
                path = folder / "metrics.jsonl"
            if name.startswith(f"{run}/"):
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "ab") as file:
                    file.write(stored.data)
        return folder


@needs_clients
def test_members_that_run_here_need_a_local_folder(server, tiny):
    for more in ([], ["--jobs=2"], ["--population=2"]):
        told = one_sentence(run_command(*arguments("sweep", tiny, "gs://bucket/sweep"), *more))
        assert told == (
            "gs://bucket/sweep lies in a bucket, where the logs of members that run here cannot "
            "grow. Give a local --workdir, or run the commands that --print shows."
        )
    assert server.objects == {}


@needs_clients
@pytest.mark.slow
def test_a_run_goes_on_on_another_machine_as_if_it_had_not_been_killed(tiny, tmp_path):
    same = [*tiny, *CADENCE, "--config.decode.average=2"]
    run = [*same, "--workdir=gs://bucket/runs/a", f"--lost_timeout={LOST_TIMEOUT}"]
    unbroken = tmp_path / "unbroken"
    with BucketServer() as server:
        machines = Machines(server, tmp_path)
        with machines.started(*run, ENDLESS) as first:
            machines.wait_for("runs/a", 12, first)
            # While the first goes on, a second is refused.
            _, err = machines.run(*run, ENDLESS, code=2)
            assert f"is in use by process {first.pid} on " in err
            first.send_signal(signal.SIGKILL)
            first.wait()
        before = machines.newest("runs/a")
        # What the kill has left is waited for, and then taken over.
        with machines.started(*run, ENDLESS) as second:
            machines.wait_for("runs/a", before + 6, second)
            second.send_signal(signal.SIGTERM)
            out, err = second.communicate()
        assert second.returncode == 143
        assert f"is held by process {first.pid} on " in err
        assert f"Going on from step {before} of 100,000." in out
        # A byte of the newest checkpoint is damaged; SIGTERM has given the lease back.
        newest = machines.newest("runs/a")
        name = max(
            (name for name in server.objects if f"/{newest}/state/" in name),
            key=lambda name: len(server.objects[name].data),
        )
        data = bytearray(server.objects[name].data)
        data[len(data) // 2] ^= 1
        server.objects[name] = Stored(bytes(data), server.objects[name].generation)
        steps = newest + 7
        out, err = machines.run(*run, f"--config.train.num_steps={steps}")
        assert err == ""
        aside = f"gs://bucket/runs/a/checkpoints/{newest}.damaged"
        assert f"Checkpoint {newest} is damaged" in out
        assert f"was set aside as {aside}." in out
        assert f"Trained to step {steps}: gs://bucket/runs/a\n" in out

        result = run_command(*same, f"--config.train.num_steps={steps}", f"--workdir={unbroken}")
        assert result.code == 0
        copy = machines.copy("runs/a", tmp_path / "copy")
        assert lines_of(copy) == lines_of(unbroken)
        assert state_of(copy, steps) == state_of(unbroken, steps)
        kept = {path.name for path in (unbroken / "checkpoints").iterdir()}
        assert {path.name for path in (copy / "checkpoints").iterdir()} == {
            *kept,
            f"{newest}.damaged",
        }
        starts = json.loads((copy / "run.json").read_bytes())["starts"]
        assert len(starts) == 3
        assert json.loads((copy / "config.json").read_bytes()) == json.loads(
            (unbroken / "config.json").read_bytes()
        )

        expected = run_command("evaluate", f"--workdir={unbroken}", "--split=valid")
        out, err = machines.run("evaluate", "--workdir=gs://bucket/runs/a", "--split=valid")
        assert out.splitlines()[:2] == expected.out.splitlines()[:2]
        assert "gs://bucket/runs/a/translations/valid.txt" in out
        assert (
            server.content("runs/a/translations/valid.txt")
            == (unbroken / "translations" / "valid.txt").read_bytes()
        )
        expected = run_command("translate", f"--workdir={unbroken}", stdin=b"an bee\ncan\n")
        out, err = machines.run("translate", "--workdir=gs://bucket/runs/a", stdin="an bee\ncan\n")
        assert (out, err) == (expected.out, "")
        _, err = machines.run("attention", "--workdir=gs://bucket/runs/a", "an", code=2)
        assert "Give --output=FOLDER, a local one." in err


@needs_clients
@pytest.mark.slow
def test_a_process_that_was_away_for_long_ends_when_it_comes_back(tiny, tmp_path):
    run = [*tiny, *CADENCE, "--workdir=gs://bucket/b", f"--lost_timeout={LOST_TIMEOUT}"]
    with BucketServer() as server:
        machines = Machines(server, tmp_path)
        with machines.started(*run, ENDLESS) as first:
            machines.wait_for("b", 6, first)
            first.send_signal(signal.SIGSTOP)
            before = machines.newest("b")
            with machines.started(*run, ENDLESS) as second:
                machines.wait_for("b", before + 6, second)
                first.send_signal(signal.SIGCONT)
                _, err = first.communicate(timeout=60)
                assert first.returncode == 2
                assert re.search(
                    r"^jaxformer: (gs://bucket/b has been taken over by process \d+ on|"
                    r"The lease on gs://bucket/b could not be renewed).* "
                    r"This process ends, and what it has not saved is lost\.\n$",
                    own(err),
                )
                after = machines.newest("b")
                machines.wait_for("b", after + 6, second)
                second.send_signal(signal.SIGTERM)
                second.communicate()
                assert second.returncode == 143
        rows = lines_of(machines.copy("b", tmp_path / "copy"))
        steps = [row["step"] for row in rows]
        assert steps == [step for step in range(1, steps[-1] + 1) if step % 4 == 0 or step % 6 == 0]
        assert "b/lock" not in server.objects


@needs_clients
@pytest.mark.slow
def test_two_hosts_share_a_bucket(tiny, tmp_path):
    steps = [f"--config.train.{name}" for name in ("num_steps=4", "checkpoint_every=2")]
    run = [*tiny, *steps, "--config.train.log_every=2", "--workdir=gs://bucket/c"]
    with BucketServer() as server:
        for result in run_pair(run, run, variables=[server.environment] * 2):
            assert (result.code, own(result.err)) == (0, "")
        machines = Machines(server, tmp_path)
        assert machines.newest("c") == 4
        assert "c/lock" not in server.objects
        # They score it as one does.
        evaluate = ["evaluate", "--workdir=gs://bucket/c", "--split=valid"]
        results = run_pair(evaluate, evaluate, variables=[server.environment] * 2)
        assert [(result.code, own(result.err)) for result in results] == [(0, "")] * 2
        assert results[1].out == ""
        together = server.content("c/translations/valid.txt")
        assert json.loads(server.content("c/evaluation/valid.json"))["checkpoints"] == [4, 2]
        machines.run(*evaluate)
        assert server.content("c/translations/valid.txt") == together
        copy = machines.copy("c", tmp_path / "copy")
    # Process 0 alone writes records.
    assert len(json.loads((copy / "run.json").read_bytes())["starts"]) == 1
    assert [row["step"] for row in lines_of(copy)] == [2, 4]


@needs_clients
@pytest.mark.slow
def test_a_sweep_is_reported_from_a_bucket(tiny, tmp_path):
    with BucketServer() as server:
        machines = Machines(server, tmp_path)
        sweep = ["sweep", *tiny[1:], "--config.train.num_steps=12", "--sweep", "train.seed=0,1"]
        sweep.append("--config.train.eval_every=6")
        _, err = machines.run(*sweep, "--workdir=gs://bucket/sweep", code=2)
        assert "gs://bucket/sweep lies in a bucket" in err
        out, _ = machines.run(*sweep, "--workdir=gs://bucket/sweep", "--print")
        for line in out.splitlines():
            for command in line.split(" && "):
                program, *argv = shlex.split(command)
                assert program == "jaxformer"
                machines.run(*argv)
        out, err = machines.run("report", "gs://bucket/sweep")
        assert err == ""
        assert out.startswith(server.content("sweep/report.md").decode())
        assert "written     gs://bucket/sweep: report.md" in out
        assert server.content("sweep/learning_curves.png").startswith(b"\x89PNG")
