"""Real processes, killed at random moments: nothing that was completed is lost, nothing changes."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.conftest import CADENCE, ROOT, run_command
from tests.cli.test_resume import lines_of, state_of


class Run:
    """Starts of one training, each in a process of its own."""

    def __init__(self, tiny, workdir, num_steps):
        self.workdir, self.num_steps = workdir, num_steps
        steps = f"--config.train.num_steps={num_steps}"
        self.argv = [*map(str, tiny), *CADENCE, f"--workdir={workdir}", steps]

    def start(self):
        return subprocess.Popen(
            [sys.executable, "-m", "jaxformer", *self.argv],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self):
        """Trains to the end, within this process; returns what it printed."""
        result = run_command(*self.argv)
        assert (result.code, result.err) == (0, "")
        assert f"Trained to step {self.num_steps:,}: {self.workdir}\n" in result.out
        return result.out

    def newest(self):
        """Returns the step of the newest complete checkpoint, 0 without one."""
        folder = self.workdir / "checkpoints"
        names = os.listdir(folder) if folder.is_dir() else []
        return max((int(name) for name in names if name.isdigit()), default=0)

    def kill(self, at_step, seconds, number=signal.SIGKILL):
        """Starts, waits for a checkpoint of `at_step` or later, then so long at most, and kills.

        Returns: what it printed, and the newest checkpoint that was seen just before.
        """
        with self.start() as process:
            while self.newest() < at_step and process.poll() is None:
                time.sleep(0.001)
            end = time.monotonic() + seconds
            # On a fast machine too, each start gets only a few steps further.
            while time.monotonic() < end and self.newest() <= at_step + 3:
                time.sleep(0.001)
            seen = self.newest()
            process.send_signal(number)
            out, err = process.communicate()
        assert process.returncode == -number, err
        assert err == ""
        return out, seen


def resumed_at(out):
    found = re.search(r"^Going on from step ([\d,]+) of ", out, re.M)
    return int(found[1].replace(",", "")) if found else 0


def kill_and_compare(tiny, folder, num_steps, num_kills):
    """Kills one training so often, lets it end, and compares it with one that was not killed."""
    generator = random.Random(num_kills)
    unbroken, run = (Run(tiny, folder / name, num_steps) for name in ("unbroken", "run"))
    unbroken.finish()
    last_seen, into_saves = 0, 0
    for number in range(num_kills):
        before = run.newest()
        assert before >= last_seen
        # Every seventh comes before the first step, or at any moment of it.
        is_early = number % 7 == 3
        at_step = 0 if is_early else before + generator.randint(1, 2)
        out, last_seen = run.kill(at_step, generator.uniform(0, 6.0 if is_early else 0.25))
        assert resumed_at(out) == before or (is_early and resumed_at(out) == 0)
        names = os.listdir(run.workdir / "checkpoints") if before else []
        into_saves += any("tmp" in name for name in names)
    before = run.newest()
    assert before >= last_seen
    assert resumed_at(run.finish()) == before < num_steps
    assert lines_of(run.workdir) == lines_of(unbroken.workdir)
    assert state_of(run.workdir, num_steps) == state_of(unbroken.workdir, num_steps)
    assert sorted(path.name for path in run.workdir.iterdir()) == sorted(
        path.name for path in unbroken.workdir.iterdir()
    )
    return into_saves


def test_a_terminated_process_ends_well_and_holds_its_workdir(tiny, tmp_path):
    run = Run(tiny, tmp_path / "run", num_steps=5000)
    with run.start() as process:
        while run.newest() < 3 and process.poll() is None:
            time.sleep(0.01)
        second = run_command(*run.argv)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
    assert second.code == 2
    assert f"is in use by process {process.pid} on " in second.err
    assert process.returncode == 143
    step = run.newest()
    assert err == (
        f"jaxformer: Stopped by SIGTERM after step {step}, which is saved: the same command goes "
        "on from there.\n"
    )
    rows = [row["step"] for row in lines_of(run.workdir)]
    assert rows == [one for one in range(1, step + 1) if one % 4 == 0 or one % 6 == 0]
    assert not (run.workdir / "lock").exists()


@pytest.mark.slow
def test_three_kills_change_nothing(tiny, tmp_path):
    kill_and_compare(tiny, tmp_path, num_steps=33, num_kills=3)


@pytest.mark.slow
def test_fifty_kills_change_nothing(tiny, tmp_path):
    assert kill_and_compare(tiny, tmp_path, num_steps=400, num_kills=50) >= 10
